//! Real servers of other engines, and their workers, as processes that a test kills and starts again.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    agent::{Agent, repository},
    common::{daily, until},
    project::Project,
};

/// A process beside the agent; killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn start(mut command: Command) -> Self {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// kill -9: the process gets no chance to do anything.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that `tests/with-engines.sh` has installed.
pub fn installed(variable: &str) -> Command {
    Command::new(std::env::var(variable).expect("run it under tests/with-engines.sh"))
}

/// A worker of `tests/engines`.
pub fn worker(script: &str) -> Command {
    let mut command = installed("TEST_ENGINES_PYTHON");
    command.arg(repository().join("tests/engines").join(script));
    command
}

/// Waits until a process listens at a port.
pub async fn until_it_listens(port: u16) {
    until(|| TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
}

/// The number of lines of a file that a worker writes.
#[cfg(feature = "nats")]
pub fn lines(file: &std::path::Path) -> usize {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().count()
}

/// What a script of `tests/engines` prints.
pub fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// An agent that knows these tenants.
pub async fn start_with(project: &Project, tenants: &[String]) -> Agent {
    let tenants = tenants.iter().map(|tenant| (tenant.clone(), daily()));
    project.run(project.command(), tenants).await
}

/// Checks that each tenant has one outcome, which is what its name says.
pub fn each_tenant_has_its_outcome(results: &[Value], tenants: &[String]) {
    let mut seen: Vec<&str> = results
        .iter()
        .map(|result| result["tenant_id"].as_str().unwrap())
        .collect();
    seen.sort_unstable();
    let mut expected: Vec<&str> = tenants.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    for result in results {
        let tenant = result["tenant_id"].as_str().unwrap();
        let (status, error) = match &tenant[..3] {
            "bad" => ("failed", Some("no such customer")),
            "idl" => ("nothing_to_do", Some("no news")),
            _ => ("succeeded", None),
        };
        assert_eq!(result["status"], status, "{result}");
        match error {
            Some(error) => assert_eq!(result["error"], error, "{result}"),
            None => assert_eq!(result["result"]["of"], tenant, "{result}"),
        }
        if tenant.starts_with("busy") {
            assert_ne!(result["attempts"], 1, "{result}");
        }
    }
}
