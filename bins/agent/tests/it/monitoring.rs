//! A real Prometheus reads the agent, and the rules and the dashboard in docs/operations are about what it finds.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use punctual_telemetry::METRICS;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    agent::{Agent, TEST_TIMEOUT, at_time, command, repository, without_shop},
    common::free_port,
};

const KEY: &str = "the-operators-key";

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn prometheus_reads_the_agent_and_knows_every_metric_of_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command.env("BATCH_API_KEY", KEY);
    without_shop(&mut command, folder.path());
    // Before nine in Berlin, so that something falls due while it is looked at: once it has imported all on a busy machine, too.
    at_time(&mut command, "2026-03-02 07:59:45");
    command.args([
        "run",
        "--look-back",
        "24h",
        "--import",
        "data/preferences/sample.ndjson",
    ]);
    let agent = Agent::start(command);
    let off = json!({"config_value": {"instagram_posts": {"enabled": false}}});
    let path = "tenants/user1/configs/feature_preferences";
    agent.config(Method::PUT, path, &off).await;
    let target = agent.api().trim_start_matches("http://");
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("key"), KEY).unwrap();
    let rules = repository()
        .join("docs/operations/alerts.yml")
        .canonicalize()
        .unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n\
         - job_name: punctual\n  authorization: {{credentials_file: '{}'}}\n  static_configs: [{{targets: ['{target}']}}]\n",
        rules.display(),
        file("key").display()
    );
    std::fs::write(file("prometheus.yml"), config).unwrap();
    check(
        Command::new("promtool")
            .arg("check")
            .arg("config")
            .arg(file("prometheus.yml")),
    );

    let port = free_port();
    let process = Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            file("prometheus.yml").display()
        ))
        .arg(format!("--storage.tsdb.path={}", file("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Prometheus is not installed; run `make setup`");
    let _prometheus = Prometheus(process);
    let url = format!("http://127.0.0.1:{port}/api/v1");
    let http = Client::new();
    let ask = async |path: &str| -> Option<Value> {
        let answer = http.get(format!("{url}/{path}")).send().await.ok()?;
        answer.json().await.ok()
    };
    until_some(async || {
        let found = ask("query?query=sum(punctual_fire_lateness_seconds_count)").await?;
        let count: f64 = found["data"]["result"][0]["value"][1]
            .as_str()?
            .parse()
            .ok()?;
        (count > 0.0).then_some(())
    })
    .await;

    // What Prometheus found, and what one only sees once something is wrong.
    let names = ask("label/__name__/values").await.unwrap();
    let mut known: BTreeSet<String> = serde_json::from_value(names["data"].clone()).unwrap();
    known.insert("punctual_feed_missed_total".into());
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    for text in [read("alerts.yml"), dashboard["panels"].to_string()] {
        let named = names_in(&text);
        assert!(named.len() > 5, "{named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "{unknown:?} is not a metric of the agent"
        );
    }
    let ours: BTreeSet<String> = known
        .into_iter()
        .filter(|name| name.starts_with("punctual_"))
        .collect();
    for name in &ours {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        assert!(
            METRICS.iter().any(|metric| metric.name == family),
            "{family} is not described"
        );
    }

    // Every rule can be evaluated, each has its section in the runbook, and none goes off now.
    let runbook = read("runbook.md");
    let rules = until_some(async || {
        let rules = ask("rules").await?["data"]["groups"][0]["rules"]
            .as_array()?
            .clone();
        rules
            .iter()
            .all(|rule| rule["health"] == "ok")
            .then_some(rules)
    })
    .await;
    assert!(rules.len() >= 7);
    for rule in rules {
        let name = rule["name"].as_str().unwrap();
        assert!(
            runbook.contains(&format!("\n## {name}\n")),
            "{name} is not in the runbook"
        );
        assert_ne!(rule["state"], "firing", "{rule}");
    }

    // The names and helps are as Prometheus' own conventions want them.
    let metrics = http
        .get(format!("{}/metrics", agent.api()))
        .bearer_auth(KEY)
        .send()
        .await
        .unwrap();
    let text = metrics.text().await.unwrap();
    assert!(!text.contains(KEY));
    let mut lint = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    lint.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(lint.wait().unwrap().success());
}

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join("docs/operations").join(name)).unwrap()
}

fn names_in(text: &str) -> BTreeSet<String> {
    let word = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    let words = text.split(|letter| !word(letter));
    words
        .filter(|name| name.starts_with("punctual_"))
        .map(str::to_owned)
        .collect()
}

fn check(command: &mut Command) {
    let output = command
        .output()
        .expect("promtool is not installed; run `make setup`");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
}

async fn until_some<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            began.elapsed() < TEST_TIMEOUT,
            "Prometheus does not come to it"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
