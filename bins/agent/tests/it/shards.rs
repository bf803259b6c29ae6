//! Two agents divide the tenants: each runs its own, refuses the other's, and its store takes no other shard by mistake.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{agent::Agent, common::FAR_FROM_NOW, failures::trigger, project::Project};

const TENANTS: usize = 60;

fn command(project: &Project, url: &str, shard: &str) -> std::process::Command {
    let mut command = project.command();
    let own = |name: &str| project.path().join(format!("{}-{name}", &shard[..1]));
    command
        .env("CONFIG_SERVICE_URL", url)
        .env("CONFIG_LAST_KNOWN_GOOD_PATH", own("known"))
        .env(
            "BATCH_STORE_URL",
            format!("sqlite://{}", own("store.db").display()),
        )
        .env("BATCH_SHARD", shard);
    command
}

/// The tenants of a run of all.
async fn run_all(agent: &Agent) -> BTreeSet<String> {
    let path = format!("/api/v1/batches/{}", trigger(agent).await);
    agent
        .until(&path, |batch| batch["status"] == "completed")
        .await;
    let results = agent.all(&format!("{path}/results"), "results").await;
    let ids = results.iter().map(|result| result["tenant_id"].as_str());
    ids.map(|id| id.unwrap().to_owned()).collect()
}

#[tokio::test]
async fn two_agents_run_each_tenant_once_and_send_operators_to_the_other() {
    let template = json!({"handler": "template", "template": "hello.txt"});
    let project = Project::new(
        template,
        json!({"default_preferences": {"frequency": "daily"}}),
    );
    project.write("templates/hello.txt", "Hello {{ tenant_id }}");
    let daily = json!({"enabled": true, "preferred_time": *FAR_FROM_NOW});
    let tenant = |n| (format!("t{n:03}"), daily.clone());
    let preferences = project.preferences((0..TENANTS).map(tenant));
    let url = project.serve(&preferences).await;

    let agents = ["1/2", "2/2"].map(|shard| Agent::start(command(&project, &url, shard)));
    for agent in &agents {
        agent
            .until("/api/v1/jobs/posts", |job| job["loaded"] == true)
            .await;
    }
    let ours = run_all(&agents[0]).await;
    let others = run_all(&agents[1]).await;
    assert!(ours.is_disjoint(&others) && ours.len().min(others.len()) > TENANTS / 5);
    assert_eq!(ours.len() + others.len(), TENANTS);

    // Both say whose a tenant is.
    let other = others.first().unwrap();
    let explain = format!("/api/v1/tenants/{other}/explain?job_id=posts");
    assert_eq!(agents[1].get(&explain).await["tenant_id"], **other);
    let body = json!({"tenants": [other]}).to_string();
    let client = reqwest::Client::new();
    for call in [
        client.get(format!("{}{explain}", agents[0].api())),
        client
            .post(format!("{}/api/v1/jobs/posts/trigger", agents[0].api()))
            .body(body),
    ] {
        let response = call.send().await.unwrap();
        assert_eq!(response.status(), 421);
        let problem: Value = response.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("ask the agent of 2/2"), "{detail}");
    }
    for (path, expected) in [
        (format!("/tenants/{other}"), "ask the agent of 2/2"),
        ("/replicas".to_owned(), "<strong>1/2</strong>"),
    ] {
        let page = client.get(format!("{}{path}", agents[0].api()));
        let page = page.send().await.unwrap().text().await.unwrap();
        assert!(page.contains(expected), "{page}");
    }

    let [first, second] = agents;
    assert!(first.terminate().success() && second.terminate().success());
    let mut wrong = command(&project, &url, "1/2");
    let output = wrong.env("BATCH_SHARD", "1/3").arg("run").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("BATCH_SHARD=1/3") && errors.contains("1/3 from "),
        "{errors}"
    );
}
