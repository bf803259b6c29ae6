//! How long a change takes from the PUT to the moved slot, and what a snapshot costs on both sides, with the real
//! config service and the real agent as processes of their own.
//!
//! ```text
//! cargo build --release --bins && cargo run --release -p punctual-benchmarks --bin propagation -- --tenants 1000000
//! ```
#![expect(clippy::disallowed_methods, reason = "this program measures real time")]

use std::{
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;
use punctual_benchmarks::memory;
use reqwest::blocking::Client;
use serde_json::{Value, json};

/// Measures propagation and snapshots.
#[derive(Parser)]
struct Options {
    /// Tenants in the Config Database
    #[arg(long, default_value_t = 100_000)]
    tenants: usize,
    /// Changes to follow, one after the other
    #[arg(long, default_value_t = 1_000)]
    changes: usize,
    /// Where the programs are
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Another database than a `SQLite` file, such as <postgres://user@127.0.0.1/name>; it must be empty
    #[arg(long)]
    store: Option<String>,
}

/// A process that is killed when it is dropped, and where it listens.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    /// Starts a program; `which` is the name of its address in what it says when it is ready.
    fn start(mut command: Command, which: &str) -> anyhow::Result<Self> {
        let mut child = command
            .args(["--ready-file", "/dev/stdout"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the program; build it with `cargo build --release --bins`")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let addresses = lines
            .next()
            .context("the program ended before it was ready")??;
        let addresses: Value = serde_json::from_str(&addresses)?;
        let url = addresses[which].as_str().context("no address")?.to_owned();
        Ok(Self { child, url })
    }

    /// The most memory it has had resident, in MiB.
    fn peak_memory(&self) -> anyhow::Result<u64> {
        Ok(memory(&self.child.id().to_string(), "VmHWM")? / 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let folder = tempfile::tempdir()?;
    let store = match &options.store {
        Some(url) => url.clone(),
        None => format!("sqlite://{}", folder.path().join("config.db").display()),
    };
    let http = Client::builder().timeout(Duration::from_mins(1)).build()?;
    import(&options, folder.path(), &store)?;

    let mut command = Command::new(options.programs.join("punctual-config-service"));
    command
        .arg("serve")
        .env("CONFIG_STORE_URL", &store)
        .env("CONFIG_HTTP_ADDR", "127.0.0.1:0");
    let service = Running::start(command, "config_database")?;
    stream(&http, &service)?;
    let began = Instant::now();
    let agent = start_agent(&options, folder.path(), &service.url)?;
    until(|| {
        let jobs = jobs(&http, &agent)?;
        Ok(jobs["jobs"][0]["tenants"].as_u64() == Some(options.tenants as u64))
    })?;
    println!(
        "snapshot of {} tenants: {:.1} s; peak memory: config service {} MiB, agent {} MiB",
        options.tenants,
        began.elapsed().as_secs_f64(),
        service.peak_memory()?,
        agent.peak_memory()?
    );
    propagation(&options, &http, &service, &agent)?;
    println!(
        "peak memory at the end: config service {} MiB, agent {} MiB",
        service.peak_memory()?,
        agent.peak_memory()?
    );
    Ok(())
}

fn import(options: &Options, folder: &Path, store: &str) -> anyhow::Result<()> {
    let file = folder.join("preferences.ndjson");
    let mut lines = BufWriter::new(std::fs::File::create(&file)?);
    for n in 0..options.tenants {
        writeln!(
            lines,
            "{}",
            json!({"tenant_id": tenant(n), "config_value": {"instagram_posts": preference(n)}})
        )?;
    }
    lines.flush()?;
    let began = Instant::now();
    let status = Command::new(options.programs.join("punctual-config-service"))
        .arg("import")
        .arg(&file)
        .env("CONFIG_STORE_URL", store)
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "the import failed");
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "import: {:.1} s, {:.0} tenants/s",
        seconds,
        options.tenants as f64 / seconds
    );
    Ok(())
}

fn tenant(n: usize) -> String {
    format!("tenant-{n:09}")
}

/// A preference as they are: most at the full hour, in a few zones, a third with overrides.
fn preference(n: usize) -> Value {
    const ZONES: [&str; 6] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Tokyo",
        "Australia/Sydney",
        "America/Sao_Paulo",
    ];
    const TONES: [&str; 4] = ["playful", "serious", "warm", "short"];
    let time = format!("{:02}:{:02}", 7 + n % 12, [0, 0, 0, 15, 30, 45][n / 12 % 6]);
    let mut preference = json!({"enabled": true, "frequency": "daily", "preferred_time": time,
        "timezone": ZONES[n / 7 % ZONES.len()]});
    if n.is_multiple_of(3) {
        preference["template_overrides"] = json!({"tone": TONES[n / 3 % TONES.len()]});
    }
    preference
}

/// The whole snapshot as NDJSON.
fn stream(http: &Client, service: &Running) -> anyhow::Result<()> {
    let began = Instant::now();
    let url = format!(
        "{}/api/v1/preferences/groups?feature_type=instagram_posts",
        service.url
    );
    let mut response = http
        .get(url)
        .header("accept", "application/x-ndjson")
        .send()?;
    let bytes = response.copy_to(&mut std::io::sink())?;
    println!(
        "NDJSON stream: {:.1} s, {} MiB; peak memory of the config service: {} MiB",
        began.elapsed().as_secs_f64(),
        bytes / 1024 / 1024,
        service.peak_memory()?
    );
    Ok(())
}

fn start_agent(options: &Options, folder: &Path, config_database: &str) -> anyhow::Result<Running> {
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "instagram_generation",
        "preference_based": true, "feature_type": "instagram_posts"}]});
    let file = folder.join("batch_config.json");
    std::fs::write(&file, jobs.to_string())?;
    let mut command = Command::new(options.programs.join("punctual-agent"));
    command
        .arg("run")
        .env("BATCH_CONFIG_PATH", file)
        .env("BATCH_PURPOSES_PATH", "data/batch/purposes.json")
        .env("CONFIG_SERVICE_URL", config_database)
        .env("CONFIG_LAST_KNOWN_GOOD_PATH", folder.join("known"))
        .env(
            "BATCH_STORE_URL",
            format!("sqlite://{}", folder.join("punctual.db").display()),
        )
        .env("BATCH_HTTP_ADDR", "127.0.0.1:0");
    Running::start(command, "api")
}

fn jobs(http: &Client, agent: &Running) -> anyhow::Result<Value> {
    Ok(http
        .get(format!("{}/api/v1/jobs", agent.url))
        .send()?
        .json()?)
}

/// What the agent says of a tenant.
fn explanation(http: &Client, agent: &Running, tenant: &str) -> anyhow::Result<Value> {
    let path = format!("tenants/{tenant}/explain?job_id=posts");
    let answer = http.get(format!("{}/api/v1/{path}", agent.url)).send()?;
    Ok(answer.error_for_status()?.json()?)
}

fn until(mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !done()? {
        ensure!(
            began.elapsed() < Duration::from_mins(10),
            "it does not come"
        );
    }
    Ok(())
}

/// Moves tenants, one after the other, to slots of their own, and asks the agent where each stands.
fn propagation(
    options: &Options,
    http: &Client,
    service: &Running,
    agent: &Running,
) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    for n in 0..options.changes {
        let time = format!("{:02}:{:02}", n / 59 % 24, 1 + n % 59);
        let zone = ["Pacific/Chatham", "Asia/Kathmandu"][n / (59 * 24) % 2];
        let moved = json!({"enabled": true, "frequency": "daily", "preferred_time": time, "timezone": zone});
        let slot = format!("daily {time} {zone}");
        let id = tenant(fastrand::usize(..options.tenants));
        let url = format!(
            "{}/api/v1/tenants/{id}/configs/feature_preferences",
            service.url
        );
        let body = json!({"config_value": {"instagram_posts": moved}}).to_string();
        let began = Instant::now();
        http.put(url).body(body).send()?.error_for_status()?;
        until(|| Ok(explanation(http, agent, &id)?["slot"] == slot))?;
        seen.push(began.elapsed());
    }
    seen.sort_unstable();
    let at = |share: f64| seen[((seen.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "PUT to moved slot, {} changes: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        seen.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}
