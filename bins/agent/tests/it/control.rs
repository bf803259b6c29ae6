//! Asking the running agent why, and telling it to run, pause and go on, on the command line as an operator does.

use std::process::{Command, Output, Stdio};

use axum::Router;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    agent::{Agent, at_time, command, repository},
    common::serve,
};

const JOB: &str = "instagram_post_preference_based";

/// The agent's command line, asking this agent.
pub fn asking(agent: &Agent, words: &[&str]) -> Command {
    let address = agent.api().trim_start_matches("http://").to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_punctual-agent"));
    command
        .current_dir(repository())
        .env("BATCH_HTTP_ADDR", address)
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .args(words);
    command
}

/// What it answers.
pub fn ask(agent: &Agent, words: &[&str]) -> Output {
    asking(agent, words).output().unwrap()
}

/// What it prints when it succeeds.
pub fn stdout_of(agent: &Agent, words: &[&str]) -> String {
    let output = ask(agent, words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// It refuses what it is asked for, for this reason.
pub fn refuses(agent: &Agent, words: &[&str], reason: &str) {
    let refused = ask(agent, words);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{words:?}: {stderr}");
    assert!(stderr.contains(reason), "{stderr}");
}

fn explained(agent: &Agent, tenant: &str, date: &str) -> String {
    let words = ["explain", "--tenant", tenant, "--job", JOB, "--date", date];
    stdout_of(agent, &words)
}

async fn store(agent: &Agent, tenant: &str, preference: Value) {
    let path = format!("tenants/{tenant}/configs/feature_preferences");
    let body = json!({"config_value": {"instagram_posts": preference}});
    agent.config(Method::PUT, &path, &body).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn it_says_why_and_runs_pauses_and_goes_on_when_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let start = |time: &str| {
        let mut command = command(folder.path());
        at_time(&mut command, &format!("2026-03-02 {time}"));
        Agent::start(command)
    };
    // A busy machine gets through all that is asked in this minute.
    let agent = start("08:59:00");
    let daily = |time: &str| json!({"enabled": true, "frequency": "daily", "preferred_time": time});
    store(&agent, "on_time", daily("09:00")).await;
    store(&agent, "too_late", daily("08:00")).await;
    store(
        &agent,
        "off",
        json!({"enabled": false, "frequency": "daily"}),
    )
    .await;
    agent
        .until(&format!("/api/v1/jobs/{JOB}"), |job| job["tenants"] == 2)
        .await;

    let upcoming = agent.get("/api/v1/schedule/upcoming?hours=26").await;
    let due: Vec<String> = upcoming["upcoming"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|due| due["job_id"] == JOB)
        .map(|due| format!("{} {}", due["at"].as_str().unwrap(), due["items"]))
        .collect();
    let expected = [
        "2026-03-02T09:00:00Z 1",
        "2026-03-03T08:00:00Z 1",
        "2026-03-03T09:00:00Z 1",
    ];
    assert_eq!(due, expected);

    let of_today = |agent: &Agent, tenant: &str| explained(agent, tenant, "2026-03-02");
    let before = of_today(&agent, "on_time");
    assert!(
        before.starts_with(&format!(
            "on_time in {JOB}: will run: due at 2026-03-02 09:00:00 UTC\n"
        )),
        "{before}"
    );
    assert!(before.contains("daily 09:00 UTC"), "{before}");
    let late = of_today(&agent, "too_late");
    assert!(
        late.contains("not run: the schedule was chosen at 2026-03-02 08:59:"),
        "{late}"
    );
    assert!(
        late.contains("due next at 2026-03-03 08:00:00 UTC"),
        "{late}"
    );
    assert!(of_today(&agent, "off").contains("disabled: the preference is switched off"));
    assert!(of_today(&agent, "stranger").contains("has no preference for this feature"));

    assert!(agent.terminate().success());
    // Only what falls due after the process began to plan counts as late.
    let agent = start("08:59:50");
    let runs = "/api/v1/tenants/on_time/runs";
    agent
        .until(runs, |runs| runs["runs"][0]["status"] == "succeeded")
        .await;
    let after = of_today(&agent, "on_time");
    assert!(after.contains("ran, done at 2026-03-02 09:00:"), "{after}");
    let metrics = reqwest::get(format!("{}/metrics", agent.api()))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for stage in ["queued", "started"] {
        let buckets = format!(
            "punctual_fire_lateness_seconds_bucket{{job_id=\"{JOB}\",stage=\"{stage}\",le=\"60\"}} 1"
        );
        assert!(metrics.contains(&buckets), "{metrics}");
    }

    // A manual run: a tenant who has stored nothing gets the job's defaults, if asked for; one who is off does not run.
    let words = [
        "trigger", JOB, "--tenant", "stranger", "--tenant", "off", "--tenant", "off",
    ];
    let refused = ask(&agent, &words);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("1 of those named for")
            && stderr.contains(": stranger; nothing was queued"),
        "{stderr}"
    );
    let queued = stdout_of(&agent, &[&words[..], &["--allow-unknown"]].concat());
    assert!(queued.contains("is queued for 2 items"), "{queued}");
    let manual = agent
        .until("/api/v1/tenants/stranger/runs", |runs| {
            runs["runs"][0]["status"] == "succeeded"
        })
        .await;
    let run = &manual["runs"][0];
    assert!(run["occurrence"].as_str().unwrap().starts_with("run-"));
    assert!(
        run["result"]["text"].as_str().unwrap().contains("Our shop"),
        "{run}"
    );
    let off = agent
        .until("/api/v1/tenants/off/runs", |runs| {
            !runs["runs"].as_array().unwrap().is_empty()
        })
        .await;
    assert_eq!(off["runs"][0]["error"], "disabled");
    // It is a run beside the day's own one.
    stdout_of(&agent, &["trigger", JOB, "--yes"]);
    agent
        .until(runs, |runs| runs["runs"].as_array().unwrap().len() == 2)
        .await;

    let reason = "the renderer is down until Monday";
    assert_eq!(
        stdout_of(&agent, &["pause", JOB, "--reason", reason]),
        format!("{JOB} is paused\n")
    );
    let jobs: Value = serde_json::from_str(&stdout_of(&agent, &["jobs", JOB, "--json"])).unwrap();
    let because = jobs["paused_because"].as_str().unwrap();
    assert!(
        because.starts_with("paused by ") && because.ends_with(&format!(": {reason}")),
        "{because}"
    );
    let status = ask(&agent, &["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let findings = status["findings"].as_array().unwrap();
    let paused = findings
        .iter()
        .find(|finding| finding["id"] == format!("paused/{JOB}"));
    assert_eq!(paused.unwrap()["what"], format!("{JOB} is {because}"));
    assert_eq!(
        agent.get(&format!("/api/v1/jobs/{JOB}")).await["paused"],
        true
    );
    let paused = explained(&agent, "on_time", "2026-03-03");
    assert!(paused.contains("the job is paused"), "{paused}");
    assert_eq!(
        stdout_of(&agent, &["resume", JOB]),
        format!("{JOB} is resumed\n")
    );
    assert!(explained(&agent, "on_time", "2026-03-03").contains("will run"));

    for (words, reason) in [
        (
            &["explain", "--tenant", "a", "--job", "none"][..],
            "job `none` does not exist; the jobs are instagram_post",
        ),
        (
            &["trigger", "product_digest", "--tenant", "x"],
            "product_digest has no item `x`",
        ),
        (&["pause", "none"], "job `none` does not exist"),
    ] {
        refuses(&agent, words, reason);
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_was_missed_is_counted_then_run_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    at_time(&mut command, "2026-03-02 12:00:00");
    let agent = Agent::start(command);
    let at = |time: &str, zone: &str| json!({"enabled": true, "frequency": "daily", "preferred_time": time, "timezone": zone});
    store(&agent, "a", at("09:00", "UTC")).await;
    store(&agent, "b", at("09:00", "UTC")).await;
    // Of this one, the last date has not come yet.
    store(&agent, "west", at("09:00", "Pacific/Honolulu")).await;
    agent
        .until(&format!("/api/v1/jobs/{JOB}"), |job| job["tenants"] == 3)
        .await;
    let backfill = |rest: &[&str]| {
        let words = [
            "backfill",
            JOB,
            "--from",
            "2026-02-28",
            "--to",
            "2026-03-02",
        ];
        stdout_of(&agent, &[&words, rest].concat())
    };
    let counted = format!(
        "{JOB}: 8 items fell due, 8 have not run and would run\n  2026-02-28  3\n  2026-03-01  3\n  2026-03-02  2\n"
    );
    assert_eq!(backfill(&["--preview"]), counted);
    assert_eq!(
        agent.all("/api/v1/batches", "batches").await,
        [] as [Value; 0]
    );

    let of_one = backfill(&["--tenant", "a"]);
    assert!(
        of_one.contains("3 items fell due, 3 have not run and are queued"),
        "{of_one}"
    );
    let done = |wanted: usize| {
        move |runs: &Value| {
            let runs = runs["runs"].as_array().unwrap();
            runs.iter()
                .filter(|run| run["status"] == "succeeded")
                .count()
                == wanted
        }
    };
    agent.until("/api/v1/tenants/a/runs", done(3)).await;
    let of_all = backfill(&["--yes"]);
    assert!(
        of_all.contains("8 items fell due, 5 have not run"),
        "{of_all}"
    );
    for (tenant, runs) in [("b", 3), ("west", 2), ("a", 3)] {
        let path = format!("/api/v1/tenants/{tenant}/runs");
        let runs = agent.until(&path, done(runs)).await;
        assert_eq!(runs["runs"][0]["scheduled_at"].as_str().unwrap().len(), 20);
    }
    let again = backfill(&[]);
    assert!(
        again.contains("8 items fell due, 0 have not run"),
        "{again}"
    );
    let batches = agent.all("/api/v1/batches", "batches").await;
    assert!(
        batches.iter().all(|batch| batch["trigger"] == "backfill"),
        "{batches:?}"
    );

    for (words, reason) in [
        (
            &["--from", "2026-03-02", "--to", "2026-03-01"][..],
            "from: 2026-03-02 is after to",
        ),
        (
            &["--from", "2026-03-03", "--to", "2026-03-04"],
            "a backfill covers past dates only",
        ),
        (
            &[
                "--from",
                "2026-03-01",
                "--to",
                "2026-03-01",
                "--tenant",
                "stranger",
            ],
            "have no stored preference for instagram_posts: stranger",
        ),
    ] {
        refuses(&agent, &[&["backfill", JOB], words].concat(), reason);
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn events_tell_of_a_batch_until_it_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    at_time(&mut command, "2026-03-02 12:00:00");
    let agent = Agent::start(command);
    let url = format!("{}/api/v1/events", agent.api());
    let mut stream = reqwest::get(url).await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let queued = agent
        .call(
            Method::POST,
            "/api/v1/jobs/product_digest/trigger",
            &json!({}),
        )
        .await;
    let mut received = String::new();
    let over = |received: &str| {
        let mut batches = received
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("event: batch\ndata: "))
            .filter_map(|data| serde_json::from_str::<Value>(data).ok());
        batches
            .any(|batch| batch["batch_id"] == queued["batch_id"] && batch["status"] == "completed")
    };
    while !over(&received) {
        let piece = tokio::time::timeout(crate::agent::TEST_TIMEOUT, stream.chunk()).await;
        let piece = piece.expect("an event").unwrap().expect("no end");
        received.push_str(std::str::from_utf8(&piece).unwrap());
    }
    // An open stream does not keep the agent from stopping.
    assert!(agent.terminate().success());
}

#[test]
fn without_an_agent_the_commands_that_ask_it_say_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_punctual-agent"))
        .env("BATCH_HTTP_ADDR", "127.0.0.1:9")
        .args(["pause", "x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("no agent answers at 127.0.0.1:9") && stderr.contains("BATCH_HTTP_ADDR"),
        "{stderr}"
    );
}

#[tokio::test]
async fn what_answers_and_is_not_an_agent_is_named_with_its_status() {
    let answers = [
        (StatusCode::NOT_FOUND, "<html>not here</html>"),
        (StatusCode::UNAUTHORIZED, ""),
        (StatusCode::BAD_REQUEST, r#"{"detail": "no"}"#),
        (StatusCode::BAD_GATEWAY, "no upstream"),
    ];
    for (status, body) in answers {
        let url = serve(Router::new().fallback(move || async move { (status, body) })).await;
        let address = url.trim_start_matches("http://").to_owned();
        let mut command = Command::new(env!("CARGO_BIN_EXE_punctual-agent"));
        command.env("BATCH_HTTP_ADDR", &address).arg("status");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let named = format!("what answers at {address} is not an agent");
        assert!(
            stderr.contains(&named)
                && stderr.contains(&format!("({status})"))
                && stderr.contains("set BATCH_HTTP_ADDR"),
            "{stderr}"
        );
    }
}
