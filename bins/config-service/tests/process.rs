//! The config service as its own process, as an operator uses it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use reqwest::blocking::Client;
use serde_json::Value;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_punctual-config-service"));
    command
        .args(arguments)
        .env(
            "CONFIG_STORE_URL",
            format!("sqlite://{}", folder.join("config.db").display()),
        )
        .env("CONFIG_HTTP_ADDR", "127.0.0.1:0")
        .env("CONFIG_SERVICE_API_KEY", "canary-admin")
        .env_remove("BATCH_LOG");
    command
}

fn output(folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(folder, arguments).output().unwrap();
    (
        status.success(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// A running service, killed when dropped, and its URL.
struct Service(Child, String);

impl Service {
    fn start(folder: &Path) -> Self {
        let mut child = command(folder, &["serve", "--ready-file", "/dev/stdout"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addresses = lines.next().expect("it ended before it was ready").unwrap();
        let addresses: Value = serde_json::from_str(&addresses).unwrap();
        let url = addresses["config_database"].as_str().unwrap().to_owned();
        Self(child, url)
    }

    fn status(&self, key: &str) -> u16 {
        let url = format!("{}/api/v1/preferences/changes?since_id=0", self.1);
        Client::new()
            .get(url)
            .bearer_auth(key)
            .send()
            .unwrap()
            .status()
            .as_u16()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn import_keys_and_serving_work_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("preferences.ndjson");
    let good =
        r#"{"tenant_id": "a", "config_value": {"f": {"enabled": true, "frequency": "daily"}}}"#;
    std::fs::write(&file, format!("{good}\nnonsense\n")).unwrap();
    let (done, out, err) = output(folder, &["import", file.to_str().unwrap()]);
    assert!(
        !done && out.contains("1 imported (0 of them unchanged), 1 rejected"),
        "{out}"
    );
    assert!(err.contains("preferences.ndjson:2: "), "{err}");

    let (done, key, _) = output(folder, &["keys", "create", "agent", "--scope", "read"]);
    assert!(done);
    let key = key.trim();
    let (done, _, err) = output(folder, &["keys", "create", "agent"]);
    assert!(!done && err.contains("another name"), "{err}");

    let mut service = Service::start(folder);
    assert_eq!(
        [
            service.status("canary-admin"),
            service.status(key),
            service.status("x")
        ],
        [200, 200, 401]
    );
    let groups: Value = Client::new()
        .get(format!(
            "{}/api/v1/preferences/groups?feature_type=f",
            service.1
        ))
        .bearer_auth(key)
        .send()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(groups["groups"][0]["tenants"][0]["tenant_id"], "a");

    let (done, new, _) = output(folder, &["keys", "rotate", "agent", "--overlap", "1"]);
    assert!(done);
    assert_eq!(
        [service.status(key), service.status(new.trim())],
        [200, 200]
    );
    let of_tenant = [
        "keys", "create", "page", "--scope", "write", "--tenant", "a",
    ];
    let (done, of_tenant, _) = output(folder, &of_tenant);
    assert!(done);
    assert_eq!(service.status(of_tenant.trim()), 403);
    let (_, listed, _) = output(folder, &["keys", "list"]);
    assert!(listed.contains("page\twrite\ta\n"), "{listed}");
    assert!(
        !listed.contains("pk_") && listed.lines().count() == 3,
        "{listed}"
    );

    assert!(output(folder, &["keys", "revoke", "agent"]).0);
    assert_eq!(
        service.status(key),
        401,
        "a revoked key is refused immediately"
    );
    assert!(!output(folder, &["keys", "revoke", "agent"]).0);

    let id = service.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(service.0.wait().unwrap().success());
}

#[test]
fn what_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = command(folder.path(), &[]);
    open.env("CONFIG_HTTP_ADDR", "0.0.0.0:0")
        .env("CONFIG_SERVICE_API_KEY", "");
    let error = String::from_utf8(open.output().unwrap().stderr).unwrap();
    assert!(error.contains("set CONFIG_SERVICE_API_KEY"), "{error}");
    let mut wrong = command(folder.path(), &[]);
    wrong.env("CONFIG_HTTP_ADDR", "somewhere");
    let error = String::from_utf8(wrong.output().unwrap().stderr).unwrap();
    assert!(error.contains("CONFIG_HTTP_ADDR"), "{error}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the process ends in real time")]
fn a_signal_ends_it_whatever_clients_do_and_its_files_are_its_users_alone() {
    use std::{
        io::Write, net::TcpStream, os::unix::fs::PermissionsExt, time::Duration, time::Instant,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path());
    let address = service.1.trim_start_matches("http://");
    let held: Vec<_> = [
        "POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nk",
        "",
        "GET / HT",
    ]
    .map(|request| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    })
    .into();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
    let (id, began) = (service.0.id().to_string(), Instant::now());
    let kill = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(kill.success() && service.0.wait().unwrap().success());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    drop(held);
}
