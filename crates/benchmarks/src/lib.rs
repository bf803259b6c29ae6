//! What the programs share: the log, the URL of the store, figures of this process, a Config Database without changes, and peers in
//! other languages.

mod users;

use std::{path::Path, process::Command};

use anyhow::{Context, ensure};
use punctual_telemetry::{LogFormat, Options, Telemetry};

pub use users::{Fixed, Users, fields, user_id};

/// Begins to log what has this level or a higher one to standard error.
///
/// # Errors
/// When it has begun already.
pub fn log(level: &str) -> anyhow::Result<Telemetry> {
    let options = Options {
        service: "benchmark",
        filter: level,
        format: LogFormat::Text,
        colours: false,
    };
    Ok(punctual_telemetry::init(options, std::io::stderr)?)
}

/// The URL of the store: the database of `TEST_POSTGRES_URL`, or a file in `folder`.
///
/// # Errors
/// When `TEST_POSTGRES_URL` is not set.
pub fn store_url(folder: &Path, postgres: bool) -> anyhow::Result<String> {
    if postgres {
        return std::env::var("TEST_POSTGRES_URL").context("run it under tests/with-postgres.sh");
    }
    let file = folder.join("punctual.db");
    Ok(format!("sqlite://{}", file.display()))
}

/// CPU time that this process has used, in user and kernel, in seconds.
///
/// # Errors
/// When the kernel does not tell.
pub fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may contain blanks.
    let (_, fields) = stat.rsplit_once(") ").context("an unknown form of stat")?;
    let ticks = |index: usize| -> anyhow::Result<f64> {
        let ticks = fields.split(' ').nth(index).context("too few fields")?;
        Ok(ticks.parse()?)
    };
    // Linux counts 100 a second for every program, whatever its own clock.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// A figure of a process' memory such as `VmRSS`, in KiB. `process`: its id, or `self`.
///
/// # Errors
/// When the kernel does not tell.
pub fn memory(process: &str, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name));
    let figure = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(figure.context("no such figure")?.parse()?)
}

/// Installs `package`, with its version, in an environment of its own, once, and runs the script of `peers` that measures it
/// with so many jobs. Returns what it prints.
///
/// # Errors
/// When Python or the package is not there, or the script fails.
pub fn python_peer(package: &str, script: &str, jobs: usize) -> anyhow::Result<String> {
    let venv = Path::new("target/peers").join(package);
    let python = venv.join("bin/python");
    if !venv.join("installed").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", package]))?;
        std::fs::write(venv.join("installed"), "")?;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(script);
    run(Command::new(&python).arg(script).arg(jobs.to_string()))
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
