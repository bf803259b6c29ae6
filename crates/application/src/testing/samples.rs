//! What many tests need one of.

use std::sync::Arc;

use punctual_domain::{
    FeatureType, Item, ItemId, ItemInput, JobId, KeyForm, Membership, MergedPreference,
    OrganizationId, Preference, PreferenceRecord, PurposeId, TenantId, Zone,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// An item of a sample job, due on 1 March 2026 at 09:00 UTC, with `{"id": ID}` as its record. A test of a handler sets the
/// fields that it looks at: `Item { attempt: 2, ..item("ann") }`.
///
/// # Panics
/// If `id` cannot be the id of an item.
#[must_use]
pub fn item(id: &str) -> Item {
    Item {
        item_id: ItemId::new(id).expect("a test gives an id"),
        job_id: JobId::new("job").expect("valid"),
        purpose_id: PurposeId::new("purpose").expect("valid"),
        batch_id: Uuid::nil(),
        occurrence: "2026-03-01".parse().expect("valid"),
        scheduled_at: "2026-03-01T09:00:00Z".parse().expect("valid"),
        prepares: None,
        input: ItemInput::Record(json!({ "id": id })),
        fetched: None,
        previous: None,
        written: None,
        attempt: 1,
        key_form: KeyForm::Slashes,
        completion: None,
    }
}

/// The same for a tenant who has stored this preference: daily, unless it says how often.
///
/// # Panics
/// If `tenant` cannot be an id, or `preference` is not a preference.
#[must_use]
pub fn item_preferring(tenant: &str, preference: Value) -> Item {
    item_of(None, tenant, preference)
}

/// The same for a tenant of an organization.
///
/// # Panics
/// If `organization` or `tenant` cannot be an id, or `preference` is not a preference.
#[must_use]
pub fn item_of(organization: Option<&str>, tenant: &str, preference: Value) -> Item {
    let mut stored = Map::from_iter([("frequency".to_owned(), json!("daily"))]);
    stored.extend(fields(preference));
    let works = "a test gives a preference without mistakes";
    let stored = Preference::parse(&stored).expect(works);
    let effective = MergedPreference::merge(&stored, &Preference::default(), &Zone::utc());
    let effective = effective.expect(works);
    let input = ItemInput::Preference {
        feature_type: FeatureType::new("feature").expect("valid"),
        effective: effective
            .of_organization(organization.map(membership))
            .into(),
    };
    Item {
        input,
        ..item(tenant)
    }
}

/// Of a tenant of this organization, whose layer gave nothing.
///
/// # Panics
/// If `organization` cannot be an id.
#[must_use]
pub fn membership(organization: &str) -> Arc<Membership> {
    Arc::new(Membership {
        id: OrganizationId::new(organization).expect("a test gives an id"),
        fields: Vec::new(),
    })
}

fn fields(preference: Value) -> Map<String, Value> {
    match preference {
        Value::Object(fields) => fields,
        other => panic!("a preference is a JSON object, and this is {other}"),
    }
}

/// What a Config Database has stored of a tenant since 1 January 2026.
///
/// # Panics
/// If `tenant` cannot be an id, or `preference` is not a JSON object.
#[must_use]
pub fn record(tenant: &str, preference: Value) -> PreferenceRecord {
    let since = "2026-01-01T00:00:00Z".parse().expect("valid");
    PreferenceRecord {
        tenant_id: TenantId::new(tenant).expect("a test gives an id"),
        preference: Arc::new(fields(preference)),
        updated_at: Some(since),
        schedule_since: Some(since),
        organization: None,
    }
}
