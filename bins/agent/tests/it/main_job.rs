//! The main job end to end: preferences in, a slot falls due, every tenant's own text out; a change moves a
//! tenant, a tenant who is off does not run.

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{Agent, at_time, command};

fn preference(time: &str, enabled: bool, overrides: &Value) -> Value {
    json!({"config_value": {"instagram_posts": {
        "enabled": enabled, "frequency": "daily", "preferred_time": time, "timezone": "Europe/London",
        "template_overrides": overrides
    }}})
}

fn import_file(folder: &TempDir, tenants: &[(&str, Value)]) -> std::path::PathBuf {
    let line = |(tenant, body): &(&str, Value)| {
        json!({"tenant_id": tenant, "updated_at": "2026-01-01T00:00:00Z", "config_value": body["config_value"]})
            .to_string()
    };
    let path = folder.path().join("preferences.ndjson");
    std::fs::write(
        &path,
        tenants.iter().map(line).collect::<Vec<_>>().join("\n"),
    )
    .unwrap();
    path
}

fn starting(folder: &TempDir, instant: &str) -> std::process::Command {
    let mut command = command(folder.path());
    command.env("CONFIG_POLL_INTERVAL", "1");
    at_time(&mut command, instant);
    command
}

async fn runs(agent: &Agent, tenant: &str, at_least: usize) -> Vec<Value> {
    let path = format!("/api/v1/tenants/{tenant}/runs");
    let ended = |run: &Value| run["status"] != "running";
    let answer = agent
        .until(&path, |answer| {
            let runs = answer["runs"].as_array().unwrap();
            runs.len() >= at_least && runs.iter().all(ended)
        })
        .await;
    answer["runs"].as_array().unwrap().clone()
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn every_tenant_gets_their_own_text_at_their_own_time() {
    let folder = tempfile::tempdir().unwrap();
    let dry = json!({"brand": "Slate & Co", "tone": "dry", "length": "short", "topic": "rain", "emoji": false});
    let bold = json!({"brand": "Ember Goods", "tone": "bold", "focus_areas": ["price"], "hashtags": ["one", "two"]});
    let file = import_file(
        &folder,
        &[
            ("dry", preference("09:00", true, &dry)),
            ("bold", preference("09:00", true, &bold)),
            ("moves", preference("09:00", true, &json!({}))),
            ("stops", preference("09:00", true, &json!({}))),
            ("off", preference("09:00", false, &json!({}))),
        ],
    );

    // Day one: the slot falls due three seconds after the start.
    let mut first = starting(&folder, "2026-03-02 08:59:57");
    first.args(["run", "--import"]).arg(&file);
    let agent = Agent::start(first);
    agent
        .until("/health/ready", |ready| ready["status"] == "ready")
        .await;
    let jobs = agent.get("/api/v1/jobs").await;
    assert_eq!(
        jobs["jobs"][0]["slots"][0]["slot"],
        "daily 09:00 Europe/London"
    );
    assert_eq!(
        jobs["jobs"][0]["slots"][0]["tenants"], 4,
        "a tenant that is switched off has no slot"
    );

    let run = &runs(&agent, "dry", 1).await[0];
    assert_eq!(run["status"], "succeeded");
    assert_eq!(
        (run["occurrence"].as_str(), run["scheduled_at"].as_str()),
        (Some("2026-03-02"), Some("2026-03-02T09:00:00Z"))
    );
    assert_eq!(
        run["result"]["text"],
        "It is 2026-03-02. Slate & Co has something to say.\n\nToday: rain.\n\n\
         Tell us what you think in the comments.\n\n#smallbusiness"
    );
    assert_eq!(
        run["preference"]["template_overrides"]["call_to_action"],
        "Tell us what you think in the comments."
    );
    let text = runs(&agent, "bold", 1).await[0]["result"]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.starts_with("🔥 Ember Goods does not do ordinary."),
        "{text}"
    );
    assert!(
        text.contains("• Price: easy on your wallet.") && text.ends_with("#one #two"),
        "{text}"
    );
    let batch_id = run["batch_id"].as_str().unwrap().to_owned();
    let batch = agent
        .until(&format!("/api/v1/batch/{batch_id}"), |batch| {
            batch["status"] == "completed"
        })
        .await;
    assert_eq!(
        (&batch["progress"]["total"], &batch["progress"]["succeeded"]),
        (&json!(4), &json!(4))
    );
    assert_eq!(batch["progress"]["percentage"], 100.0);
    assert_eq!(
        agent
            .all(&format!("/api/v1/batches/{batch_id}/results"), "results")
            .await
            .len(),
        4
    );
    assert!(
        agent.get("/api/v1/tenants/off/runs").await["runs"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    // A change over HTTP moves one tenant's next occurrence, and switches another off.
    agent
        .config(
            Method::PUT,
            "tenants/moves/configs/feature_preferences",
            &preference("10:30", true, &json!({})),
        )
        .await;
    agent
        .config(
            Method::PUT,
            "tenants/stops/configs/feature_preferences",
            &preference("09:00", false, &json!({})),
        )
        .await;
    let jobs = agent
        .until("/api/v1/jobs", |jobs| {
            jobs["jobs"][0]["tenants"] == 3
                && jobs["jobs"][0]["slots"].as_array().unwrap().len() == 2
        })
        .await;
    let moved = &jobs["jobs"][0]["slots"][1];
    assert_eq!(
        (moved["slot"].as_str(), moved["next"].as_str()),
        (
            Some("daily 10:30 Europe/London"),
            Some("2026-03-02T10:30:00Z")
        )
    );
    assert!(agent.terminate().success());

    // The same day at the new time: the tenant has run today, so nothing more.
    let agent = Agent::start(starting(&folder, "2026-03-02 10:29:58"));
    agent
        .until("/api/v1/batches", |list| {
            list["batches"][0]["slot"] == "daily 10:30 Europe/London"
        })
        .await;
    let batches = agent
        .until("/api/v1/batches", |list| {
            list["batches"][0]["status"] == "completed"
        })
        .await;
    assert_eq!(batches["batches"][0]["progress"]["skipped"], 1);
    assert_eq!(
        runs(&agent, "moves", 1).await.len(),
        1,
        "at most one run per job, tenant and date"
    );
    assert!(agent.terminate().success());

    // The next day: tenants who stayed run at 09:00, tenants who moved at 10:30, tenants who stopped do not run.
    let agent = Agent::start(starting(&folder, "2026-03-03 08:59:58"));
    assert_eq!(runs(&agent, "dry", 2).await[0]["occurrence"], "2026-03-03");
    assert_eq!(runs(&agent, "moves", 1).await.len(), 1);
    assert!(agent.terminate().success());
    let agent = Agent::start(starting(&folder, "2026-03-03 10:29:58"));
    assert_eq!(
        runs(&agent, "moves", 2).await[0]["scheduled_at"],
        "2026-03-03T10:30:00Z"
    );
    assert_eq!(runs(&agent, "stops", 1).await.len(), 1);
    let products = agent
        .get("/api/v1/tenants/*/runs?job_id=product_digest")
        .await;
    assert!(
        products["runs"][0]["result"]["text"]
            .as_str()
            .unwrap()
            .contains("Tall mug (ceramics): 28 EUR, sold out")
    );
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_tenant_switched_off_while_queued_is_skipped_and_a_broken_one_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let file = import_file(&folder, &[("a", preference("09:00", true, &json!({})))]);
    let mut first = starting(&folder, "2026-03-02 08:00:00");
    first.args(["run", "--import"]).arg(&file);
    let agent = Agent::start(first);
    agent
        .until("/health/ready", |ready| ready["status"] == "ready")
        .await;
    // A name the template needs and a wrong value leaves unusable: the item fails alone, with the reason.
    let broken = preference("08:01", true, &json!({"focus_areas": 7}));
    agent
        .config(
            Method::PUT,
            "tenants/b/configs/feature_preferences",
            &broken,
        )
        .await;
    agent
        .until("/api/v1/jobs", |jobs| jobs["jobs"][0]["tenants"] == 2)
        .await;
    assert!(agent.terminate().success());

    let agent = Agent::start(starting(&folder, "2026-03-02 09:00:30"));
    let run = &runs(&agent, "b", 1).await[0];
    assert_eq!(
        (run["status"].as_str(), run["attempts"].as_u64()),
        (Some("failed"), Some(1))
    );
    assert!(
        run["error"]
            .as_str()
            .unwrap()
            .contains("instagram_post.txt.j2"),
        "{run}"
    );
    assert_eq!(
        runs(&agent, "a", 1).await[0]["status"],
        "succeeded",
        "caught up: it was missed by half a minute"
    );
    assert_eq!(
        agent.get("/api/v1/quarantine").await["quarantine"],
        json!([])
    );
}
