//! A store that was restored from an older copy: recognised, held, and skipped or repeated as somebody decides.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use chrono::{DateTime, Utc};
use punctual_domain::FenceMark;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, at_time},
    postgres,
    project::Project,
};

const TENANTS: usize = 10;

/// Users who fall due at nine, and the agent's store.
struct Bench {
    project: Project,
    store_url: Option<String>,
}

impl Bench {
    fn new(store_url: Option<String>) -> Self {
        let project = Project::new(
            json!({"handler": "template", "template": "t.j2"}),
            json!({"default_preferences": {"frequency": "daily"}}),
        );
        project.write("templates/t.j2", "Good morning");
        Self { project, store_url }
    }

    /// A command in this store, that starts at this time of 2 March 2026.
    fn command(&self, time: &str) -> Command {
        let mut command = self.project.command();
        at_time(&mut command, &format!("2026-03-02 {time}"));
        if let Some(url) = &self.store_url {
            command.env("BATCH_STORE_URL", url);
        }
        command
    }

    fn run(&self, time: &str) -> Command {
        let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"});
        let tenants = (0..TENANTS).map(|n| (format!("t{n}"), daily.clone()));
        let preferences = self.project.preferences(tenants);
        let mut command = self.command(time);
        command.args(["run", "--import"]).arg(preferences);
        command
    }

    /// Runs an agent until it has planned, a while before nine.
    async fn start(&self) -> Agent {
        let agent = Agent::start(self.run("08:50:00"));
        let ready = |answer: &Value| answer["status"] == "ready";
        agent.until("/health/ready", ready).await;
        agent
    }

    fn file(&self, name: &str) -> PathBuf {
        self.project.path().join(name)
    }

    /// The mark that the agent remembers.
    fn remembered(&self) -> FenceMark {
        let text = std::fs::read_to_string(self.file("known/fence.json")).unwrap();
        let marks: Vec<FenceMark> = serde_json::from_str(&text).unwrap();
        *marks.last().unwrap()
    }

    /// Starts an agent right before nine, which has planned before, and kills it when all have run and it has made a mark after nine.
    async fn run_at_nine_and_die(&self) {
        let agent = Agent::start(self.run("08:59:58"));
        agent.until("/api/v1/batches", is_over).await;
        let nine: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
        let marked = |_: &Value| self.remembered().at >= nine;
        agent.until("/health/ready", marked).await;
        agent.kill();
    }

    /// Puts the copy in the place of the store.
    fn restore(&self, copy: &Path) {
        for rest in ["punctual.db-wal", "punctual.db-shm"] {
            let _ = std::fs::remove_file(self.file(rest));
        }
        std::fs::copy(copy, self.file("punctual.db")).unwrap();
    }

    /// A bench whose users have run at nine, with a store that was restored from a copy of before.
    async fn restored() -> Self {
        let bench = Self::new(None);
        let agent = bench.start().await;
        let copy = bench.file("copy.db");
        let mut backup = bench.command("08:51:00");
        backup.args(["backup", "--to"]).arg(&copy);
        let done = backup.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let refused = backup.output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        agent.kill();
        bench.run_at_nine_and_die().await;
        bench.restore(&copy);
        bench
    }
}

/// Whether there is a batch, and all are over.
fn is_over(list: &Value) -> bool {
    let batches = list["batches"].as_array().unwrap();
    !batches.is_empty() && batches.iter().all(|batch| !batch["finished_at"].is_null())
}

async fn assert_skipped(agent: &Agent) {
    let list = agent.until("/api/v1/batches", is_over).await;
    let batches = list["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 1, "{list}");
    assert_eq!(batches[0]["progress"]["skipped"], TENANTS, "{list}");
    let runs = agent.get("/api/v1/tenants/t0/runs").await;
    assert_eq!(runs["runs"][0]["error"], "restored", "{runs}");
}

async fn assert_repeated(agent: &Agent) {
    let list = agent.until("/api/v1/batches", is_over).await;
    let batches = list["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 1, "{list}");
    assert_eq!(batches[0]["progress"]["succeeded"], TENANTS, "{list}");
}

/// Says that the store is held, and with which gap.
async fn assert_held(agent: &Agent) {
    let restored = agent.until("/api/v1/restore", |answer| {
        answer["restored"]["due"] == TENANTS
    });
    let gap = restored.await["restored"]["gap"].clone();
    let before_nine = |end: &str| gap[end].as_str().unwrap() < "2026-03-02T09:00:00";
    assert!(before_nine("from") && !before_nine("to"), "{gap}");
    let ready = agent.get("/health/ready").await;
    let first = ready["reasons"][0].as_str().unwrap();
    assert!(
        first.contains("restored from an older copy") && first.contains("punctual-agent restore"),
        "{ready}"
    );
    let batches = agent.get("/api/v1/batches").await;
    assert_eq!(batches["batches"], json!([]));
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_restored_store_waits_until_an_operator_has_decided() {
    let bench = Bench::restored().await;
    let agent = Agent::start(bench.run("09:10:00"));
    assert_held(&agent).await;
    // It stays so over a crash.
    agent.kill();
    let agent = Agent::start(bench.run("09:11:00"));
    assert_held(&agent).await;
    let choice = json!({"choice": "skip"});
    let settled = agent.call(Method::POST, "/api/v1/restore", &choice).await;
    assert_eq!(settled["choice"], "skip");
    assert_skipped(&agent).await;
    // The decision is audited, and holds.
    let log = agent.get("/api/v1/audit-log").await;
    assert_eq!(log["entries"][0]["action"], "restore", "{log}");
    agent.kill();
    let agent = Agent::start(bench.run("09:12:00"));
    let state = agent.get("/api/v1/restore").await;
    assert_eq!(state, json!({"restored": null}));
    assert_skipped(&agent).await;
    assert!(agent.terminate().success());
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_is_to_be_done_with_a_restored_store_can_be_said_at_the_start() {
    let bench = Bench::restored().await;
    let mut repeats = bench.run("09:10:00");
    repeats.args(["--after-restore", "repeat"]);
    let agent = Agent::start(repeats);
    assert_repeated(&agent).await;
    agent.kill();
    bench.restore(&bench.file("copy.db"));
    let mut skips = bench.run("09:20:00");
    skips.env("BATCH_AFTER_RESTORE", "skip");
    let agent = Agent::start(skips);
    assert_skipped(&agent).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_empty_store_in_the_place_of_the_old_one_is_not_taken_silently() {
    let bench = Bench::new(None);
    let agent = bench.start().await;
    agent.kill();
    let mut elsewhere = bench.run("09:10:00");
    let url = format!("sqlite://{}", bench.file("other.db").display());
    elsewhere.env("BATCH_STORE_URL", url);
    let agent = Agent::start(elsewhere);
    agent.until_logged("The store is new").await;
    agent.kill();
    // Back on the right one, nothing is wrong.
    let agent = Agent::start(bench.run("09:11:00"));
    let state = agent.get("/api/v1/restore").await;
    assert_eq!(state, json!({"restored": null}));
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_restored_database_is_held_for_agents_that_know_nothing_of_it_too() {
    let url = postgres::database().await;
    let mut bench = Bench::new(Some(url.clone()));
    assert!(bench.start().await.terminate().success());
    // A copy as pg_dump and psql make it.
    let copy = postgres::copy_of(&url).await;
    bench.run_at_nine_and_die().await;

    bench.store_url = Some(copy);
    let agent = Agent::start(bench.run("09:10:00"));
    assert_held(&agent).await;
    let mut other = bench.run("09:10:00");
    let config = format!("sqlite://{}", bench.file("other.db").display());
    other
        .env("CONFIG_LAST_KNOWN_GOOD_PATH", bench.file("other"))
        .env("CONFIG_STORE_URL", config);
    let other = Agent::start(other);
    assert_held(&other).await;
    let choice = json!({"choice": "repeat"});
    other.call(Method::POST, "/api/v1/restore", &choice).await;
    assert_repeated(&agent).await;
}

#[cfg(feature = "failpoints")]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_process_that_dies_while_it_holds_or_goes_on_leaves_a_whole_store() {
    let bench = Bench::restored().await;
    for (point, goes_on) in [
        ("hold-before-commit", false),
        ("restore-before-commit", false),
        ("restore-after-commit", true),
    ] {
        bench.restore(&bench.file("copy.db"));
        let mut dies = bench.run("09:10:00");
        dies.args(["--after-restore", "skip"])
            .env("FAILPOINTS", format!("{point}=return"));
        assert!(!Agent::spawn(dies).ended().await.success(), "{point}");
        let agent = Agent::start(bench.run("09:11:00"));
        if goes_on {
            assert_skipped(&agent).await;
        } else {
            assert_held(&agent).await;
        }
        agent.kill();
    }
}
