//! Makes the description of the API one that generators of clients take.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::{
    AllOf, Object, OneOf, OpenApi, Ref, RefOr,
    schema::{OneOfBuilder, Schema},
};

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Describes an object that contains a union (a flattened enum) as a union of whole objects.
///
/// utoipa describes it as `allOf` the union and the other fields. That means the same, and generators such as
/// openapi-python-client refuse it: they combine objects only.
pub(crate) fn whole_unions(document: &mut OpenApi) {
    let Some(components) = &mut document.components else {
        return;
    };
    let known: Schemas = components.schemas.clone();
    let mut parts = BTreeSet::new();
    for schema in components.schemas.values_mut() {
        if let RefOr::T(Schema::AllOf(all)) = schema
            && let Some(union) = whole(all, &known, &mut parts)
        {
            *schema = RefOr::T(Schema::OneOf(union));
        }
    }
    components.schemas.retain(|name, _| !parts.contains(name));
}

/// The union, if one is among the parts of `all`. The names of the schemas that become a part of it go into `parts`.
fn whole(all: &AllOf, known: &Schemas, parts: &mut BTreeSet<String>) -> Option<OneOf> {
    let [RefOr::Ref(union), RefOr::T(Schema::Object(common))] = all.items.as_slice() else {
        return None;
    };
    let (name, Schema::OneOf(variants)) = named(union, known)? else {
        return None;
    };
    parts.insert(name);
    let mut union = OneOfBuilder::new().description(all.description.clone());
    for variant in &variants.items {
        let mut object = object(variant, known, parts)?;
        object.properties.extend(common.properties.clone());
        object.required.extend(common.required.clone());
        union = union.item(object);
    }
    Some(union.build())
}

fn object(
    variant: &RefOr<Schema>,
    known: &Schemas,
    parts: &mut BTreeSet<String>,
) -> Option<Object> {
    match variant {
        RefOr::T(Schema::Object(object)) => Some(object.clone()),
        RefOr::T(_) => None,
        RefOr::Ref(reference) => {
            let (name, Schema::Object(object)) = named(reference, known)? else {
                return None;
            };
            parts.insert(name);
            Some(object.clone())
        }
    }
}

/// The schema that a reference leads to, and its name.
fn named<'s>(reference: &Ref, known: &'s Schemas) -> Option<(String, &'s Schema)> {
    let name = reference.ref_location.rsplit('/').next()?;
    match known.get(name)? {
        RefOr::T(schema) => Some((name.to_owned(), schema)),
        RefOr::Ref(_) => None,
    }
}
