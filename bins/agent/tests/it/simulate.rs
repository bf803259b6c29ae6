//! `simulate`: virtual days on the command line.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::agent::repository;

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_punctual-agent"))
        .current_dir(repository())
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn simulate_shows_when_users_fall_due_and_what_spreading_does() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("schedule.html");
    let sample = |words: &[&str]| {
        let mut all = vec![
            "simulate",
            "--file",
            "data/preferences/sample.ndjson",
            "--from",
            "2026-03-02T00:00:00Z",
        ];
        all.extend_from_slice(words);
        agent(&all)
    };
    let output = sample(&["--days", "7", "--json", "--html", page.to_str().unwrap()]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["users"], &report["days"]),
        (&json!(3000), &json!(7))
    );
    let hours = report["users_due_by_hour"].as_array().unwrap();
    let by_hour: u64 = hours.iter().map(|hour| hour.as_u64().unwrap()).sum();
    assert_eq!(
        (hours.len(), Some(by_hour)),
        (7 * 24, report["runs"].as_u64())
    );
    let peak = report["peak"]["users"].as_u64().unwrap();
    let spread = &report["peaks_with_other_spreads"][2];
    assert_eq!(spread["spread_minutes"], 60);
    assert!(spread["users"].as_u64().unwrap() * 4 < peak, "{report:#}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && !page.contains("<script") && !page.contains("http"));

    // What is simulated is what `preview` says of one user.
    let one = folder.path().join("one.ndjson");
    let line = json!({"tenant_id": "a", "config_value": {"instagram_posts":
        {"enabled": true, "frequency": "daily", "preferred_time": "02:30", "timezone": "Europe/Berlin"}}});
    std::fs::write(&one, line.to_string()).unwrap();
    let from = "2026-03-28T00:00:00Z";
    let output = agent(&[
        "simulate",
        "--file",
        one.to_str().unwrap(),
        "--from",
        from,
        "--days",
        "3",
        "--json",
    ]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let hours = report["users_due_by_hour"].as_array().unwrap();
    let due = (0..72).filter(|hour| hours[*hour] == 1);
    assert_eq!(
        due.collect::<Vec<_>>(),
        [1, 24 + 1, 48],
        "the clocks skip 02:30 on the 29th"
    );

    // *Export everything* begins with features, organizations and profiles of members.
    let export = folder.path().join("export.ndjson");
    let on = json!({"enabled": true, "frequency": "daily"});
    let tenant = |id: &str, key: &str, value: Value| {
        json!({"tenant_id": id, "config_key": key, "config_value": value, "version": 3,
            "updated_at": "2026-03-01T09:00:00Z"})
    };
    let organization = |id: &str, feature: &str| {
        json!({"organization_id": id, "config_key": "feature_preferences", "config_value": {feature: on},
            "version": 4, "updated_at": "2026-03-01T09:00:00Z"})
    };
    let lines = [
        json!({"feature_type": "instagram_posts", "title": "Posts"}),
        organization("acme", "instagram_posts"),
        organization("other", "newsletter"),
        tenant("a", "profile", json!({"organization_id": "acme"})),
        tenant("b", "profile", json!({"organization_id": "other"})),
        tenant("a", "feature_preferences", json!({"instagram_posts": on})),
        tenant("a", "profile", json!({"organization_id": "acme"})),
        tenant("b", "instagram", json!({"instagram_posts": on})),
        tenant(
            "c",
            "feature_preferences",
            json!({"instagram_posts": on, "newsletter": on}),
        ),
    ];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&export, lines).unwrap();
    let file = ["simulate", "--file", export.to_str().unwrap()];
    let output = agent(&[&file[..], &["--from", from, "--json"][..]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["users"], 2);
    assert_eq!(
        report["not_applied"],
        json!({"organizations": 1, "members": 1})
    );
    let text = String::from_utf8(agent(&file).stdout).unwrap();
    let words = "Preferences of 1 organization are not applied: 1 member may fall due otherwise";
    assert!(text.contains(words), "{text}");

    // What is prepared ahead takes the calls from the minute at which users are due.
    let job = json!({"prepare_ahead": "12h"});
    let project =
        crate::project::Project::new(json!({"handler": "template", "template": "t.j2"}), job);
    project.write("templates/t.j2", "{{ tone }}");
    let mut command = project.command();
    command.args([
        "simulate", "--users", "20000", "--days", "2", "--from", from, "--json",
    ]);
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ahead = &report["prepare_ahead"];
    assert_eq!(ahead["seconds"], 43_200, "{report:#}");
    assert_eq!(ahead["peak_without"], report["peak"]["users"]);
    assert!(
        ahead["peak_when_due"].as_u64() < ahead["peak_without"].as_u64(),
        "{report:#}"
    );

    let preference = json!({"enabled": true, "frequency": "daily"});
    let one = project.preferences([("ann".to_owned(), preference)].into_iter());
    let mut command = project.command();
    command.args(["simulate", "--days", "1", "--from", from, "--file"]);
    let output = command.arg(one).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "posts: 1 user from ",
        "1 day from 2026-03-28 00:00 UTC: 1 run\n",
        "Busiest minute: 1 user at ",
        "with runs prepared 12 hours ahead, the busiest minute still calls for ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    let made_up = |seed: &str| {
        agent(&[
            "simulate", "--users", "20000", "--days", "2", "--from", from, "--seed", seed,
        ])
        .stdout
    };
    let text = String::from_utf8(made_up("7")).unwrap();
    assert!(
        text.contains("20,000 users from generated users, seed 7"),
        "{text}"
    );
    assert!(
        text.contains("Busiest minute: ") && text.contains("of the capacity is used"),
        "{text}"
    );
    assert!(text.as_bytes() == made_up("7") && text.as_bytes() != made_up("8"));

    for (words, reason) in [
        (
            &["simulate", "--users", "10", "--job", "product_digest"][..],
            "has a fixed schedule",
        ),
        (
            &["simulate", "--users", "10", "--job", "none"],
            "batch_config.json has no job `none`",
        ),
        (&["simulate", "--file", "Makefile"], "Makefile: line 1: "),
        (
            &["simulate", "--users", "0"],
            "No users found for feature_type \"instagram_posts\"",
        ),
    ] {
        let output = agent(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}
