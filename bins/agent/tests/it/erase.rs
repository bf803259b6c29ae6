//! A person asks to be forgotten: what the agent holds of a tenant is given out and erased, and nothing of it is found afterwards in its
//! files, its log and its metrics.

use std::path::Path;

use chrono::{TimeDelta, Utc};
use punctual_application::tenant_hash;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use crate::{
    agent::Agent,
    control::{refuses, stdout_of},
    project::Project,
};

/// What only the tenant who is erased has stored.
const CANARY: &str = "canary";

/// The files of a folder, and of those in it, in which the canary is found.
fn found_in(folder: &Path, names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !names.iter().any(|begin| name.starts_with(begin)) {
            continue;
        }
        if path.is_dir() {
            found.extend(found_in(&path, &[""]));
            continue;
        }
        // The agent writes files anew beside the old ones: this one may have gone meanwhile.
        let bytes = std::fs::read(&path).unwrap_or_default();
        let mut parts = bytes.windows(CANARY.len());
        if parts.any(|part| part == CANARY.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn a_person_is_erased_from_the_store_the_folder_and_what_is_said() {
    let project = Project::new(
        json!({"handler": "template", "template": "t.j2"}),
        json!({"default_preferences": {"frequency": "daily"}, "retry_limit": 0,
            "deliver": [{"file": "../out.ndjson"}]}),
    );
    project.write("templates/t.j2", "Hello {{ word }}");
    let due = (Utc::now() - TimeDelta::hours(2))
        .format("%H:%M")
        .to_string();
    let preference = |word: &str| json!({"enabled": true, "frequency": "daily", "preferred_time": due, "template_overrides": {"word": word}});
    let tenants = ["bird", "ann", "bob"];
    let words = [CANARY, "a", "b"];
    let all = tenants.into_iter().zip(words);
    let all = all.map(|(tenant, word)| (tenant.to_owned(), preference(word)));
    let preferences = project.preferences(all);
    let url = project.serve(&preferences).await;
    let mut command = project.run_in(None, None);
    command
        .env("CONFIG_SERVICE_URL", &url)
        .args(["--look-back", "24h"]);
    let agent = Agent::start(command);
    let has_run = |answer: &Value| answer["runs"][0]["status"] == "succeeded";
    for tenant in tenants {
        agent
            .until(&format!("/api/v1/tenants/{tenant}/runs"), has_run)
            .await;
    }

    let file = project.path().join("bird.json");
    let to = file.display().to_string();
    stdout_of(&agent, &["export", "bird", "--to", &to]);
    let export: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(export.to_string().contains(CANARY), "{export}");
    refuses(&agent, &["export", "bird", "--to", &to], "does not exist");
    refuses(&agent, &["erase", "bird"], "--yes");
    let unknown = stdout_of(&agent, &["erase", "brid", "--yes"]);
    assert!(
        unknown.contains("Nothing was held of tenant brid"),
        "{unknown}"
    );
    let before = found_in(project.path(), &["known"]);
    assert_eq!(
        before.len(),
        1,
        "the last known preferences are on the disk"
    );

    let erase = [
        "erase",
        "bird",
        "--yes",
        "--reason",
        "request of bird, 7",
        "--json",
    ];
    let erased: Value = serde_json::from_str(&stdout_of(&agent, &erase)).unwrap();
    assert_eq!((&erased["runs"], &erased["items"]), (&json!(1), &json!(0)));
    let export: Value = serde_json::from_str(&stdout_of(&agent, &["export", "bird"])).unwrap();
    let lists = export.as_object().unwrap();
    assert!(lists.values().all(|list| *list == json!([])), "{export}");
    for tenant in ["ann", "bob"] {
        let runs = agent.get(&format!("/api/v1/tenants/{tenant}/runs")).await;
        assert_eq!(runs["runs"].as_array().unwrap().len(), 1);
    }
    let log = agent.get("/api/v1/audit-log?action=erase_tenant").await;
    let tenant = "bird".parse().unwrap();
    assert_eq!(
        log["entries"][0]["subject"],
        format!("tenant {}", tenant_hash(&tenant))
    );
    assert_eq!(log["entries"][0]["reason"], "request of erased tenant, 7");

    let metrics = reqwest::get(format!("{}/metrics", agent.api()))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(!metrics.contains(CANARY), "{metrics}");
    let said = agent.log().join("\n");
    assert!(!said.contains(CANARY), "{said}");
    assert!(agent.terminate().success());
    let url = format!("sqlite://{}", project.path().join("punctual.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    for sql in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    assert_eq!(found_in(project.path(), &["punctual.db", "known"]), [""; 0]);
}
