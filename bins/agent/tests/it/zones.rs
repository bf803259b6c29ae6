//! Zone rules from a folder in place of the built-in ones, also while the agent runs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use punctual_application::testing::zone_file;
use serde_json::{Value, json};

use crate::{
    agent::{self, Agent},
    project::Project,
};

/// A folder of three zones, in which Berlin is this far ahead of UTC.
fn rules(folder: &Path, name: &str, berlin: i32) -> PathBuf {
    let folder = folder.join(name);
    for (zone, hours) in [
        ("UTC", 0),
        ("Europe/Berlin", berlin),
        ("America/New_York", -5),
    ] {
        let path = folder.join(zone);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, zone_file(hours)).unwrap();
    }
    std::fs::write(folder.join("+VERSION"), format!("2099{name}\n")).unwrap();
    folder
}

fn output(mut command: Command, arguments: &[&str]) -> (Output, String) {
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn rules_in_a_folder_are_the_only_ones_that_count() {
    let folder = tempfile::tempdir().unwrap();
    let rules = rules(folder.path(), "a", 3);
    let command = || {
        let mut command = agent::command(folder.path());
        command.env("BATCH_TZDB_DIR", &rules);
        command
    };
    let preview = |zone: &str| {
        let preference =
            format!(r#"{{"frequency": "daily", "preferred_time": "09:00", "timezone": "{zone}"}}"#);
        output(
            command(),
            &[
                "preview",
                "--from",
                "2026-01-01T00:00:00Z",
                "--count",
                "1",
                "--preference",
                &preference,
                "--json",
            ],
        )
    };
    let (_, runs) = preview("Europe/Berlin");
    assert!(runs.contains("2026-01-01T06:00:00Z"), "{runs}");
    let (refused, _) = preview("Asia/Tokyo");
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("Asia/Tokyo"), "{error}");

    let mut nowhere = command();
    nowhere.env("BATCH_TZDB_DIR", folder.path());
    let (refused, _) = output(nowhere, &["check"]);
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        error.contains("BATCH_TZDB_DIR") && error.contains("UTC is missing"),
        "{error}"
    );
}

#[test]
fn what_other_rules_change_is_shown_beforehand() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (rules(folder.path(), "a", 1), rules(folder.path(), "b", 2));
    let (old, new) = (old.display().to_string(), new.display().to_string());
    let command = || {
        let mut command = agent::command(folder.path());
        // No agent answers there.
        command.env("BATCH_HTTP_ADDR", "127.0.0.1:1");
        command
    };
    let (_, said) = output(
        command(),
        &["zones", "diff", "--from", &old, "--to", &new, "--json"],
    );
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["from"], &said["to"]),
        (&"2099a".into(), &"2099b".into())
    );
    let zones = said["zones"].as_array().unwrap();
    assert_eq!(zones.len(), 1, "{said}");
    assert_eq!(zones[0]["zone"], "Europe/Berlin");
    assert_eq!(zones[0]["users"], Value::Null);
    assert_eq!(
        (&zones[0]["before"], &zones[0]["after"]),
        (&"+01:00".into(), &"+02:00".into())
    );
    let (_, same) = output(command(), &["zones", "diff", "--from", &new, "--to", &new]);
    assert!(same.contains("No zone changes"), "{same}");
    // Beside the built-in rules, most zones are missing.
    let (_, missing) = output(command(), &["zones", "diff", "--to", &new]);
    assert!(
        missing.contains("Asia/Tokyo") && missing.contains("missing"),
        "{missing}"
    );
    assert!(
        missing.contains("not counted: no agent answers"),
        "{missing}"
    );
}

fn project() -> Project {
    let project = Project::new(
        json!({"handler": "template", "template": "t.j2"}),
        json!({"default_preferences": {"frequency": "daily"}}),
    );
    project.write("templates/t.j2", "Good morning");
    project
}

#[tokio::test]
async fn a_running_agent_says_whose_runs_a_change_moves() {
    let project = project();
    let preference = |n: usize| {
        let zone = ["Europe/Berlin", "Asia/Tokyo"][usize::from(n < 2)];
        json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00", "timezone": zone})
    };
    let preferences = project.preferences((0..7).map(|n| (format!("t{n}"), preference(n))));
    let agent = Agent::start(project.run_in(None, Some(&preferences)));
    let ready = |answer: &Value| answer["status"] == "ready";
    agent.until("/health/ready", ready).await;
    let used = agent.get("/api/v1/zones").await;
    let expected = json!([{"zone": "Asia/Tokyo", "tenants": {"posts": 2}},
        {"zone": "Europe/Berlin", "tenants": {"posts": 5}}]);
    assert_eq!(used["zones"], expected);
    let [old, new] = [("a", 1), ("b", 2)].map(|(name, berlin)| {
        let folder = rules(project.path(), name, berlin);
        folder.display().to_string()
    });
    let diff = |more: &[&str]| {
        let mut command = project.command();
        let address = agent.api().strip_prefix("http://").unwrap();
        command.env("BATCH_HTTP_ADDR", address);
        let arguments = ["zones", "diff", "--from", &old, "--to", &new];
        output(command, &[arguments.as_slice(), more].concat()).1
    };
    let said: Value = serde_json::from_str(&diff(&["--json"])).unwrap();
    let zone = &said["zones"][0];
    assert_eq!(
        (&zone["users"], &zone["users_with_moved_runs"]),
        (&json!(5), &json!(5)),
        "{said}"
    );
    let mut tenants = Vec::new();
    for moved in zone["moved_runs"].as_array().unwrap() {
        tenants.push(moved["tenant_id"].as_str().unwrap());
        for (run, utc) in [("before", "T08:00:00Z"), ("after", "T07:00:00Z")] {
            let at = moved[run].as_str().unwrap();
            assert!(at.ends_with(utc), "{moved}");
            let local = moved[format!("{run}_local")].as_str().unwrap();
            assert!(local.ends_with("T09:00:00"), "{moved}");
        }
        assert_eq!(moved["job_id"], "posts");
    }
    assert_eq!(tenants, ["t2", "t3", "t4", "t5", "t6"]);

    let said = diff(&["--users", "2"]);
    for part in [
        "Users in Europe/Berlin whose runs move: 5",
        "08:00 UTC",
        "07:00 UTC",
        "09:00 local",
        "--users",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let listed = (2..7).filter(|n| said.contains(&format!("t{n}"))).count();
    assert_eq!(listed, 2, "{said}");
}

#[tokio::test]
async fn rules_that_change_in_the_folder_move_the_runs_of_a_running_agent() {
    let project = project();
    let preference = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00",
        "timezone": "Europe/Berlin"});
    let preferences = project.preferences((0..3).map(|n| (format!("t{n}"), preference.clone())));
    let folder = rules(project.path(), "a", 1);
    let mut command = project.run_in(None, Some(&preferences));
    command.env("BATCH_TZDB_DIR", &folder);
    let agent = Agent::start(command);
    let due_at = |time: &'static str| {
        move |answer: &Value| {
            let upcoming = answer["upcoming"].as_array().unwrap();
            let at = upcoming.first().and_then(|due| due["at"].as_str());
            at.is_some_and(|at| at.ends_with(time))
        }
    };
    let upcoming = "/api/v1/schedule/upcoming?hours=24";
    agent.until(upcoming, due_at("T08:00:00Z")).await;
    assert_eq!(agent.get("/version").await["tzdb"], "2099a");

    let berlin = folder.join("Europe/Berlin");
    std::fs::write(&berlin, zone_file(3)).unwrap();
    std::fs::write(folder.join("+VERSION"), "2099b\n").unwrap();
    agent.until(upcoming, due_at("T06:00:00Z")).await;
    assert_eq!(agent.get("/version").await["tzdb"], "2099b");
    assert_eq!(agent.get("/api/v1/zones").await["tzdb"], "2099b");

    std::fs::write(&berlin, "TZif2 cut off").unwrap();
    let fails = |answer: &Value| answer.to_string().contains("zone rules are not in effect");
    let findings = agent.until("/api/v1/findings", fails).await.to_string();
    for part in ["Europe/Berlin", "BATCH_TZDB_DIR"] {
        assert!(findings.contains(part), "{part}: {findings}");
    }
    agent
        .until_logged("Failed to take changed zone rules, the previous ones stay in effect")
        .await;
    assert!(due_at("T06:00:00Z")(&agent.get(upcoming).await));
    // Who is asked what is wrong, and how it is, answers.
    let ask = |arguments: &[&str]| {
        let mut command = project.command();
        let address = agent.api().strip_prefix("http://").unwrap();
        command.env("BATCH_HTTP_ADDR", address);
        command.env("BATCH_TZDB_DIR", &folder);
        output(command, arguments)
    };
    assert!(ask(&["health"]).0.status.success());
    let (_, status) = ask(&["status", "--json"]);
    assert!(status.contains("zone rules are not in effect"), "{status}");

    std::fs::write(&berlin, zone_file(3)).unwrap();
    agent
        .until("/api/v1/findings", |answer| !fails(answer))
        .await;
}
