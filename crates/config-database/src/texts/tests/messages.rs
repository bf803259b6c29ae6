//! Every language has every text, with the variables that English has.

use std::collections::{BTreeMap, BTreeSet};

use fluent_syntax::{
    ast::{Entry, Expression, InlineExpression, Pattern, PatternElement, VariantKey},
    parser::parse,
};

use crate::texts::{
    FluentValue,
    languages::{FILES, Language},
};

/// Which one of the month a day is, as a preference writes it.
pub(super) const NTHS: [&str; 5] = ["first", "second", "third", "fourth", "last"];
/// What a variable that chooses among variants may be, where it is not a number.
const WORDS: [(&str, &[&str]); 2] = [
    ("nth", &NTHS),
    ("weekday", &["monday", "saturday", "sunday", "weekday"]),
];
/// Numbers of each kind that a language tells apart.
const NUMBERS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "11", "21", "22", PLAIN];
/// A number that has no variant of its own: it is in the text.
const PLAIN: &str = "7";

/// The variables of a message.
#[derive(Debug, Default)]
pub(super) struct Variables {
    all: BTreeSet<String>,
    /// The keys of the variants, by the variable that chooses among them.
    choosing: BTreeMap<String, BTreeSet<String>>,
}

impl Variables {
    fn add_pattern(&mut self, pattern: &Pattern<&str>) {
        for element in &pattern.elements {
            if let PatternElement::Placeable { expression } = element {
                self.add(expression);
            }
        }
    }

    fn add(&mut self, expression: &Expression<&str>) {
        match expression {
            Expression::Inline(inline) => self.add_inline(inline),
            Expression::Select { selector, variants } => {
                self.add_inline(selector);
                let keys = variants.iter().map(|variant| match variant.key {
                    VariantKey::Identifier { name } | VariantKey::NumberLiteral { value: name } => {
                        name.to_owned()
                    }
                });
                let name = variable_of(selector).to_owned();
                self.choosing.entry(name).or_default().extend(keys);
                for variant in variants {
                    self.add_pattern(&variant.value);
                }
            }
        }
    }

    fn add_inline(&mut self, inline: &InlineExpression<&str>) {
        match inline {
            InlineExpression::Placeable { expression } => self.add(expression),
            InlineExpression::StringLiteral { .. } | InlineExpression::NumberLiteral { .. } => {}
            variable => {
                self.all.insert(variable_of(variable).to_owned());
            }
        }
    }
}

/// The name of a variable, which may be the argument of a function.
fn variable_of<'s>(inline: &InlineExpression<&'s str>) -> &'s str {
    match inline {
        InlineExpression::VariableReference { id } => id.name,
        InlineExpression::FunctionReference { arguments, .. } => {
            variable_of(&arguments.positional[0])
        }
        other => panic!("{other:?}"),
    }
}

/// The variables of each message of a file.
pub(super) fn messages(tag: &str, source: &str) -> BTreeMap<String, Variables> {
    let resource = parse(source);
    let resource = resource.unwrap_or_else(|(_, errors)| panic!("{tag}.ftl: {errors:?}"));
    let mut messages = BTreeMap::new();
    for entry in resource.body {
        match entry {
            Entry::Message(message) => {
                let mut found = Variables::default();
                found.add_pattern(message.value.as_ref().unwrap());
                let before = messages.insert(message.id.name.to_owned(), found);
                assert!(before.is_none(), "{tag}.ftl has {} twice", message.id.name);
            }
            Entry::Comment(_) | Entry::GroupComment(_) | Entry::ResourceComment(_) => {}
            other => panic!("{tag}.ftl: {other:?}"),
        }
    }
    messages
}

fn words_for(variable: &str) -> Option<&'static [&'static str]> {
    let words = WORDS.into_iter().find(|(name, _)| *name == variable);
    words.map(|(_, words)| words)
}

/// Whether one of the values that are tried can choose the variant with this key.
fn is_reached(variable: &str, key: &str) -> bool {
    const CATEGORIES: [&str; 6] = ["zero", "one", "two", "few", "many", "other"];
    match words_for(variable) {
        Some(words) => key == "other" || words.contains(&key),
        None => NUMBERS.contains(&key) || CATEGORIES.contains(&key),
    }
}

/// Every way to give each of these variables a value.
fn combinations(variables: &BTreeSet<String>) -> Vec<BTreeMap<&str, &'static str>> {
    let mut all = vec![BTreeMap::new()];
    for variable in variables {
        let values = words_for(variable).unwrap_or(&NUMBERS);
        let with = |before: &BTreeMap<_, _>, value: &&'static str| {
            let mut chosen = before.clone();
            chosen.insert(variable.as_str(), *value);
            chosen
        };
        all = all
            .iter()
            .flat_map(|before| values.iter().map(move |value| with(before, value)))
            .collect();
    }
    all
}

/// Formats a message with these values of what chooses, and with marks in place of all else.
///
/// # Errors
/// It has a mistake, or leaves a variable out.
fn says_all(
    language: &Language,
    id: &str,
    variables: &BTreeSet<String>,
    chosen: &BTreeMap<&str, &str>,
) -> Result<(), String> {
    let mark = |name: &str| format!("<{name}>");
    let value = |name: &str| match chosen.get(name) {
        Some(value) => value
            .parse::<u16>()
            .map_or_else(|_| FluentValue::from(*value), FluentValue::from),
        None => FluentValue::from(mark(name)),
    };
    let values: Vec<(&str, FluentValue<'_>)> = variables
        .iter()
        .map(|name| (name.as_str(), value(name)))
        .collect();
    let (text, mistakes) = language.resolve(id, &values).unwrap();
    let place = format!("{id} in {}.ftl with {chosen:?}: {text}", language.tag);
    if !mistakes.is_empty() || text.trim().is_empty() {
        return Err(format!("{place}: {mistakes:?}"));
    }
    for name in variables {
        let shown = match chosen.get(name.as_str()) {
            // No weekday has the name.
            None if name == "day" && chosen.get("weekday") == Some(&"weekday") => continue,
            None => mark(name),
            Some(&PLAIN) => PLAIN.to_owned(),
            Some(_) => continue,
        };
        if !text.contains(&shown) {
            return Err(format!("{name} is missing in {place}"));
        }
    }
    Ok(())
}

#[test]
fn every_language_has_every_text_and_every_variant_has_its_variables() {
    let files = FILES.map(|(tag, source)| (tag, source, messages(tag, source)));
    let english = &files[0].2;
    // What chooses in one language may stand in the text of another one.
    let mut choosing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (_, _, own) in &files {
        for (id, variables) in own {
            let of_message = choosing.entry(id).or_default();
            of_message.extend(variables.choosing.keys().cloned());
        }
    }
    for &(tag, source, ref own) in &files {
        let unknown: Vec<&String> = own.keys().filter(|id| !english.contains_key(*id)).collect();
        assert!(unknown.is_empty(), "{tag}.ftl has {unknown:?} beside");
        let language = Language::new(tag, source);
        for (id, variables) in english {
            let own = own.get(id).map(|own| (&own.all, &own.choosing));
            let (all, variants) = own.unwrap_or_else(|| panic!("{tag}.ftl has no {id}"));
            assert_eq!(all, &variables.all, "{id} in {tag}.ftl");
            for (name, keys) in variants {
                let unreached: Vec<&String> =
                    keys.iter().filter(|key| !is_reached(name, key)).collect();
                assert!(unreached.is_empty(), "{unreached:?} of {id} in {tag}.ftl");
            }
            for chosen in combinations(&choosing[id.as_str()]) {
                assert_eq!(says_all(&language, id, all, &chosen), Ok(()));
            }
        }
    }
}

#[test]
fn a_variant_without_a_variable_is_found() {
    let source = "one = { $interval ->
    [2] Every second day at { $time }
   *[other] Every { $interval } days
}
two = { $interval ->
    [2] Every second day at { $time }
   *[other] At { $time }
}
";
    let variables = &messages("en", source)["one"];
    let language = Language::new("en", source);
    let says_all = |id: &str, interval: &str| {
        says_all(
            &language,
            id,
            &variables.all,
            &[("interval", interval)].into(),
        )
    };
    assert_eq!(says_all("one", "2"), Ok(()));
    let error = says_all("one", "3").unwrap_err();
    assert!(error.starts_with("time is missing in one"), "{error}");
    let error = says_all("two", PLAIN).unwrap_err();
    assert!(error.starts_with("interval is missing in two"), "{error}");
    assert!(!is_reached("weekday", "friday") && !is_reached("interval", "12"));
}

#[test]
fn the_name_of_a_button_has_its_text_as_one_phrase() {
    for (tag, source) in FILES {
        let language = Language::new(tag, source);
        for (name, text) in [
            ("list-switch-on-feature", "list-switch-on"),
            ("list-switch-off-feature", "list-switch-off"),
            ("history-restore-feature", "history-restore"),
        ] {
            let [name, text] = [name, text].map(|id| {
                let values: [(&str, FluentValue<'_>); 2] =
                    [("feature", "Posts".into()), ("before", "Daily".into())];
                language.text(id, &values)
            });
            assert!(name.contains(&text), "{text} is not in {name}");
        }
    }
}
