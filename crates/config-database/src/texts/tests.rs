use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use chrono::NaiveDate;
use fluent_syntax::{
    ast::{Entry, Expression, InlineExpression, Pattern, PatternElement, VariantKey},
    parser::parse,
};
use punctual_domain::Feature;

use super::{languages::FILES, *};

/// Which one of the month a day is, as a preference writes it.
const NTHS: [&str; 5] = ["first", "second", "third", "fourth", "last"];
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
struct Variables {
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
fn messages(tag: &str, source: &str) -> BTreeMap<String, Variables> {
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

/// The files below a folder of this crate that end in this way, with their content.
fn files(folder: &Path, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn of_this_crate(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// What stands between quotation marks, on one line and without others inside.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2))
}

/// What stands behind each `begin`, up to the next `end`.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> Vec<&'t str> {
    let rests = text.split(begin).skip(1);
    rests.map(|rest| rest.split(end).next().unwrap()).collect()
}

/// The text without what stands between these, and without them.
fn without(text: &str, begin: &str, end: &str) -> String {
    let mut text = text.to_owned();
    while let Some(at) = text.find(begin) {
        let length = text[at..].find(end).unwrap() + end.len();
        text.replace_range(at..at + length, "");
    }
    text
}

/// The code of a file: neither its comments nor its tests.
fn code_of(source: &str) -> String {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The expressions of a template, those that show something and those that decide.
fn expressions(template: &str) -> Vec<&str> {
    let mut found = between(template, "{{", "}}");
    found.extend(between(template, "{%", "%}"));
    found
}

/// What stands between quotation marks in an expression of a template, and whether it names something and is not shown.
fn literals(expression: &str) -> Vec<(&str, bool)> {
    const NAMING: [&str; 10] = [
        "t.text(",
        "t.text_of(",
        ".has_day(",
        ".is_wrong(",
        "page::at(",
        "look.name(",
        "env!(",
        "include",
        "extends",
        "==",
    ];
    let parts: Vec<&str> = expression.split('"').collect();
    let literal = |index: usize| {
        let before = parts[index - 1].trim();
        // The name of the variable follows the id.
        let names_variable = before == "," && index > 2 && parts[index - 3].ends_with("text_of(");
        let names = names_variable || NAMING.iter().any(|naming| before.ends_with(naming));
        (parts[index], names)
    };
    (1..parts.len()).step_by(2).map(literal).collect()
}

/// The ids that the code puts together: what they begin with, and how they may end.
fn composed() -> Vec<(&'static str, Vec<&'static str>)> {
    let frequencies: Vec<&str> = Feature::default().frequencies().collect();
    vec![
        ("frequency", frequencies.clone()),
        ("usual", frequencies),
        ("form-nth", NTHS.to_vec()),
        ("list-switched", vec!["on", "off"]),
    ]
}

#[test]
fn every_text_that_is_asked_for_exists_and_is_used() {
    let known = messages(FILES[0].0, FILES[0].1);
    let sources = files(&of_this_crate("src"), ".rs");
    let sources = sources
        .iter()
        .filter(|(path, _)| !path.ends_with("tests.rs"))
        .map(|(path, source)| (path, code_of(source)));
    let templates = files(&of_this_crate("templates"), ".html");
    let templates = templates
        .iter()
        .map(|(path, template)| (path, expressions(template).join("\n")));
    let mut used = BTreeSet::new();
    for (path, code) in sources.chain(templates) {
        for asked in ["text(\"", "text_of(\"", ".with(\""] {
            for id in between(&code, asked, "\"") {
                assert!(known.contains_key(id), "{id} in {}", path.display());
            }
        }
        used.extend(quoted(&code).map(str::to_owned));
    }
    let composed = composed();
    for text in &used {
        // `form-nth-{word}`
        let Some((begin, _)) = text.split_once("-{") else {
            continue;
        };
        let begins = known.keys().any(|id| {
            id.strip_prefix(begin)
                .is_some_and(|end| end.starts_with('-'))
        });
        assert!(
            !begins || composed.iter().any(|(group, _)| *group == begin),
            "say in `composed` how {text} may end"
        );
    }
    let ends = composed
        .iter()
        .flat_map(|(group, ends)| ends.iter().map(move |end| format!("{group}-{end}")));
    let titles = PROBLEMS.map(|(_, id)| format!("{id}-title"));
    for id in ends.chain(titles) {
        assert!(known.contains_key(&id), "{id} does not exist");
        used.insert(id);
    }
    let unused: Vec<&String> = known.keys().filter(|id| !used.contains(*id)).collect();
    assert!(unused.is_empty(), "nothing uses {unused:?}");
    // What a mistake of a form or a link is called is not asked for in one place.
    for id in used.iter().filter(|id| !id.contains(['{', ' '])) {
        let of_group = ["mistake-", "link-", "problem-", "summary-", "sentence-"];
        if of_group.iter().any(|group| id.starts_with(group)) {
            assert!(known.contains_key(id), "{id} does not exist");
        }
    }
}

/// What a template shows itself, without tags and what it asks for.
fn own_text(template: &str) -> String {
    let mut text = without(&without(template, "{#", "#}"), "<!--", "-->");
    let literals = expressions(&text).into_iter().flat_map(literals);
    let mut shown: String = literals
        .filter_map(|(literal, names)| (!names).then_some(literal))
        .collect();
    for (begin, end) in [("{%", "%}"), ("{{", "}}")] {
        text = without(&text, begin, end);
    }
    for tag in between(&text, "<", ">") {
        shown += &shown_of(tag);
    }
    shown + &without(&text, "<", ">")
}

/// What browsers, screen readers and the scripts of the pages show of a tag's attributes.
fn shown_of(tag: &str) -> String {
    const SHOWN: [&str; 8] = [
        "alt",
        "aria-description",
        "aria-label",
        "aria-roledescription",
        "aria-valuetext",
        "label",
        "placeholder",
        "title",
    ];
    let parts: Vec<&str> = tag.split('"').collect();
    let attribute = |pair: &[&str]| {
        let name = pair[0].trim_end_matches('=').split_whitespace().last();
        (name.unwrap_or_default().to_owned(), pair[1].to_owned())
    };
    let attributes: Vec<(String, String)> = parts.chunks_exact(2).map(attribute).collect();
    let kind = attributes.iter().find(|(name, _)| name == "type");
    let kind = kind.map_or("text", |(_, kind)| kind.as_str());
    let is_shown = |name: &str, value: &str| match name {
        "value" => tag.starts_with("input") && !["hidden", "checkbox", "radio"].contains(&kind),
        // The frequencies that a part of the form is for.
        "data-for" => false,
        name if name.starts_with("data-") => !value.starts_with('/'),
        name => SHOWN.contains(&name),
    };
    let shown = attributes
        .iter()
        .filter(|(name, value)| is_shown(name, value));
    shown.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn what_a_template_shows_itself_is_found() {
    for (template, shown) in [
        (
            "<p title=\"x\">{{ a }} – {% if b %}c{% endif %}</p><!-- nav -->{# d #}",
            "x – c",
        ),
        ("{{ \"Save\" }}", "Save"),
        ("{% let said = \"Saved\" %}{{ said }}", "Saved"),
        ("{{ t.text(\"form-save\") }}", ""),
        (
            "<a title=\"{{ t.text_of(\"list-next\", \"when\", next) }}\">",
            "",
        ),
        ("{% if day == \"last\" %}{% include \"nav.html\" %}", ""),
        ("<input type=\"submit\" value=\"Save\">", "Save"),
        ("<input name=\"a\" type=\"hidden\" value=\"b\">", ""),
        ("<button name=\"action\" value=\"save\">", ""),
        (
            "<p data-said=\"Saved\" data-for=\"daily\" data-url=\"/runs\" {% if a %}hidden{% endif %} alt=\"!\">",
            "Saved!",
        ),
    ] {
        assert_eq!(own_text(template), shown, "{template}");
    }
}

#[test]
fn no_page_of_tenants_has_a_text_of_its_own() {
    let of_operators = [
        "groups.html",
        "nav_of_operators.html",
        "operators.html",
        "quarantine.html",
    ];
    let mut looked_at = 0;
    for folder in ["templates", "../web/templates"] {
        for (path, template) in files(&of_this_crate(folder), ".html") {
            let name = path.file_name().unwrap().to_str().unwrap();
            if of_operators.contains(&name) {
                continue;
            }
            let text = own_text(&template);
            let letters: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
            assert_eq!(letters, "", "{}", path.display());
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 17);
}

/// The texts of a script, each on one line, between any marks of quotation.
fn texts_of(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for mut rest in code.lines() {
        while let Some(at) = rest.find(['"', '\'', '`']) {
            let mark = &rest[at..=at];
            let inside = &rest[at + 1..];
            rest = match inside.split_once(mark) {
                Some((text, behind)) => {
                    found.push(text);
                    behind
                }
                None => inside,
            };
        }
    }
    found
}

/// The first text of a script that people would see.
fn shown_by(code: &str) -> Option<&str> {
    /// Several words, or one with a capital letter, that are for the browser.
    const NOT_SHOWN: [&str; 7] = [
        "use strict",
        "POST",
        "light dark",
        ".sentence, .problem, p",
        "#arrival, .problem",
        "punctual-form ${location.pathname}",
        // Within a regular expression that has quotation marks.
        "_-]+$/u.test(value) && CSS.supports(",
    ];
    const SHOWING: [&str; 13] = [
        ".textContent =",
        ".innerText =",
        ".innerHTML =",
        ".title =",
        ".placeholder =",
        ".alt =",
        ".append(",
        ".prepend(",
        ".replaceChildren(",
        "createTextNode(",
        "insertAdjacent",
        "alert(",
        "confirm(",
    ];
    let is_text = |text: &&str| {
        text.starts_with(char::is_uppercase) || text.trim().contains(char::is_whitespace)
    };
    let mut texts = texts_of(code).into_iter();
    let text = texts.find(|text| is_text(text) && !NOT_SHOWN.contains(text));
    // A single word in small letters is one for people where it is shown.
    let assigned = |showing: &str| between(code, showing, ";");
    let mut shown = SHOWING.into_iter().flat_map(assigned).flat_map(texts_of);
    let mut named = between(code, "setAttribute(", ";")
        .into_iter()
        .flat_map(|set| texts_of(set).into_iter().skip(1));
    let has_letters = |text: &&str| text.contains(char::is_alphabetic);
    text.or_else(|| shown.find(has_letters))
        .or_else(|| named.find(has_letters))
}

#[test]
fn no_script_has_a_text_of_its_own() {
    for (code, shown) in [
        ("a = \"POST\"; b = 'runs'; c = ` `;", None),
        ("said = 'Saved';", Some("Saved")),
        ("said = `saved at ${time}`;", Some("saved at ${time}")),
        ("a.textContent = b ? 'saved' : '';", Some("saved")),
        ("a.textContent = form.dataset.ended;", None),
        ("a.setAttribute(\"title\", \"saved\");", Some("saved")),
        ("a.setAttribute(\"aria-label\", form.dataset.time);", None),
    ] {
        assert_eq!(shown_by(code), shown, "{code}");
    }
    for script in ["page.js", "framed.js", "open.js"] {
        let script = fs::read_to_string(of_this_crate("assets").join(script)).unwrap();
        assert_eq!(shown_by(&code_of(&script)), None);
    }
}

fn locale(linked: Option<&str>, chosen: Option<&str>, accepted: Option<&str>) -> String {
    let linked = linked.map(|tag| tag.parse().unwrap());
    Texts::of(linked.as_ref(), chosen, accepted)
        .locale()
        .to_owned()
}

#[test]
fn the_language_is_that_of_the_link_then_the_choice_then_the_browsers_then_english() {
    let german = Some("de-AT,de;q=0.9");
    assert_eq!(locale(Some("pt-BR"), Some("fr"), german), "pt-BR");
    assert_eq!(locale(None, Some("fr"), german), "fr-AT");
    assert_eq!(locale(None, None, german), "de-AT");
    assert_eq!(locale(None, None, None), "en-150");
    // What the pages do not have counts as not named.
    assert_eq!(locale(Some("nl"), Some("xx"), german), "de-AT");
    assert_eq!(locale(Some("nl"), None, Some("nl, sv")), "en-150");
}

#[test]
fn a_region_that_link_and_choice_leave_open_is_that_of_the_browser() {
    for (named, accepted, expected) in [
        ("en", "en-GB", "en-GB"),
        ("en", "nl", "en-150"),
        ("en", "", "en-150"),
        ("en", "de,en-US;q=0.7,en-GB;q=0.3", "en-US"),
        // Of English in other regions, nothing is known.
        ("en", "ko-KR,ko;q=0.9", "en-150"),
        ("de", "en-US,en;q=0.9,de-AT;q=0.8", "de-AT"),
        ("de", "de,en-US;q=0.7,en;q=0.3", "de"),
        ("fr", "pt-BR,pt;q=0.9", "fr-BR"),
        ("pt-BR", "pt-PT", "pt-BR"),
    ] {
        assert_eq!(locale(None, Some(named), Some(accepted)), expected);
        assert_eq!(locale(Some(named), None, Some(accepted)), expected);
    }
    assert_eq!(locale(None, None, Some("fr,fr-CA;q=0.8")), "fr-CA");
    assert_eq!(locale(None, None, Some("en")), "en-150");
}

#[test]
fn values_are_isolated_where_the_language_is_written_from_right_to_left() {
    let said = |tag| Language::new(tag, "x = a { $y }").text("x", &[("y", "z".into())]);
    assert_eq!(said("de"), "a z");
    assert_eq!(said("ar"), "a \u{2068}z\u{2069}");
}

#[test]
fn a_browser_gets_the_language_that_it_wants_most() {
    for (accepted, expected) in [
        ("fr", "fr"),
        ("en-GB", "en-GB"),
        ("fr;q=0.5, es-MX;q=0.8, de;q=0.3", "es-MX"),
        ("nl, de;q=0.2, fr;q=0.4", "fr"),
        ("de;q=0, fr;q=0.1", "fr"),
        ("fr;q=0.1,ja", "ja"),
        ("de; q=0.4 , pt-PT; q=0.5", "pt-PT"),
        ("*, ja;q=0.1", "ja"),
        ("es-419", "es-419"),
        ("de-Latn-CH-1996", "de-CH"),
        ("de-DE-u-hc-h12", "de-DE"),
        ("zh-CN, ko", "en-150"),
        ("", "en-150"),
        (";q=1,;;,q=,de;q=nan,fr;q=x", "en-150"),
        ("en-ZZ", "en-ZZ"),
    ] {
        assert_eq!(locale(None, None, Some(accepted)), expected, "{accepted}");
    }
    let many = "xx,".repeat(5_000) + "de";
    assert_eq!(locale(None, None, Some(&many)), "en-150");
}

#[test]
fn a_link_that_names_a_language_leaves_no_choice() {
    let french = "fr".parse().unwrap();
    let linked = Texts::of(Some(&french), None, None).words();
    assert_eq!(
        (linked.language.as_str(), linked.languages.len()),
        ("fr", 0)
    );
    let words = Texts::of(None, Some("fr"), None).words();
    let offered: Vec<&str> = words
        .languages
        .iter()
        .map(|own| own.name.as_str())
        .collect();
    assert_eq!(words.language, "fr");
    assert_eq!(
        offered,
        [
            "English",
            "Deutsch",
            "Français",
            "Español",
            "Português (Brasil)",
            "日本語"
        ]
    );
    assert!(!words.right_to_left);
    assert!(Language::new("ar", "").is_right_to_left());
}

#[test]
fn dates_times_and_weeks_are_those_of_the_region() {
    let moment = NaiveDate::from_ymd_opt(2026, 11, 25).unwrap();
    let moment = moment.and_hms_opt(21, 5, 0).unwrap();
    let evening: punctual_domain::TimeOfDay = "21:05".parse().unwrap();
    for (tag, time, shown, date, first) in [
        (
            "en-US",
            "9:05\u{202f}PM",
            "Wednesday, November 25, 2026 at 9:05\u{202f}PM",
            "November 25, 2026",
            "Sunday",
        ),
        (
            "en-GB",
            "21:05",
            "Wednesday, 25 November 2026 at 21:05",
            "25 November 2026",
            "Monday",
        ),
        (
            "de",
            "21:05",
            "Mittwoch, 25. November 2026 um 21:05",
            "25. November 2026",
            "Montag",
        ),
        (
            "fr",
            "21:05",
            "mercredi 25 novembre 2026 à 21:05",
            "25 novembre 2026",
            "lundi",
        ),
        (
            "es",
            "21:05",
            "miércoles, 25 de noviembre de 2026 a las 21:05",
            "25 de noviembre de 2026",
            "lunes",
        ),
        (
            "pt-BR",
            "21:05",
            "quarta-feira, 25 de novembro de 2026 às 21:05",
            "25 de novembro de 2026",
            "domingo",
        ),
        (
            "ja",
            "21:05",
            "2026年11月25日水曜日 21:05",
            "2026年11月25日",
            "日曜日",
        ),
    ] {
        let texts = Texts::of(None, Some(tag), None);
        let calendar = texts.calendar();
        assert_eq!(calendar.time(evening), time, "{tag}");
        assert_eq!(calendar.moment(moment), shown, "{tag}");
        assert_eq!(calendar.date(moment.date()), date, "{tag}");
        let week: Vec<String> = calendar.week().map(|day| calendar.weekday(day)).collect();
        assert_eq!((week.len(), week[0].as_str()), (7, first), "{tag}");
    }
    let first = NaiveDate::from_ymd_opt(2026, 12, 1).unwrap();
    let evening = first.and_hms_opt(21, 5, 0).unwrap();
    for (tag, date, moment) in [
        (
            "de",
            "1. Dezember 2026",
            "Dienstag, 1. Dezember 2026 um 21:05",
        ),
        ("fr", "1er décembre 2026", "mardi 1er décembre 2026 à 21:05"),
        (
            "es",
            "1 de diciembre de 2026",
            "martes, 1 de diciembre de 2026 a las 21:05",
        ),
        (
            "pt-BR",
            "1º de dezembro de 2026",
            "terça-feira, 1º de dezembro de 2026 às 21:05",
        ),
    ] {
        let texts = Texts::of(None, Some(tag), None);
        let calendar = texts.calendar();
        assert_eq!(calendar.date(first), date, "{tag}");
        assert_eq!(calendar.moment(evening), moment, "{tag}");
    }
}

#[test]
fn cities_have_their_names() {
    let city = |tag: &str, zone: &str| {
        let texts = Texts::of(None, Some(tag), None);
        texts.calendar().city(&zone.parse().unwrap())
    };
    assert_eq!(city("en", "Europe/Kyiv").as_deref(), Some("Kyiv"));
    assert_eq!(
        city("es", "America/New_York").as_deref(),
        Some("Nueva York")
    );
    assert_eq!(city("ja", "Europe/Berlin").as_deref(), Some("ベルリン"));
    // Every zone is known by a city, or by the name of the zone.
    for zone in punctual_domain::Zone::names() {
        let named = city("fr", &zone);
        assert!(named.is_none_or(|named| !named.is_empty()), "{zone}");
    }
}

#[test]
fn every_region_has_texts() {
    for first in 'A'..='Z' {
        for second in 'A'..='Z' {
            let tag = format!("en-{first}{second}");
            let texts = Texts::of(None, Some(&tag), None);
            assert_eq!(texts.locale(), tag);
            assert_eq!(texts.calendar().week().count(), 7);
        }
    }
}
