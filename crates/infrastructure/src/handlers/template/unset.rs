//! Names that a template uses and nothing sets: found by rendering it with an item that has everything. What a template
//! guards with `default` or `is defined` is not missed, and what depends on the content of an item stays unknown.

use std::{error::Error as _, fmt, sync::Arc};

use minijinja::{
    Environment, Error, ErrorKind, context,
    value::{Enumerator, Object, ObjectRepr, Serde, Value, merge_maps},
};
use serde_json::Map;

use super::{BoundedWriter, Source};

/// Names found in one template, at most.
const MAX_NAMES: usize = 20;
/// How deep lists in lists go in what is not known.
const DEPTH: u8 = 3;

/// A value that is not known: it has every attribute, and is a list of one such value.
#[derive(Debug)]
struct Unknown(u8);

impl Object for Unknown {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_object(Self(self.0)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.0.checked_sub(1) {
            Some(depth) => Enumerator::Values(vec![Value::from_object(Self(depth))]),
            None => Enumerator::Empty,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The names that the template uses whatever the item is, and that neither `overrides` nor the item set.
pub(super) fn unset_names(
    environment: &Environment<'_>,
    source: &Source,
    overrides: &Map<String, serde_json::Value>,
) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(name) = first_unset(environment, source, overrides, &found)
        && !found.contains(&name)
        && found.len() < MAX_NAMES
    {
        found.push(name);
    }
    found
}

/// The name that ends the rendering because it is not set, when those found before are.
fn first_unset(
    environment: &Environment<'_>,
    source: &Source,
    overrides: &Map<String, serde_json::Value>,
    found: &[String],
) -> Option<String> {
    let unknown = || Value::from_object(Unknown(DEPTH));
    let found = Value::from_pairs(found.iter().map(|name| (root(name), unknown())));
    let known = context! { overrides => Serde(overrides) };
    let item = context! { item => unknown(), data => unknown(), previous => unknown(), organization => unknown() };
    let values = merge_maps([Value::from(Serde(overrides)), known, found, item]);
    let rendered = source
        .template(environment)
        .and_then(|template| template.render_captured_to(values, BoundedWriter(Vec::new())));
    let error = rendered.err()?;
    // An error in an included template is the cause of another one.
    let mut cause = &error;
    while let Some(inner) = cause
        .source()
        .and_then(|inner| inner.downcast_ref::<Error>())
    {
        cause = inner;
    }
    if cause.kind() != ErrorKind::UndefinedError {
        return None;
    }
    // The engine says: `colours.main` is undefined.
    let (_, name) = cause.detail()?.split_once('`')?;
    let (name, _) = name.split_once('`')?;
    let place = match cause.name()? {
        own if own == source.name => source.template(environment),
        included => environment.get_template(included),
    };
    let from_outside = place.ok()?.undeclared_variables(false);
    let from_outside = from_outside.contains(root(name));
    from_outside.then(|| name.to_owned())
}

/// The first name of a path such as `colours.main`.
fn root(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Templates, *};

    /// What is unset in a template, beside another one that it may include, with these overrides.
    fn unset(template: &str, overrides: &serde_json::Value) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.j2"), template).unwrap();
        std::fs::write(folder.path().join("part.j2"), "{{ brand }}").unwrap();
        let templates = Templates::in_folder(folder.path());
        let source = Source {
            name: "t.j2".to_owned(),
            text: None,
            html: false,
        };
        let environment = templates.environments.of(&source);
        unset_names(environment, &source, overrides.as_object().unwrap())
    }

    #[test]
    fn names_that_nothing_sets_are_found_in_every_place() {
        let set = json!({"tone": "dry", "colours": {"main": "red"}, "areas": ["a", "b"]});
        for (template, expected) in [
            ("{{ word }}, {{ item.tenant_id }}!", &["word"][..]),
            ("{{ wrod }}\n{{ tone }}\n{{ wodr }}", &["wrod", "wodr"]),
            ("{{ a }} {{ b | default('x') }} {{ c }}", &["a", "c"]),
            (
                "{{ colours.mian }} {{ colours.main }} {{ a }}",
                &["colours.mian", "a"],
            ),
            ("{% set main = colours.mian %}{{ main }}", &["colours.mian"]),
            ("{{ colours.mian }}", &["colours.mian"]),
            ("{{ overrides.word }}", &["overrides.word"]),
            (
                "{% for area in areas %}{{ area }}{{ word }}{% endfor %}",
                &["word"],
            ),
            (
                "{% for one in item.data[\"items\"] | sort(attribute=\"name\") %}{{ one.price }} {{ currency }}{% endfor %}",
                &["currency"],
            ),
            ("{% include \"part.j2\" %}", &["brand"]),
        ] {
            assert_eq!(unset(template, &set), expected, "{template}");
        }
    }

    #[test]
    fn what_is_set_guarded_or_not_known_is_not_missed() {
        let set = json!({"tone": "dry", "colours": {"main": "red"}});
        for template in [
            "{{ tone }} {{ overrides.tone }} {{ colours.main }}",
            "{{ word | default('x') }}",
            "{% if word is defined %}{{ word }}{% endif %}",
            "{% set word = tone %}{{ word }}{% for n in range(3) %}{{ loop.index }}{% endfor %}",
            "{{ item.data.name | upper }} {{ item.anything.at_all[0] }} {{ item | tojson }}",
            "{{ item.data.price * 2 }}",
            "{{ previous.occurrence }} {{ item.previous.finished_at }} {{ data.orders }} {{ organization }}",
            "{% if tone == \"long\" %}{{ word }}{% endif %}",
            "{% set words = {\"wet\": 1} %}{{ words[tone] }}",
        ] {
            assert_eq!(unset(template, &set), [""; 0], "{template}");
        }
    }
}
