//! The handler `command`: a program that the agent runs for each item, from its exit code to what an operator sees.

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::{Value, json};

use crate::{
    agent::Agent,
    common::{daily_with, until},
    control::stdout_of,
    failures::{completed, trigger},
    project::Project,
};

/// Does for each tenant what its name says, and notes each of its runs. Its argument is a folder.
const PROGRAM: &str = r#"#!/bin/sh
echo "$PUNCTUAL_IDEMPOTENCY_KEY${PUNCTUAL_DRY_RUN:+ dry}" >> "$1/runs"
tenant=${PUNCTUAL_IDEMPOTENCY_KEY#posts/}
tenant=${tenant%%/*}
is_first() { mkdir "$1" 2> /dev/null; }
case $tenant in
done) cat ;;
idle) echo "no news"; exit 3 ;;
busy) if is_first "$1/busy"; then exit 75; fi; echo '{"calls": 2}' ;;
killed) if is_first "$1/killed"; then kill -KILL $$; fi; echo "at last" ;;
broken) echo "no such customer, says $CRM_KEY" >&2; exit 1 ;;
slow)
    if is_first "$1/slow"; then
        trap '' TERM
        sleep 600 &
        echo "$!" >> "$1/ids"
        echo "$$" >> "$1/ids"
        wait
    fi
    echo "ran again" ;;
esac
"#;

/// A project whose job runs the program.
fn project() -> Project {
    let project = Project::new(json!({}), json!({}));
    let program = project.write("program.sh", PROGRAM);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let purpose = json!({"handler": "command", "program": program, "args": [project.path()], "env": ["CRM_KEY"]});
    let purposes = json!({"purposes": {"write": purpose}});
    project.write("batch/purposes.json", &purposes.to_string());
    project
}

fn command(project: &Project) -> Command {
    let mut command = project.command();
    command.env("CRM_KEY", "canary-crm");
    command
}

/// An agent that knows these tenants.
async fn start_with(project: &Project, tenants: &[&str]) -> Agent {
    let preference = daily_with(&json!({"tone": "dry"}));
    let tenants = tenants
        .iter()
        .map(|tenant| ((*tenant).to_owned(), preference.clone()));
    project.run(command(project), tenants).await
}

/// The lines of a file that the program writes.
fn lines(project: &Project, name: &str) -> Vec<String> {
    let text = fs::read_to_string(project.path().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Whether a process exists and is not a zombie, which only waits for its parent.
fn is_running(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    state.is_some_and(|state| !"ZX".contains(state))
}

#[tokio::test]
async fn the_exit_code_of_a_program_decides_what_comes_of_its_item() {
    let project = project();
    let tenants = ["done", "idle", "busy", "killed", "broken"];
    let agent = start_with(&project, &tenants).await;
    let batch = completed(&agent, &trigger(&agent).await).await;
    let progress = |name: &str| batch["progress"][name].as_u64().unwrap();
    assert_eq!(
        ["succeeded", "nothing_to_do", "failed"].map(progress),
        [3, 1, 1],
        "{batch}"
    );

    let path = format!(
        "/api/v1/batches/{}/results",
        batch["batch_id"].as_str().unwrap()
    );
    let results = agent.all(&path, "results").await;
    let results: HashMap<&str, &Value> = results
        .iter()
        .map(|result| (result["tenant_id"].as_str().unwrap(), result))
        .collect();
    // It has written what it got.
    let item = &results["done"]["result"];
    assert_eq!(
        (
            &item["tenant_id"],
            &item["preference"]["template_overrides"]["tone"]
        ),
        (&json!("done"), &json!("dry")),
        "{item}"
    );
    assert_eq!(results["idle"]["error"], "no news");
    for (tenant, output) in [
        ("busy", json!({"calls": 2})),
        ("killed", json!({"text": "at last"})),
    ] {
        let result = results[tenant];
        assert_eq!(
            (&result["result"], &result["attempts"]),
            (&output, &json!(2)),
            "{result}"
        );
        let runs = lines(&project, "runs");
        let own = format!("posts/{tenant}/");
        let keys: Vec<&String> = runs.iter().filter(|key| key.starts_with(&own)).collect();
        assert!(keys.len() == 2 && keys[0] == keys[1], "{runs:?}");
    }

    let letters = agent.all("/api/v1/dead-letters", "dead_letters").await;
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}");
    };
    let reason = letter["reason"].as_str().unwrap();
    let expected = "program.sh ended with exit code 1: no such customer, says [key]";
    assert!(reason.ends_with(expected), "{reason}");
    assert_eq!(
        (&letter["tenant_id"], &letter["attempts"]),
        (&json!("broken"), &json!(1))
    );
    let log = agent.log().join("\n");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn a_preview_shows_what_a_program_would_get_and_runs_it_only_when_asked() {
    let project = project();
    let agent = start_with(&project, &["done"]).await;
    let words = ["preview", "--tenant", "done", "--job", "posts", "--render"];
    let preview = |more: &[&str]| -> Value {
        let shown = stdout_of(&agent, &[&words[..], &["--json"], more].concat());
        serde_json::from_str(&shown).unwrap()
    };
    let shown = preview(&[]);
    assert_eq!(shown["status"], "rendered", "{shown}");
    let content = &shown["content"];
    assert_eq!(content["body"]["tenant_id"], "done", "{shown}");
    let line = content["to"].as_str().unwrap();
    let program = project.path().join("program.sh");
    assert!(line.starts_with(program.to_str().unwrap()), "{line}");
    let text = stdout_of(&agent, &words);
    assert!(
        [
            "would be sent now",
            "Input of the program",
            "\"tone\": \"dry\""
        ]
        .iter()
        .all(|part| text.contains(part)),
        "{text}"
    );
    assert_eq!(lines(&project, "runs"), [] as [&str; 0]);

    let called = preview(&["--call"]);
    assert_eq!(called["status"], "called", "{called}");
    assert_eq!(called["answer"]["tenant_id"], "done", "{called}");
    let runs = lines(&project, "runs");
    assert!(runs.len() == 1 && runs[0].ends_with(" dry"), "{runs:?}");
    assert_eq!(agent.get("/api/v1/batches").await["batches"], json!([]));
}

#[tokio::test]
async fn a_stop_ends_a_program_with_its_group_and_its_item_runs_after_the_next_start() {
    let project = project();
    let agent = start_with(&project, &["slow"]).await;
    let batch = trigger(&agent).await;
    until(|| lines(&project, "ids").len() == 2).await;
    let ids = lines(&project, "ids");
    assert!(ids.iter().all(|id| is_running(id)), "{ids:?}");
    // Both ignore that they are asked to end.
    assert!(agent.terminate().success());
    until(|| !ids.iter().any(|id| is_running(id))).await;
    assert_eq!(lines(&project, "runs").len(), 1);

    let agent = Agent::start(command(&project));
    let batch = completed(&agent, &batch).await;
    assert_eq!(batch["progress"]["succeeded"], 1, "{batch}");
    let runs = lines(&project, "runs");
    assert!(runs.len() == 2 && runs[0] == runs[1], "{runs:?}");
    let of_tenant = agent.get("/api/v1/tenants/slow/runs").await;
    let output = json!({"text": "ran again"});
    assert_eq!(of_tenant["runs"][0]["result"], output, "{of_tenant}");
}
