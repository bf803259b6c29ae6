//! Pages ask for texts that exist, and neither a template nor a script has texts of its own.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use punctual_domain::Feature;

use super::messages::{NTHS, messages};
use crate::texts::{PROBLEMS, languages::FILES};

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
    const NAMING: [&str; 11] = [
        "t.text(",
        "t.text_of(",
        ".has_day(",
        ".is_wrong(",
        ".is_of_organization(",
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
    let tests = of_this_crate("src/texts/tests");
    let sources = files(&of_this_crate("src"), ".rs");
    let sources = sources
        .iter()
        .filter(|(path, _)| !path.ends_with("tests.rs") && !path.starts_with(&tests))
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
        "erasures.html",
        "groups.html",
        "nav_of_operators.html",
        "operators.html",
        "organizations.html",
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
    assert_eq!(looked_at, 18);
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
