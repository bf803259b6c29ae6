//! kill -9 again and again, on either store, with an endpoint that counts: nothing is lost, nothing is committed twice.
//! `KILLS=200 OCCURRENCES=100000` makes it long. `PostgreSQL` itself goes down in mid-batch, too: its connections end, or
//! with `RESTARTS=20` the server is restarted as if the power had gone, which no other test may run beside.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    agent::{Agent, TEST_TIMEOUT},
    common::daily,
    counting::Counting,
    failures::trigger,
    postgres::{database, disconnect_all},
    project::Project,
};

pub fn number(name: &str, usual: usize) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(usual, |text| text.parse().expect("a whole number"))
}

async fn soak(store: &str, store_url: Option<String>) {
    let (kills, occurrences) = (number("KILLS", 8), number("OCCURRENCES", 2_000));
    let endpoint = Counting::default();
    let purpose = json!({"handler": "webhook", "url": endpoint.serve(Duration::from_millis(1)).await,
        "allow_private_addresses": true});
    let project = Project::new(
        purpose,
        json!({"default_preferences": {"frequency": "daily"}}),
    );
    let tenant = |n| (format!("t{n:06}"), daily());
    let preferences = project.preferences((0..occurrences).map(tenant));
    let start = |import: bool| {
        let preferences = import.then_some(preferences.as_path());
        Agent::start(project.run_in(store_url.as_deref(), preferences))
    };
    let agent = start(true);
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == occurrences)
        .await;
    let path = format!("/api/v1/batches/{}", trigger(&agent).await);
    let processed = async |agent: &Agent| {
        let batch = agent.get(&path).await;
        batch["progress"]["processed"].as_u64().unwrap() as usize
    };
    let (mut agent, mut killed) = (agent, 0);
    let mut random = fastrand::Rng::with_seed(7);
    while killed < kills {
        // After a share of what is left, and some milliseconds more, wherever that is.
        let done = processed(&agent).await;
        let goal = done + (occurrences - done) / (2 * (kills - killed)).max(2);
        let began = Instant::now();
        while processed(&agent).await < goal.min(occurrences - 1) {
            assert!(began.elapsed() < TEST_TIMEOUT, "{}", agent.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..40))).await;
        agent.kill();
        killed += 1;
        agent = start(false);
    }
    agent
        .until_within(Duration::from_mins(10), &path, |batch| {
            batch["status"] == "completed"
        })
        .await;
    let batch = agent.get(&path).await;
    let succeeded = batch["progress"]["succeeded"].as_u64().unwrap() as usize;
    let results = agent.all(&format!("{path}/results"), "results").await;
    let mut tenants: Vec<&str> = results
        .iter()
        .map(|result| result["tenant_id"].as_str().unwrap())
        .collect();
    tenants.sort_unstable();
    tenants.dedup();
    let (called_for, more) = endpoint.counts();
    println!(
        "{store}: {killed} kills over {occurrences} occurrences: lost {}, committed twice {}, calls above one per \
         occurrence {more}",
        occurrences - tenants.len(),
        results.len() - tenants.len(),
    );
    assert_eq!((tenants.len(), results.len()), (occurrences, occurrences));
    assert_eq!(
        (succeeded, called_for),
        (occurrences, occurrences),
        "{batch}"
    );
    assert!(agent.terminate().success());
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_on_sqlite_however_often_it_is_killed() {
    soak("SQLite", None).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn nothing_is_lost_or_doubled_on_postgresql_however_often_it_is_killed() {
    soak("PostgreSQL", Some(database().await)).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_server_that_goes_down_loses_nothing_that_was_acknowledged() {
    let restarts = number("RESTARTS", 0);
    let (times, occurrences) = (restarts.max(3), number("OCCURRENCES", 2_000));
    let endpoint = Counting::default();
    let takes = Duration::from_millis(20);
    let purpose = json!({"handler": "webhook", "url": endpoint.serve(takes).await, "allow_private_addresses": true});
    let project = Project::new(
        purpose,
        json!({"default_preferences": {"frequency": "daily"}}),
    );
    let preferences = project.preferences((0..occurrences).map(|n| (format!("t{n:06}"), daily())));
    let url = database().await;
    let mut command = project.command();
    command
        .env("BATCH_CHUNK_SIZE", "20")
        .env("BATCH_STORE_URL", &url)
        .args(["run", "--import"])
        .arg(preferences);
    let agent = Agent::start(command);
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == occurrences)
        .await;
    let path = format!("/api/v1/batches/{}", trigger(&agent).await);
    let succeeded = async || {
        let batch = agent.try_get(&path).await?;
        batch["progress"]["succeeded"].as_u64()
    };
    let (mut slowest, mut acknowledged) = (Duration::ZERO, 0);
    for time in 0..times {
        let goal = (occurrences * (time + 1) / (times + 2)) as u64;
        let began = Instant::now();
        while succeeded().await.unwrap_or(0) < goal {
            assert!(began.elapsed() < TEST_TIMEOUT, "{}", agent.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        acknowledged = acknowledged.max(succeeded().await.unwrap_or(0));
        if restarts > 0 {
            let restart = std::env::var("TEST_POSTGRES_RESTART").unwrap();
            let status = std::process::Command::new("sh")
                .args(["-c", &restart])
                .status();
            assert!(status.unwrap().success());
        } else {
            disconnect_all(&url).await;
        }
        let back = Instant::now();
        loop {
            if let Some(now) = succeeded().await {
                assert!(
                    now >= acknowledged,
                    "{now} of {acknowledged} that were acknowledged"
                );
                if now > acknowledged {
                    break;
                }
            }
            assert!(back.elapsed() < TEST_TIMEOUT, "{}", agent.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest = slowest.max(back.elapsed());
    }
    agent
        .until_within(Duration::from_mins(10), &path, |batch| {
            batch["status"] == "completed"
        })
        .await;
    let results = agent.all(&format!("{path}/results"), "results").await;
    let (called_for, more) = endpoint.counts();
    println!(
        "{times} {}: acknowledged results lost 0, slowest recovery {slowest:.1?}, calls above one per occurrence {more}",
        if restarts > 0 {
            "restarts"
        } else {
            "disconnections"
        },
    );
    assert_eq!((results.len(), called_for), (occurrences, occurrences));
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}
