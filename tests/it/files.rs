//! The files beside the code: what an editor reads about the examples agrees with what the agent reads, and links lead
//! somewhere.

use std::path::{Path, PathBuf};

use punctual_domain::{Work, Zone};
use punctual_infrastructure::HandlerKinds;
use punctual_project::JsonFile;
use punctual_telemetry::METRICS;
use serde_json::{Value, json};

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../data")
        .join(file)
}

/// What is wrong with purposes, beside keys, templates and other files that only their readers have.
fn mistakes_in_purposes(document: &Value) -> Vec<String> {
    let read = HandlerKinds::built_in(&data("templates")).handlers(document);
    let errors = read.err().map_or_else(Vec::new, |errors| errors.0);
    errors
        .into_iter()
        .filter(|error| {
            !error.problem.contains("is not set in the environment")
                && !error.problem.contains("cannot be used")
                && !error.problem.contains("cannot be read")
        })
        .map(|error| error.to_string())
        .collect()
}

fn schema_accepts(document: &Value) -> bool {
    let schema = JsonFile::read(&data("batch/batch_config.schema.json"))
        .unwrap()
        .value;
    jsonschema::validator_for(&schema)
        .unwrap()
        .is_valid(document)
}

fn agent_accepts(document: &Value) -> bool {
    punctual_project::parse_batch_config(document, &Zone::utc()).is_ok()
}

/// The longest part of a message of the log that is always the same.
fn fixed_part(message: &str) -> &str {
    let first_line = message.split(['\\', '\n']).next().unwrap();
    first_line
        .split(['{', '}', '\n', '`'])
        .enumerate()
        // What stands between braces differs.
        .filter_map(|(index, part)| (index % 2 == 0 || !message.contains('{')).then_some(part))
        .max_by_key(|part| part.len())
        .unwrap()
        .trim_matches([' ', ':', '.', '(', ')', '\\', ';'])
}

#[test]
fn the_runbook_knows_every_warning_and_error_of_the_log() {
    let root = data("..");
    let runbook = std::fs::read_to_string(root.join("docs/operations/runbook.md")).unwrap();
    let mut folders = vec![
        root.join("bins/agent/src"),
        root.join("crates/application/src"),
        root.join("crates/infrastructure/src"),
        root.join("crates/config-database/src"),
        root.join("crates/telemetry/src"),
        root.join("crates/web/src"),
    ];
    let (mut known, mut unknown) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for level in ["warn!(", "error!("] {
                for call in source.split(level).skip(1) {
                    let mut texts = call
                        .split(");")
                        .next()
                        .unwrap()
                        .split('"')
                        .skip(1)
                        .step_by(2);
                    let message = texts.find(|text| text.starts_with(char::is_uppercase));
                    let Some(message) = message else { continue };
                    let part = fixed_part(message);
                    if part.len() >= 5 && runbook.contains(part) {
                        known += 1;
                    } else {
                        unknown.push(format!("{part:?} of {message:?} in {}", path.display()));
                    }
                }
            }
        }
    }
    assert!(known > 35, "{known}");
    assert!(
        unknown.is_empty(),
        "docs/operations/runbook.md does not know\n{}",
        unknown.join("\n")
    );
}

/// The text of every Rust source below `folders` of the repository.
fn sources(folders: &[&str]) -> String {
    let mut folders: Vec<PathBuf> = folders.iter().map(|name| data("..").join(name)).collect();
    let mut sources = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources += &std::fs::read_to_string(&path).unwrap();
            }
        }
    }
    sources
}

#[test]
fn every_metric_is_recorded_with_the_labels_that_are_described() {
    let sources = sources(&["bins", "crates"]);
    let mut recorded: Vec<(&str, Vec<&str>)> = Vec::new();
    for kind in ["counter", "gauge", "histogram"] {
        for call in sources.split(&format!("metrics::{kind}!(\"")).skip(1) {
            let (name, rest) = call.split_once('"').unwrap();
            let labels = rest.split(';').next().unwrap().split("\" =>");
            let labels: Vec<&str> = labels.filter_map(|part| part.rsplit('"').next()).collect();
            recorded.push((name, labels[..labels.len() - 1].to_vec()));
        }
    }
    let mut described: Vec<_> = METRICS
        .iter()
        .map(|m| (m.name, m.labels.to_vec()))
        .collect();
    recorded.sort_unstable();
    recorded.dedup();
    described.sort_unstable();
    assert_eq!(recorded, described);
}

/// The names in backticks that look like those of tests.
fn tests_named_in(text: &str) -> Vec<&str> {
    let is_test = |name: &&str| {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.matches('_').count() >= 2 && name.chars().all(letters)
    };
    text.split('`').skip(1).step_by(2).filter(is_test).collect()
}

#[test]
fn every_line_about_security_names_a_test_that_exists() {
    let root = data("..");
    let text = std::fs::read_to_string(root.join("docs/operations/security.md")).unwrap();
    let sources = sources(&["bins", "crates", "tests"]);
    // The tables with a last column for it, without their heads.
    let rows = |line: &&str| line.starts_with("| ") && line.matches(" | ").count() >= 3;
    let claims: Vec<&str> = text.lines().filter(rows).collect();
    assert!(claims.len() > 15, "{}", claims.len());
    for claim in claims
        .iter()
        .filter(|row| !row.starts_with("| who | could want"))
    {
        let shown_by = claim.rsplit(" | ").next().unwrap();
        let named = tests_named_in(shown_by);
        assert!(!named.is_empty(), "no test is named in: {claim}");
        for name in named {
            let exists = sources.contains(&format!("fn {name}("));
            assert!(exists, "test `{name}` does not exist: {claim}");
        }
    }
}

#[test]
fn the_first_steps_are_taken_as_they_stand() {
    let steps = std::fs::read_to_string(data("../docs/first-steps.md")).unwrap();
    let blocks = steps.split("```json\n").skip(1);
    let mut blocks = blocks.map(|block| block.split("```").next().unwrap());
    let jobs: Value = serde_json::from_str(blocks.next().unwrap()).unwrap();
    assert!(schema_accepts(&jobs) && agent_accepts(&jobs));
    let purposes = serde_json::from_str(blocks.next().unwrap()).unwrap();
    assert_eq!(mistakes_in_purposes(&purposes), [""; 0]);
    assert_eq!(blocks.next(), None);
}

/// Checks the examples of a guide; returns how many of them are jobs, and how many purposes.
fn taken_as_they_stand(guide: &str) -> (usize, usize) {
    let guide = data("../docs/usage").join(guide);
    let guide = std::fs::read_to_string(guide).unwrap();
    let blocks = guide.split("```json\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let (mut jobs, mut purposes) = (0, 0);
    for block in blocks {
        let example: Value =
            serde_json::from_str(block).unwrap_or_else(|error| panic!("{error} in {block}"));
        if example.get("jobs").is_some() {
            let parsed = punctual_project::parse_batch_config(&example, &Zone::utc());
            assert!(parsed.is_ok(), "{parsed:?}");
            assert!(schema_accepts(&example), "{block}");
            jobs += 1;
        } else {
            assert_eq!(mistakes_in_purposes(&example), [""; 0]);
            purposes += 1;
        }
    }
    (jobs, purposes)
}

#[test]
fn the_guides_examples_are_taken_as_they_stand() {
    let configuring = taken_as_they_stand("batch_configuration_guide.md");
    assert_eq!(configuring, (6, 6));
    assert_eq!(taken_as_they_stand("write_a_digest.md"), (2, 3));
    assert_eq!(taken_as_they_stand("long_running_work.md"), (0, 1));
    assert_eq!(taken_as_they_stand("clients/README.md"), (0, 1));
    assert_eq!(taken_as_they_stand("../operations/deployment.md"), (1, 0));
}

#[test]
fn a_job_that_is_put_back_to_remove_its_results_runs_nothing() {
    let guide = std::fs::read_to_string(data("../docs/operations/deployment.md")).unwrap();
    let block = guide.split("```json\n").nth(1).unwrap();
    let example = serde_json::from_str(block.split("```").next().unwrap()).unwrap();
    let config = punctual_project::parse_batch_config(&example, &Zone::utc()).unwrap();
    let [job] = config.jobs.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!(job.keep.longest().num_days(), 1);
    let Work::Fixed { schedule, .. } = &job.work else {
        panic!("{job:?}")
    };
    assert_eq!(
        schedule.next_after("2020-01-02T12:00:00Z".parse().unwrap()),
        None
    );
}

#[test]
fn the_schema_and_the_agent_accept_the_example() {
    let example = JsonFile::read(&data("batch/batch_config.json"))
        .unwrap()
        .value;
    assert!(agent_accepts(&example) && schema_accepts(&example));
}

#[test]
fn the_schema_and_the_agent_agree_on_every_change_of_the_example() {
    let example = JsonFile::read(&data("batch/batch_config.json"))
        .unwrap()
        .value;
    let changed = |pointer: &str, value: Value| {
        let mut document = example.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = document
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap();
        if value.is_null() {
            parent.remove(field);
        } else {
            parent.insert(field.to_owned(), value);
        }
        document
    };
    for (accepted, pointer, value) in [
        (true, "/jobs/0/priority", json!("critical")),
        (true, "/jobs/0/priority", Value::Null),
        (true, "/jobs/0/retry_limit", json!(0)),
        (true, "/jobs/0/spread_minutes", json!(30)),
        (true, "/jobs/0/keep_results_days", json!(1)),
        (true, "/jobs/0/keep_failures_days", json!(3650)),
        (false, "/jobs/0/keep_results_days", json!(0)),
        (false, "/jobs/0/keep_failures_days", json!(3651)),
        (true, "/jobs/0/then", json!("send_digest")),
        (false, "/jobs/0/then", json!("send digest")),
        (false, "/jobs/0/then", json!(["send_digest"])),
        (false, "/jobs/2/then", json!("send_digest")),
        (true, "/jobs/2/deliver", json!([{"email": "mail_report"}])),
        (false, "/jobs/2/deliver", json!([{"email": "mail report"}])),
        (false, "/jobs/0/deliver", json!([{"email": "mail_report"}])),
        (true, "/jobs/0/deliver", json!([{"file": "out.ndjson"}])),
        (
            true,
            "/jobs/0/catch_up",
            json!({"policy": "all", "window_minutes": 90}),
        ),
        (
            true,
            "/jobs/0/default_preferences/frequency",
            json!("biweekly"),
        ),
        (
            true,
            "/jobs/0/default_preferences/preferred_day",
            json!(["Monday", "friday"]),
        ),
        (true, "/jobs/0/type", json!("individual")),
        (true, "/jobs/2/schedule/preferred_time", json!("23:59")),
        (
            true,
            "/jobs/2/schedule",
            json!({"cron": "30 9 * * 1-5", "timezone": "Asia/Tokyo"}),
        ),
        (false, "/jobs/2/schedule", json!({"cron": "30 9 * *"})),
        (
            false,
            "/jobs/2/schedule",
            json!({"cron": "30 9 * * *", "frequency": "daily"}),
        ),
        (false, "/jobs", Value::Null),
        (false, "/job", json!([])),
        (false, "/jobs/0/job_id", Value::Null),
        (false, "/jobs/0/job_id", json!("a b")),
        (false, "/jobs/0/type", json!("batch")),
        (false, "/jobs/0/type", json!("object_batch")),
        (false, "/jobs/0/purpose_id", Value::Null),
        (false, "/jobs/0/feature_type", Value::Null),
        (false, "/jobs/0/priority", json!("urgent")),
        (false, "/jobs/0/retry_limit", json!(-1)),
        (false, "/jobs/0/retries", json!(3)),
        (false, "/jobs/0/catch_up", json!({"policy": "never"})),
        (false, "/jobs/0/spread_minutes", json!(5000)),
        (
            false,
            "/jobs/0/default_preferences/frequency",
            json!("yearly"),
        ),
        (
            true,
            "/jobs/0/default_preferences/preferred_time",
            json!("9:00"),
        ),
        (
            true,
            "/jobs/0/default_preferences/preferred_time",
            json!(" 09:00:00 "),
        ),
        (
            false,
            "/jobs/0/default_preferences/preferred_time",
            json!("09:00:30"),
        ),
        (
            false,
            "/jobs/0/default_preferences/preferred_time",
            json!("24:00"),
        ),
        (
            true,
            "/jobs/0/default_preferences/frequency",
            json!(" Daily"),
        ),
        (
            true,
            "/jobs/2/schedule",
            json!({"frequency": "monthly", "preferred_day": [3.0, " 03", "LAST"]}),
        ),
        (
            true,
            "/jobs/2/schedule",
            json!({"frequency": "weekly", "preferred_day": ["Mon", "thu", " FRIDAY "]}),
        ),
        (
            false,
            "/jobs/2/schedule",
            json!({"frequency": "weekly", "preferred_day": "tues"}),
        ),
        (
            false,
            "/jobs/2/schedule",
            json!({"frequency": "monthly", "preferred_day": 3.5}),
        ),
        (
            true,
            "/jobs/2/schedule",
            json!({"frequency": "daily", "interval": 3.0, "start_date": "2026-12-01", "end_date": "2027-01-31",
                "preferred_time": ["9:00", "18:00"], "paused_until": "2026-12-24T18:00:00Z"}),
        ),
        (
            true,
            "/jobs/2/schedule",
            json!({"frequency": "Once", "date": "2026-12-24", "interval": 1}),
        ),
        (
            true,
            "/jobs/2/schedule",
            json!({"frequency": "monthly", "preferred_day": ["second TUE", "last weekday", 31]}),
        ),
        (
            true,
            "/jobs/0/default_preferences",
            json!({"frequency": "daily", "interval": 3}),
        ),
        (
            false,
            "/jobs/2/schedule",
            json!({"frequency": "daily", "interval": 3}),
        ),
        (
            false,
            "/jobs/2/schedule",
            json!({"frequency": "biweekly", "interval": 2, "start_date": "2026-12-01"}),
        ),
        (false, "/jobs/2/schedule", json!({"frequency": "once"})),
        (
            false,
            "/jobs/2/schedule",
            json!({"frequency": "hourly", "preferred_time": ["00:15", "00:45"]}),
        ),
        (false, "/jobs/0/default_preferences/interval", json!(1_001)),
        (
            false,
            "/jobs/0/default_preferences/end_date",
            json!("2026-1-2"),
        ),
        (
            false,
            "/jobs/0/default_preferences/start_date",
            json!("+2026-1-02"),
        ),
        (
            false,
            "/jobs/0/default_preferences/paused_until",
            json!("soon"),
        ),
        (false, "/jobs/0/job_id", json!(".")),
        (false, "/jobs/0/job_id", json!("..")),
        (true, "/jobs/0/job_id", json!("...")),
        (false, "/jobs/0/default_preferences/day", json!("monday")),
        (false, "/jobs/2/schedule", Value::Null),
        (false, "/jobs/2/schedule/frequency", Value::Null),
        (false, "/jobs/2/source", Value::Null),
        (false, "/jobs/2/source", json!({"path": "x"})),
        (
            false,
            "/jobs/2/source",
            json!({"file": "x", "url": "https://x"}),
        ),
        (
            true,
            "/jobs/2/source",
            json!({"url": "https://shop.example/items", "items": "/data", "limit": 5}),
        ),
        (
            false,
            "/jobs/2/source",
            json!({"url": "https://me@shop.example/items"}),
        ),
        (
            true,
            "/jobs/2/source",
            json!({"file": "x.csv", "filters": {"min_price": 5, "tags": ["sale"], "created_after": "2026-01-01",
                "category": ["mugs", "cups"]}}),
        ),
        (
            false,
            "/jobs/2/source",
            json!({"file": "x.csv", "filters": {"kind": {}}}),
        ),
        (
            false,
            "/jobs/2/source",
            json!({"file": "x.csv", "filters": {"tags": 3}}),
        ),
        (true, "/jobs/2/distribute_to", json!(["ann", "bob"])),
        (false, "/jobs/2/distribute_to", json!([])),
        (true, "/jobs/2/users", json!({"file": "users.json"})),
        (false, "/jobs/0/users", json!({"file": "users.json"})),
        (
            true,
            "/jobs/0/failure_limit",
            json!({"percent": 20, "at_least": 10}),
        ),
        (false, "/jobs/0/failure_limit", json!({"percent": 0})),
        (
            true,
            "/jobs/0/max_concurrent_items_per_organization",
            json!(2),
        ),
        (
            false,
            "/jobs/0/max_concurrent_items_per_organization",
            json!(0),
        ),
        (
            false,
            "/jobs/2/max_concurrent_items_per_organization",
            json!(2),
        ),
        (
            true,
            "/jobs/0/deliver",
            json!([{"file": "out.ndjson"}, {"url": "https://crm.example/x", "per": "item"}]),
        ),
        (
            false,
            "/jobs/0/deliver",
            json!([{"file": "out.ndjson", "per": "item"}]),
        ),
        (false, "/jobs/0/deliver", json!({"file": "out.ndjson"})),
        (
            true,
            "/jobs/0/data",
            json!({"url": "https://shop.example/users/{tenant_id}/activity?since={previous.scheduled_at}&until={scheduled_at}", "items": "/data",
                "api_key_env": "SHOP_KEY", "timeout_ms": 5000, "on_empty": "run", "concurrency": 8,
                "requests_per_minute": 600, "allow_private_addresses": false}),
        ),
        (
            true,
            "/jobs/0/data",
            json!({"url": "https://shop.example/activity?job={job_id}&run={occurrence}", "per": "chunk"}),
        ),
        (
            true,
            "/jobs/0/data",
            json!({"url": "https://shop.example", "per": "chunk"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://shop.example"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://shop.example/?since={previous.scheduled_at}", "per": "tenant"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://shop.example/{tenant_id}", "per": "chunk"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://shop.example/{user}"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://shop.example/{tenant_id"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://{tenant_id}.shop.example/"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://me@shop.example/"}),
        ),
        (false, "/jobs/0/data", json!({"per": "tenant"})),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://shop.example/", "per": "batch"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://shop.example/", "on_empty": "fail"}),
        ),
        (
            false,
            "/jobs/0/data",
            json!({"url": "https://shop.example/", "timeout_ms": 0}),
        ),
        (
            false,
            "/jobs/2/data",
            json!({"url": "https://shop.example/"}),
        ),
    ] {
        let document = changed(pointer, value.clone());
        assert_eq!(
            agent_accepts(&document),
            accepted,
            "the agent, {pointer} = {value}"
        );
        assert_eq!(
            schema_accepts(&document),
            accepted,
            "the schema, {pointer} = {value}"
        );
    }
}

/// Files with prose: of the repository's top, of docs and beside the crates.
fn prose(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "var") && !name.starts_with('.') {
                prose(&path, found);
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn every_link_between_files_leads_somewhere() {
    let mut files = Vec::new();
    prose(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        &mut files,
    );
    assert!(files.len() > 10, "{files:?}");
    let mut broken = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let target = link.split('#').next().unwrap_or_default();
            let outside = link.contains("://") || target.is_empty();
            if !outside && !file.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
