//! Sources of modules, and which modules they import.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The text of a module, taken apart.
pub(super) struct Source {
    /// Without comments, and with empty literals.
    pub(super) code: String,
    pub(super) literals: Vec<String>,
}

impl Source {
    pub(super) fn of(text: &str) -> Self {
        let (mut code, mut literals) = (String::new(), Vec::new());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let end = match c {
                '/' if rest.starts_with("//") => {
                    rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                    continue;
                }
                '/' if rest.starts_with("/*") => {
                    rest = rest.split_once("*/").map_or("", |(_, rest)| rest);
                    continue;
                }
                '"' => {
                    let hashes = code.len() - code.trim_end_matches('#').len();
                    let raw = code.trim_end_matches('#').ends_with('r');
                    let length = if raw {
                        rest[1..].find(&format!("\"{}", "#".repeat(hashes)))
                    } else {
                        end_of_literal(&rest[1..], '"')
                    };
                    let length = length.unwrap_or(rest.len() - 1);
                    literals.push(rest[1..][..length].to_owned());
                    code += "\"";
                    1 + length
                }
                // A character; otherwise it begins the name of a lifetime.
                '\'' if rest[1..].starts_with('\\') || rest[1..].chars().nth(1) == Some('\'') => {
                    1 + end_of_literal(&rest[1..], '\'').unwrap_or(0)
                }
                _ => 0,
            };
            let last = rest[end..].chars().next().unwrap_or(' ');
            code.push(last);
            rest = rest.get(end + last.len_utf8()..).unwrap_or_default();
        }
        Self { code, literals }
    }

    /// The names in the code.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.code.split(|c: char| !c.is_alphanumeric() && c != '_')
    }

    /// The paths in the code, such as `std::env`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut rest = self.code.as_str();
        while let Some(start) = rest.find(|c: char| c.is_alphanumeric() || c == '_') {
            rest = path_tree(&rest[start..], "", &mut paths);
        }
        paths
    }
}

/// How long a literal is that ends with `quote`.
fn end_of_literal(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let end = text.char_indices().find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map(|(at, _)| at)
}

/// Each module under `folder`, without its tests.
pub(super) fn modules(folder: &Path) -> BTreeMap<String, Source> {
    let mut modules = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let module = path.strip_prefix(folder).unwrap().with_extension("");
            let module = module.to_str().unwrap().replace(['/', '\\'], "::");
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs")
                && module.rsplit("::").next() != Some("tests")
            {
                let source = fs::read_to_string(path).unwrap();
                let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
                modules.insert(module, Source::of(source));
            }
        }
    }
    modules
}

/// Which other modules each module names.
pub(super) fn imports(modules: &BTreeMap<String, Source>) -> BTreeMap<String, BTreeSet<String>> {
    let of = |(module, source): (&String, &Source)| {
        let paths = source.paths();
        let mut targets: BTreeSet<_> = paths
            .iter()
            .filter(|path| path.contains("::"))
            .map(|path| home(path, module, modules))
            .collect();
        targets.remove(module);
        (module.clone(), targets)
    };
    // The root of a crate only hands names on.
    let modules = modules.iter().filter(|(module, _)| *module != "lib");
    modules.map(of).collect()
}

/// Reads the paths that `text` begins with, such as `crate::{ids, time::slot::Slot}`, and returns the rest.
fn path_tree<'t>(text: &'t str, before: &str, paths: &mut Vec<String>) -> &'t str {
    if let Some(mut rest) = text.strip_prefix('{') {
        while !rest.is_empty() && !rest.starts_with('}') {
            rest = path_tree(rest.trim_start(), before, paths);
            // What is left of an entry: `*`, or `as` and another name.
            rest = rest.trim_start_matches(|c| c != ',' && c != '}');
            rest = rest.trim_start_matches(',').trim_start();
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let path = format!("{before}{}", &text[..end]);
    match text[end..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c| is_name(c) || c == '{') => {
            path_tree(rest, &format!("{path}::"), paths)
        }
        Some(rest) => {
            paths.push(format!("{path}::"));
            rest
        }
        None => {
            paths.push(path);
            &text[end..]
        }
    }
}

/// The module in which the thing lives that `path`, written in `module`, names; `module` itself for what is foreign.
fn home(path: &str, module: &str, modules: &BTreeMap<String, Source>) -> String {
    let mut home: Vec<&str> = module.split("::").collect();
    for name in path.split("::") {
        match name {
            "crate" => home.clear(),
            "super" => _ = home.pop(),
            "self" => {}
            name => {
                home.push(name);
                if !modules.contains_key(&home.join("::")) {
                    home.pop();
                    break;
                }
            }
        }
    }
    assert!(
        !home.is_empty(),
        "{module} names {path}; name the module in which it lives"
    );
    home.join("::")
}

/// A cycle, if there is one: its modules in the order of their imports, the first one again at the end.
pub(super) fn cycle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut left = imports.clone();
    // What imports nothing that is left is in no cycle.
    loop {
        let (before, names): (_, BTreeSet<_>) = (left.len(), left.keys().cloned().collect());
        left.retain(|_, targets| !targets.is_disjoint(&names));
        if left.len() == before {
            break;
        }
    }
    let mut path = vec![left.keys().next()?.clone()];
    loop {
        let targets = &left[path.last()?];
        let next = targets
            .iter()
            .find(|target| left.contains_key(*target))?
            .clone();
        let start = path.iter().position(|module| *module == next);
        path.push(next);
        if let Some(start) = start {
            return Some(path.split_off(start));
        }
    }
}

#[test]
fn imports_are_found_however_they_are_written_and_a_cycle_is_named() {
    let source = |name: &str, text: &str| (name.to_owned(), Source::of(text));
    let modules = BTreeMap::from([
        source("a", "pub(crate) mod b;\nuse self::b::{self, *};"),
        source("a::b", "use super::c::{C as D, d::{E, F}}; struct B;"),
        source("a::c", "fn f() -> u8 { crate::g::h::<u8>(std::mem::take) }"),
        source("g", "use std::fmt; use crate::{a::c::{C, *},};"),
    ]);
    let imports = imports(&modules);
    let of = |module: &str| Vec::from_iter(imports[module].iter().map(String::as_str));
    assert_eq!(of("a"), ["a::b"]);
    assert_eq!(of("a::b"), ["a::c"]);
    assert_eq!(of("a::c"), ["g"]);
    assert_eq!(cycle(&imports).unwrap(), ["a::c", "g", "a::c"]);
}

#[test]
fn a_source_is_taken_apart_into_code_and_literals() {
    let text = "fn f<'a>() { /* \"no\" */ g('\"', '\\'', r#\"a \"raw\" one\"#, \"it \\\" // is\", b::c) } // \"no\"";
    let source = Source::of(text);
    assert_eq!(source.literals, ["a \"raw\" one", "it \\\" // is"]);
    assert!(source.names().any(|name| name == "c"), "{}", source.code);
    assert!(!source.code.contains("no") && source.code.contains("<'a>"));
    assert!(source.paths().contains(&"b::c".to_owned()));
}
