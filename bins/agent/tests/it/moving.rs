//! From the embedded store to `PostgreSQL`: results, dead letters, what waits and how far has been planned go along.

use std::process::{Command, Output};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, at_time},
    postgres,
    project::Project,
};

fn command(project: &Project, instant: &str) -> Command {
    let mut command = project.command();
    at_time(&mut command, instant);
    command.env("BATCH_CHUNK_SIZE", "10");
    command
}

fn moved(project: &Project, instant: &str, to: &str) -> Output {
    let mut command = command(project, instant);
    command.args(["move-store", "--to", to]).output().unwrap()
}

async fn seen(agent: &Agent) -> [Vec<Value>; 4] {
    [
        agent.all("/api/v1/batches", "batches").await,
        agent.all("/api/v1/dead-letters", "dead_letters").await,
        agent.all("/api/v1/tenants/t007/runs", "runs").await,
        agent.all("/api/v1/audit-log", "entries").await,
    ]
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_agent_goes_on_in_postgres_where_it_was_in_sqlite() {
    let project = Project::new(
        json!({"handler": "template", "template": "t.j2"}),
        json!({"default_preferences": {"frequency": "daily"}}),
    );
    project.write(
        "templates/t.j2",
        "{% if item.tenant_id == 't003' %}{{ missing }}{% endif %}Good morning",
    );
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "03:00"});
    let preferences = project.preferences((0..95).map(|n| (format!("t{n:03}"), daily.clone())));
    let mut first = command(&project, "2026-03-02 12:00:00");
    first
        .args(["run", "--look-back", "24h", "--import"])
        .arg(preferences);
    let agent = Agent::start(first);
    let over = |list: &Value| !list["batches"][0]["finished_at"].is_null();
    agent.until("/api/v1/batches", over).await;
    // What a paused job has in its queue waits there.
    let control = async |agent: &Agent, verb: &str| {
        let path = format!("/api/v1/jobs/posts/{verb}");
        agent.call(Method::POST, &path, &json!({})).await
    };
    control(&agent, "pause").await;
    let waiting = control(&agent, "trigger").await;
    let before = seen(&agent).await;
    assert_eq!((before[0].len(), before[1].len()), (2, 1));
    let url = postgres::database().await;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let early = moved(&project, "2026-03-02 12:00:01", &url);
    assert_eq!(early.status.code(), Some(2));
    assert!(
        text(&early.stderr).contains("stop it, wait, and try again"),
        "{}",
        text(&early.stderr)
    );
    assert!(agent.terminate().success());
    // Right after the stop, as the documentation shows it.
    let done = moved(&project, "2026-03-02 12:00:01", &url);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let output = text(&done.stdout);
    for line in [
        " 95 results",
        " 0 skipped_items",
        " 2 batches",
        " 20 chunks\n",
        " 10 chunks waiting",
        " 1 dead_letters",
        " 2 audit_log",
    ] {
        assert!(output.contains(line), "`{line}` is not in\n{output}");
    }
    let again = moved(&project, "2026-03-02 12:30:00", &url);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("is not empty"));

    let mut second = command(&project, "2026-03-02 13:00:00");
    second.env("BATCH_STORE_URL", &url).arg("run");
    let agent = Agent::start(second);
    assert_eq!(seen(&agent).await, before);
    control(&agent, "resume").await;
    let id = waiting["batch_id"].as_str().unwrap();
    let batch = agent
        .until(&format!("/api/v1/batches/{id}"), |batch| {
            batch["status"] == "completed"
        })
        .await;
    assert_eq!(batch["progress"]["processed"], 95);
    // Nothing that had been planned falls due again, and new rows have numbers of their own.
    let batches = agent.all("/api/v1/batches", "batches").await;
    assert_eq!(batches.len(), 2);
    let letters = agent.all("/api/v1/dead-letters", "dead_letters").await;
    assert_eq!(letters.len(), 2);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[test]
fn without_a_store_to_move_it_says_so_and_makes_none() {
    let project = Project::new(
        json!({"handler": "template", "template": "t.j2"}),
        json!({}),
    );
    let output = moved(
        &project,
        "2026-03-02 12:00:00",
        "postgres://user@127.0.0.1:9/none",
    );
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("names a SQLite store that does not exist"),
        "{stderr}"
    );
    assert!(!project.path().join("punctual.db").exists());
}
