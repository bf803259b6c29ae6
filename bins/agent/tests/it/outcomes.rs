//! What happens to an item once it is queued, and what an operator may do about it, on the real agent.

use std::{sync::atomic::Ordering, time::Duration};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    control::{ask, stdout_of},
    failures::{Endpoint, completed, names, start, trigger},
};

async fn preference(agent: &Agent, tenant: &str, preference: Value) {
    let path = format!("tenants/{tenant}/configs/feature_preferences");
    let body = json!({"config_value": {"posts": preference}});
    agent.config(Method::PUT, &path, &body).await;
}

/// A call of the API, with an idempotency key, and what it is answered.
async fn post(agent: &Agent, path: &str, key: Option<&str>, body: &Value) -> (StatusCode, Value) {
    let mut request = Client::new().post(format!("{}/api/v1/{path}", agent.api()));
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let answer = request.json(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

const YESTERDAY: [&str; 6] = [
    "backfill",
    "posts",
    "--from",
    "2026-03-01",
    "--to",
    "2026-03-01",
];

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_was_skipped_is_backfilled_and_nothing_twice() {
    let endpoint = Endpoint {
        takes: Duration::from_millis(100),
        ..Endpoint::default()
    };
    let tenants = names("good", 40);
    let (_project, agent) = start(&endpoint, &tenants, json!({})).await;
    let queued = stdout_of(&agent, &[&YESTERDAY[..], &["--yes"]].concat());
    assert!(
        queued.contains("40 items fell due, 40 have not run"),
        "{queued}"
    );
    let batches = agent.all("/api/v1/batches", "batches").await;
    let batch = batches[0]["batch_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/batches/{batch}");
    let some = |batch: &Value| batch["progress"]["succeeded"].as_u64() > Some(2);
    agent.until(&path, some).await;
    agent
        .call(Method::POST, &format!("{path}/cancel"), &json!({}))
        .await;
    let ended = completed(&agent, &batch).await;
    let ran = ended["progress"]["succeeded"].as_u64().unwrap();
    let preview = stdout_of(&agent, &[&YESTERDAY[..], &["--preview"]].concat());
    let left = format!("40 items fell due, {} have not run", 40 - ran);
    assert!(preview.contains(&left), "{preview}");
    stdout_of(&agent, &[&YESTERDAY[..], &["--yes"]].concat());
    let all_ran = |list: &Value| {
        let batches = list["batches"].as_array().unwrap();
        batches.len() == 2 && batches.iter().all(|batch| batch["finished_at"].is_string())
    };
    agent.until("/api/v1/batches", all_ran).await;
    let preview = stdout_of(&agent, &[&YESTERDAY[..], &["--preview"]].concat());
    assert!(
        preview.contains("40 items fell due, 0 have not run"),
        "{preview}"
    );
    let calls = endpoint.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 40);
    assert!(calls.values().all(|calls| *calls == 1), "{calls:?}");
    assert_eq!(agent.get(&path).await["progress"], ended["progress"]);
    // On the page of the feature each of them sees that it was done, once.
    let feature = json!({"show_runs": true});
    agent
        .config(Method::PUT, "feature-types/posts", &feature)
        .await;
    for tenant in ["good000", "good039"] {
        let path = format!("/tenants/{tenant}/features/posts/past-runs");
        let runs = agent.config_page(&path).await;
        assert_eq!(runs.matches(" — done").count(), 1, "{runs}");
        assert!(!runs.contains("skipped"), "{runs}");
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_replay_loses_no_dead_letter() {
    let endpoint = Endpoint::default();
    let tenants = [names("bad", 3), names("good", 1)].concat();
    let (project, agent) = start(&endpoint, &tenants, json!({})).await;
    completed(&agent, &trigger(&agent).await).await;
    let open = async || {
        agent
            .all("/api/v1/dead-letters?state=open", "dead_letters")
            .await
    };
    let letters = open().await;
    assert_eq!(letters.len(), 3);
    let id = letters[0]["id"].to_string();
    let tenant = letters[0]["tenant_id"].as_str().unwrap().to_owned();
    endpoint.mended.store(true, Ordering::SeqCst);

    // Its tenant is off: the replay is skipped, and the letter is as it was.
    preference(
        &agent,
        &tenant,
        json!({"enabled": false, "frequency": "daily"}),
    )
    .await;
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == 3)
        .await;
    let shown = stdout_of(&agent, &["dead-letters", "replay", &id]);
    let batch = shown.split("batch ").nth(1).unwrap().trim().to_owned();
    assert_eq!(completed(&agent, &batch).await["progress"]["skipped"], 1);
    assert_eq!(open().await, letters);
    let runs = agent
        .all(&format!("/api/v1/tenants/{tenant}/runs"), "runs")
        .await;
    let has = |status: &str| runs.iter().any(|run| run["status"] == status);
    assert!(has("failed") && has("skipped"), "{runs:?}");

    // Its job is gone: it is refused, and of all that are open it is left out.
    let config = project.path().join("batch/batch_config.json");
    let jobs = std::fs::read_to_string(&config).unwrap();
    let other = jobs.replace("\"job_id\":\"posts\"", "\"job_id\":\"others\"");
    assert_ne!(jobs, other);
    std::fs::write(&config, other).unwrap();
    agent
        .until("/api/v1/jobs", |jobs| jobs["jobs"][0]["job_id"] == "others")
        .await;
    for words in [
        &["dead-letters", "replay", &id][..],
        &["dead-letters", "replay", "--job", "posts", "--yes"],
    ] {
        let refused = ask(&agent, words);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("job `posts` does not exist"), "{stderr}");
    }
    let all = stdout_of(&agent, &["dead-letters", "replay", "--all", "--yes"]);
    assert!(
        all.contains("0 dead letters are replayed")
            && all.contains("3 stay open: job `posts` does not exist"),
        "{all}"
    );
    assert_eq!(open().await, letters);

    // Everything is back: nothing was lost.
    std::fs::write(&config, jobs).unwrap();
    preference(
        &agent,
        &tenant,
        json!({"enabled": true, "frequency": "daily"}),
    )
    .await;
    agent
        .until("/api/v1/jobs", |jobs| {
            jobs["jobs"][0]["job_id"] == "posts" && jobs["jobs"][0]["tenants"] == 4
        })
        .await;
    stdout_of(&agent, &["dead-letters", "replay", "--all", "--yes"]);
    agent
        .until(&format!("/api/v1/tenants/{tenant}/runs"), |runs| {
            let runs = runs["runs"].as_array().unwrap();
            runs.iter().any(|run| run["status"] == "succeeded")
        })
        .await;
    assert_eq!(open().await, [] as [Value; 0]);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_key_is_one_batch_also_at_once_and_after_a_restart() {
    let endpoint = Endpoint::default();
    let (project, agent) = start(&endpoint, &names("good", 3), json!({})).await;
    let some = json!({"tenants": ["good000", "good001"]});
    let turned = json!({"tenants": ["good001", "good000"]});
    let mistyped = json!({"tenants": ["godo000"]});
    let (everyone, long) = (json!({"all": true}), "x".repeat(256));
    let trigger = |key, body| post(&agent, "jobs/posts/trigger", Some(key), body);
    let (a, b, c) = tokio::join!(
        trigger("k1", &some),
        trigger("k1", &some),
        trigger("k1", &some)
    );
    assert_eq!(a.0, StatusCode::ACCEPTED, "{}", a.1);
    assert!(a == b && b == c, "{a:?} {b:?} {c:?}");
    // The order of the names means nothing; another tenant does.
    assert_eq!(trigger("k1", &turned).await, a);
    let (status, other) = trigger("k1", &everyone).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        other["detail"]
            .as_str()
            .unwrap()
            .contains("Idempotency-Key `k1`"),
        "{other}"
    );
    assert_ne!(trigger("k2", &some).await.1["batch_id"], a.1["batch_id"]);
    for key in ["", "a b", &long] {
        assert_eq!(
            trigger(key, &some).await.0,
            StatusCode::BAD_REQUEST,
            "{key}"
        );
    }
    // What was refused may be corrected under its key.
    assert_eq!(
        trigger("k3", &mistyped).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(trigger("k3", &some).await.0, StatusCode::ACCEPTED);

    let dates = json!({"from": "2026-03-01", "to": "2026-03-01"});
    let backfill = || post(&agent, "jobs/posts/backfill", Some("k1"), &dates);
    let first = backfill().await;
    assert_eq!(
        (first.0, &first.1["to_run"]),
        (StatusCode::ACCEPTED, &json!(3))
    );
    assert_eq!(backfill().await, first);
    let batches = agent.all("/api/v1/batches", "batches").await;
    assert_eq!(batches.len(), 4);

    assert!(agent.terminate().success());
    let mut command = project.command();
    crate::agent::at_time(&mut command, "2026-03-02 12:10:00");
    let agent = Agent::start(command);
    assert_eq!(
        post(&agent, "jobs/posts/trigger", Some("k1"), &some).await,
        a
    );
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_list_of_no_one_is_refused_and_so_is_a_tenant_who_has_stored_nothing() {
    let endpoint = Endpoint::default();
    let (_project, agent) = start(&endpoint, &names("bad", 2), json!({})).await;
    completed(&agent, &trigger(&agent).await).await;
    let dates = |mut body: Value| {
        body["from"] = json!("2026-03-01");
        body["to"] = json!("2026-03-01");
        body
    };
    let (trigger, backfill) = ("jobs/posts/trigger", "jobs/posts/backfill");
    let (replay, discard) = ("dead-letters/replay", "dead-letters/discard");
    for (path, body, status, reason) in [
        (
            trigger,
            json!({"tenants": []}),
            400,
            "tenants is an empty list",
        ),
        (trigger, json!({"tenants": null}), 400, "null"),
        (
            trigger,
            json!({"tenants": ["bad000"], "all": true}),
            400,
            "tenants and all exclude each other",
        ),
        (
            trigger,
            json!({"tenants": ["bad000", "bda001"]}),
            422,
            "feature posts: bda001;",
        ),
        (
            backfill,
            dates(json!({"tenants": []})),
            400,
            "tenants is an empty list",
        ),
        (
            backfill,
            dates(json!({"tenants": ["bad000", "bda001"]})),
            422,
            "bda001;",
        ),
        (replay, json!({"ids": []}), 400, "ids is an empty list"),
        (discard, json!({"ids": []}), 400, "ids is an empty list"),
        (discard, json!({"ids": null}), 400, "null"),
        (discard, json!({"job_id": null}), 400, "null"),
        (
            discard,
            json!({"all": true, "tenant_id": "bad000"}),
            400,
            "exclude job_id, tenant_id and failure_kind",
        ),
    ] {
        let (answered, problem) = post(&agent, path, None, &body).await;
        assert_eq!(answered, status, "{path} {body}: {problem}");
        let detail = problem["detail"]
            .as_str()
            .unwrap()
            .replace("for posts:", "for feature posts:");
        assert!(detail.contains(reason), "{path} {body}: {detail}");
    }
    assert_eq!(agent.all("/api/v1/batches", "batches").await.len(), 1);
    let open = agent
        .all("/api/v1/dead-letters?state=open", "dead_letters")
        .await;
    assert_eq!(open.len(), 2, "nothing is discarded");
    // With a yes they run, also for a date.
    let unknown = json!({"tenants": ["bda001"], "allow_unknown": true});
    let (status, _) = post(&agent, trigger, None, &unknown).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, count) = post(&agent, backfill, None, &dates(unknown)).await;
    assert_eq!(
        (status, &count["to_run"]),
        (StatusCode::ACCEPTED, &json!(1))
    );
    agent
        .until("/api/v1/tenants/bda001/runs", |runs| {
            let runs = runs["runs"].as_array().unwrap();
            runs.len() == 2 && runs.iter().all(|run| run["status"] == "succeeded")
        })
        .await;
    let (status, answer) = post(&agent, discard, None, &json!({"all": true})).await;
    assert_eq!((status, &answer["discarded"]), (StatusCode::OK, &json!(2)));
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn two_occurrences_of_a_tenant_run_one_at_a_time() {
    for (overlap, second) in [
        ("skip", "skipped"),
        ("wait", "succeeded"),
        ("allow", "succeeded"),
    ] {
        let endpoint = Endpoint {
            takes: Duration::from_secs(6),
            ..Endpoint::default()
        };
        let job = json!({ "overlap": overlap });
        let (_project, agent) = start(&endpoint, &names("good", 1), job).await;
        let first = trigger(&agent).await;
        agent
            .until("/api/v1/tenants/good000/runs", |runs| {
                runs["runs"][0]["status"] == "running"
            })
            .await;
        let later = trigger(&agent).await;
        let ended = completed(&agent, &later).await;
        assert_eq!(ended["progress"][second], 1, "{overlap}: {ended}");
        let (first, later) = (completed(&agent, &first).await, ended);
        let at = |batch: &Value| batch["finished_at"].as_str().unwrap().to_owned();
        match overlap {
            "skip" => assert!(at(&later) < at(&first)),
            _ => assert_eq!(endpoint.calls.lock().unwrap().len(), 2),
        }
        let runs = agent.all("/api/v1/tenants/good000/runs", "runs").await;
        let began = |run: &Value| run["started_at"].as_str().unwrap().to_owned();
        let mut begun: Vec<String> = runs.iter().map(began).collect();
        begun.sort();
        if overlap == "wait" {
            assert!(begun[1] > at(&first), "{runs:?}");
        } else {
            assert!(begun[1] < at(&first), "{overlap}: {runs:?}");
        }
        if overlap == "skip" {
            let skipped = runs.iter().find(|run| run["status"] == "skipped").unwrap();
            assert_eq!(skipped["error"], "overlap");
        }
    }
}
