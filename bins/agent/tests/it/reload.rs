//! The job file is changed under a running agent.

use reqwest::Method;
use serde_json::{Value, json};

use crate::agent::{Agent, command};

fn job(name: &str, feature: &str) -> Value {
    json!({"job_id": name, "type": "individual_batch", "purpose_id": "instagram_generation",
        "preference_based": true, "feature_type": feature, "default_preferences": {"template_overrides": {
            "brand": "us", "topic": "news", "tone": "dry", "length": "short", "focus_areas": [], "hashtags": [],
            "emoji": false, "call_to_action": "!"}}})
}

#[tokio::test]
async fn jobs_are_added_changed_and_removed_while_it_runs_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.json");
    let write =
        |jobs: &[Value]| std::fs::write(&file, json!({ "jobs": jobs }).to_string()).unwrap();
    write(&[job("posts", "instagram_posts")]);
    let mut command = command(folder.path());
    command.env("BATCH_CONFIG_PATH", &file);
    let agent = Agent::start(command);
    let daily = |time: &str| json!({"enabled": true, "frequency": "daily", "preferred_time": time});
    let both = json!({"config_value": {"instagram_posts": daily("09:00"), "etsy_analysis": daily("10:00")}});
    agent
        .config(Method::PUT, "tenants/a/configs/feature_preferences", &both)
        .await;
    let standing = |jobs: &Value| -> Vec<(String, u64)> {
        let jobs = jobs["jobs"].as_array().unwrap().iter();
        jobs.map(|job| {
            (
                job["job_id"].as_str().unwrap().to_owned(),
                // The scheduler takes a new job a moment after it is listed.
                job["tenants"].as_u64().unwrap_or_default(),
            )
        })
        .collect()
    };
    let until = async |expected: &[(&str, u64)]| {
        agent
            .until("/api/v1/jobs", |jobs| {
                let found = standing(jobs);
                let found: Vec<_> = found.iter().map(|(name, n)| (name.as_str(), *n)).collect();
                found == expected
            })
            .await
    };
    until(&[("posts", 1)]).await;

    write(&[
        job("posts", "instagram_posts"),
        job("analysis", "etsy_analysis"),
    ]);
    until(&[("posts", 1), ("analysis", 1)]).await;
    // It follows the feed as the others do.
    let moved = json!({"config_value": {"instagram_posts": daily("09:00"), "etsy_analysis": daily("11:30")}});
    agent
        .config(Method::PUT, "tenants/a/configs/feature_preferences", &moved)
        .await;
    agent
        .until("/api/v1/jobs/analysis", |job| {
            job.to_string().contains("daily 11:30 UTC")
        })
        .await;

    std::fs::write(&file, "{\"jobs\": [{\"job_id\": \"a b\"").unwrap();
    let warned = |ready: &Value, yes: bool| {
        ready["status"] == "ready"
            && ready["warnings"].to_string().contains("are not in effect") == yes
    };
    agent
        .until("/health/ready", |ready| warned(ready, true))
        .await;
    until(&[("posts", 1), ("analysis", 1)]).await;
    agent.until_logged("the previous jobs stay in effect").await;

    write(&[job("analysis", "etsy_analysis")]);
    until(&[("analysis", 1)]).await;
    agent
        .until("/health/ready", |ready| warned(ready, false))
        .await;
    assert!(agent.terminate().success());
}
