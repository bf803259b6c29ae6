//! An organization's preferences, from the Config Database to what its members' runs are called with.

use std::process::Command;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    common::FAR_FROM_NOW,
    control::{refuses, stdout_of},
    preview::Hook,
    project::Project,
};

/// Stores a configuration in the Config Database at `url`.
async fn store(url: &str, path: &str, value: Value) {
    let body = json!({ "config_value": value }).to_string();
    let call = Client::new().put(format!("{url}/api/v1/{path}")).body(body);
    let answer = call.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
}

/// Runs the job for these tenants, and waits until it is done.
async fn run(agent: &Agent, tenants: &[&str]) {
    let run = agent
        .call(
            Method::POST,
            "/api/v1/jobs/posts/trigger",
            &json!({ "tenants": tenants }),
        )
        .await;
    let batch = format!("/api/v1/batches/{}", run["batch_id"].as_str().unwrap());
    agent
        .until(&batch, |batch| batch["status"] == "completed")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organizations_preference_runs_its_members_until_they_leave() {
    let hook = Hook::default();
    let purpose =
        json!({"handler": "webhook", "url": hook.serve().await, "allow_private_addresses": true});
    let project = Project::new(purpose, json!({}));
    let minutes = if FAR_FROM_NOW.ends_with(":00") {
        "30"
    } else {
        "00"
    };
    let own_time = format!("{}:{minutes}", &FAR_FROM_NOW[..2]);
    let own = json!({"preferred_time": own_time, "template_overrides": {"tone": "dry"}});
    let none = project.preferences(std::iter::empty());
    let url = project.serve(&none).await;
    let command = |words: &[&str]| -> Command {
        let mut command = project.command();
        command.env("CONFIG_SERVICE_URL", &url).args(words);
        command
    };
    let agent = Agent::start(command(&["run"]));
    for tenant in ["with", "without"] {
        let profile = json!({"organization_id": "acme"});
        store(&url, &format!("tenants/{tenant}/configs/profile"), profile).await;
    }
    let layer = json!({"enabled": true, "frequency": "daily", "preferred_time": *FAR_FROM_NOW,
        "template_overrides": {"tone": "warm", "length": 3}});
    let of_acme = "organizations/acme/configs/feature_preferences";
    store(&url, of_acme, json!({ "posts": layer })).await;
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == 2)
        .await;
    let of_with = "tenants/with/configs/feature_preferences";
    store(&url, of_with, json!({ "posts": own })).await;
    let explain = |tenant| ["explain", "--tenant", tenant, "--job", "posts"];
    agent
        .until("/api/v1/tenants/with/explain?job_id=posts", |explained| {
            explained["slot"]
                .as_str()
                .is_some_and(|slot| slot.contains(&own_time))
        })
        .await;
    for (tenant, time) in [("with", &own_time), ("without", &*FAR_FROM_NOW)] {
        let explained = stdout_of(&agent, &explain(tenant));
        assert!(
            explained.contains("organization acme") && explained.contains(time),
            "{explained}"
        );
    }

    run(&agent, &["with"]).await;
    stdout_of(&agent, &["trigger", "posts", "--tenant", "without"]);
    agent
        .until("/api/v1/tenants/without/runs", |runs| {
            runs["runs"][0]["status"] == "succeeded"
        })
        .await;
    let called = hook.calls();
    let of = |tenant: &str| {
        let found = called.iter().find(|(_, body)| body["tenant_id"] == tenant);
        &found.unwrap().1
    };
    for (tenant, tone) in [("with", "dry"), ("without", "warm")] {
        let body = of(tenant);
        assert!(body["organization"].to_string().contains("acme"), "{body}");
        let body = body.to_string();
        assert!(body.contains(&format!("\"tone\":\"{tone}\"")), "{body}");
        assert!(body.contains("\"length\":3"), "{body}");
    }

    // A program without a mirror reads the tenant alone.
    for (tenant, fields) in [
        ("with", "enabled, frequency, template_overrides"),
        (
            "without",
            "enabled, frequency, preferred_time, template_overrides",
        ),
    ] {
        let shown = command(&["preview", "--tenant", tenant, "--feature", "posts"]).output();
        let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
        assert!(
            shown.contains(&format!("from organization acme: {fields}")),
            "{shown}"
        );
    }

    store(
        &url,
        "tenants/without/configs/profile",
        json!({"organization_id": null}),
    )
    .await;
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == 1)
        .await;
    let again = ["trigger", "posts", "--tenant", "without"];
    refuses(&agent, &again, "nothing was queued");
    let explained = stdout_of(&agent, &explain("without"));
    assert!(!explained.contains("organization acme"), "{explained}");
}
