//! The config service as its own process, as an operator uses it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use punctual_application::testing::zone_file;
use reqwest::blocking::Client;
use serde_json::{Value, json};

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
        Self::run(command(folder, &[]))
    }

    fn run(mut command: Command) -> Self {
        let mut child = command
            .args(["serve", "--ready-file", "/dev/stdout"])
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
        !done && out.contains("configurations 1 (0 of them unchanged); rejected 1"),
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
fn a_tenant_is_exported_and_erased_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = json!({"tenant_id": "ann", "config_value": {"posts":
        {"enabled": true, "frequency": "daily", "preferred_time": "09:00"}}});
    let file = folder.join("preferences.ndjson");
    std::fs::write(&file, line.to_string()).unwrap();
    assert!(output(folder, &["import", file.to_str().unwrap()]).0);
    let export = || {
        let (done, copy, _) = output(folder, &["export", "ann"]);
        assert!(done);
        serde_json::from_str::<Value>(&copy).unwrap()
    };
    let copy = export();
    assert_eq!(copy["preferences"][0]["feature_type"], "posts");
    assert_eq!(copy["history"].as_array().unwrap().len(), 1);

    assert!(!output(folder, &["erase", "ann"]).0, "a reason is needed");
    for reason in [" ", "two\nlines"] {
        let (done, _, error) = output(folder, &["erase", "ann", "--reason", reason]);
        assert!(!done && error.contains("1 to 500 characters"), "{error}");
    }
    let mut asks = command(folder, &["erase", "ann", "--reason", "asked"]);
    let asks = asks.output().unwrap();
    let error = String::from_utf8(asks.stderr).unwrap();
    assert_eq!(asks.status.code(), Some(2), "{error}");
    assert!(error.contains("tenant ann?") && error.contains("--yes"));
    let erase = |tenant| output(folder, &["erase", tenant, "--reason", "asked", "--yes"]);
    for _ in 0..2 {
        let (done, _, note) = erase("anna");
        assert!(done && note.contains("Nothing was held of tenant anna"));
    }
    let (done, erased, note) = erase("ann");
    assert!(done && !note.contains("Nothing was held"), "{note}");
    let erased: Value = serde_json::from_str(&erased).unwrap();
    assert_eq!(
        (&erased["configurations"], &erased["versions"]),
        (&json!(1), &json!(1))
    );
    let copy = export();
    assert_eq!(
        (&copy["configs"], &copy["history"]),
        (&json!([]), &json!([]))
    );

    let (done, kept, _) = output(folder, &["retention"]);
    assert!(done && kept.contains("history\t0\n"), "{kept}");
    for days in ["0", "36501", "many"] {
        let mut wrong = command(folder, &["retention"]);
        wrong.env("CONFIG_KEEP_HISTORY_DAYS", days);
        let wrong = wrong.output().unwrap();
        let error = String::from_utf8(wrong.stderr).unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{days}");
        let expected =
            format!("CONFIG_KEEP_HISTORY_DAYS is {days}; expected a whole number from 1 to 36500");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = command(folder.path(), &[]);
    open.env("CONFIG_HTTP_ADDR", "0.0.0.0:0")
        .env("CONFIG_SERVICE_API_KEY", "");
    let open = open.output().unwrap();
    let error = String::from_utf8(open.stderr).unwrap();
    assert!(error.contains("set CONFIG_SERVICE_API_KEY"), "{error}");
    assert_eq!(open.status.code(), Some(2));
    let wrong: [(&[&str], &str); 4] = [
        (
            &["import", "/nowhere/preferences.ndjson"],
            "cannot read /nowhere/",
        ),
        (&["keys", "create", " "], "a key needs a name"),
        (&["keys", "rotate", "agent"], "key `agent` does not exist"),
        (&["keys", "revoke", "agent"], "key `agent` does not exist"),
    ];
    for (arguments, problem) in wrong {
        let wrong = command(folder.path(), arguments).output().unwrap();
        let error = String::from_utf8(wrong.stderr).unwrap();
        let last = error.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("error: {problem}")), "{error}");
        assert_eq!(wrong.status.code(), Some(2), "{arguments:?}");
    }
    let mut wrong = command(folder.path(), &[]);
    wrong.env("CONFIG_HTTP_ADDR", "somewhere");
    let error = String::from_utf8(wrong.output().unwrap().stderr).unwrap();
    assert!(error.contains("CONFIG_HTTP_ADDR"), "{error}");
    for (name, value, remedy) in [
        (
            "CONFIG_EMBED_ORIGINS",
            "https://shop.example/",
            "write it as `https://shop.example`",
        ),
        ("CONFIG_EMBED_ORIGINS", "*", "`*` is not an origin"),
        (
            "CONFIG_LINK_KEYS",
            "canary",
            "write each key as `id:secret`",
        ),
        (
            "CONFIG_LINK_KEYS",
            "a:canary-too-short",
            "at least 32 random ones",
        ),
        ("CONFIG_PUBLIC_URL", "shop.example", "expected an address"),
        ("CONFIG_SITE_NAME", " ", "visible characters"),
        (
            "CONFIG_SITE_LOGO",
            "/nowhere/logo.svg",
            "/nowhere/logo.svg, which cannot be read",
        ),
        ("CONFIG_AGENT_URLS", "agent:8080", "use a URL such as"),
        ("CONFIG_AGENT_API_KEY", "canary", "set CONFIG_AGENT_URLS"),
        (
            "CONFIG_STORE_URL",
            "mysql://me:canary@db/config",
            "such as sqlite://var/config.db or postgres://",
        ),
    ] {
        let mut wrong = command(folder.path(), &[]);
        let output = wrong.env(name, value).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}={value}");
        assert!(error.contains(name) && error.contains(remedy), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn a_damaged_store_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.db"), "x".repeat(8192)).unwrap();
    for arguments in [&["serve"][..], &["keys", "list"]] {
        let output = command(folder.path(), arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        for part in ["config.db", "not a database", "CONFIG_STORE_URL"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(error.lines().count(), 1, "it is not retried: {error}");
    }
}

#[test]
fn a_write_that_the_system_refuses_names_the_store_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(output(folder, &["keys", "list"]).0, "it makes the store");
    let line = |number| {
        let name = "x".repeat(300);
        let preference =
            json!({"enabled": true, "frequency": "daily", "template_overrides": {"name": name}});
        json!({"tenant_id": format!("t{number}"), "config_value": {"posts": preference}})
            .to_string()
    };
    let lines: Vec<String> = (0..3_000).map(line).collect();
    let file = folder.join("preferences.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();

    // In blocks of 512 or 1,024 bytes.
    let limited = "ulimit -f 300; exec \"$0\" import \"$1\"";
    let own = command(folder, &[]);
    let mut import = Command::new("sh");
    import
        .args(["-c", limited])
        .arg(own.get_program())
        .arg(&file);
    let environment = own.get_envs();
    import.envs(environment.filter_map(|(name, value)| Some((name, value?))));
    let refused = import.output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    for part in ["config.db failed: ", "free disk space", "CONFIG_STORE_URL"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let (done, _, error) = output(folder, &["import", file.to_str().unwrap()]);
    assert!(done, "{error}");
}

#[test]
fn links_and_their_keys_are_not_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = command(folder.path(), &[]);
    command
        .env("BATCH_LOG", "trace")
        .env(
            "CONFIG_LINK_KEYS",
            "k:canary-0123456789-0123456789-0123456789",
        )
        .env("CONFIG_EMBED_ORIGINS", "https://shop.example")
        .stderr(std::fs::File::create(&log).unwrap());
    let service = Service::run(command);
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let made = |path: &str, body: &str| -> Value {
        let url = format!("{}/api/v1/tenants/a/{path}", service.1);
        let call = client
            .post(url)
            .bearer_auth("canary-admin")
            .body(body.to_owned());
        let answer = call.send().unwrap();
        assert_eq!(answer.status(), 201);
        answer.json().unwrap()
    };
    let link = made("links", "")["token"].as_str().unwrap().to_owned();
    let unsubscribe = made("unsubscribe-links", r#"{"feature": "f"}"#);
    let unsubscribe = unsubscribe["url"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    let get = |path: String| client.get(format!("{}{path}", service.1)).send().unwrap();
    let opened = get(format!("/open/{link}"));
    assert_eq!(opened.status(), 303);
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().to_owned();
    let session = cookie.split(['=', ';']).nth(1).unwrap();
    let page = client
        .get(format!("{}/tenants/a", service.1))
        .header("cookie", &cookie);
    assert_eq!(page.send().unwrap().status(), 200);
    // Whatever is wrong with them, too.
    for token in [&link, &unsubscribe, session] {
        get(format!("/open/{token}x"));
        get(format!("/unsubscribe/{token}x"));
        let url = format!("{}/api/v1/tenants/a/configs/feature_preferences", service.1);
        client
            .get(url)
            .bearer_auth(format!("{token}x"))
            .send()
            .unwrap();
    }
    assert_eq!(get(format!("/unsubscribe/{unsubscribe}")).status(), 200);
    drop(service);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("Refused a link"), "{log}");
    for secret in ["canary", &link, &unsubscribe, session] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the process ends in real time")]
fn a_signal_ends_it_whatever_clients_do_and_its_files_are_its_users_alone() {
    use std::{net::TcpStream, os::unix::fs::PermissionsExt, time::Instant};
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

#[test]
fn systemd_is_notified_of_start_watchdog_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let timeout = Some(Duration::from_mins(1));
    socket.set_read_timeout(timeout).unwrap();
    let mut command = command(folder.path(), &[]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000");
    let mut service = Service::run(command);
    let notification = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("no notification arrived");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let but_signs_of_life = || loop {
        let notification = notification();
        if notification.trim() != "WATCHDOG=1" {
            return notification;
        }
    };
    assert_eq!(but_signs_of_life().trim(), "READY=1");
    for _ in 0..3 {
        assert_eq!(notification().trim(), "WATCHDOG=1");
    }
    let id = service.0.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(kill.success() && service.0.wait().unwrap().success());
    assert_eq!(but_signs_of_life().trim(), "STOPPING=1");
}

#[test]
fn shells_complete_the_commands_and_each_has_a_manual_page_without_settings() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let service = |arguments: &[&str]| {
        let mut command = command(folder, arguments);
        let output = command.env("CONFIG_HTTP_ADDR", "wrong").output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = service(&["completions", shell]);
        assert!(
            script.contains("retention") && script.contains("ready-file"),
            "{shell}"
        );
    }
    let script = folder.join("script");
    std::fs::write(&script, service(&["completions", "bash"])).unwrap();
    let mut bash = Command::new("bash");
    assert!(bash.arg("-n").arg(&script).status().unwrap().success());

    let page = service(&["man"]);
    for text in ["Stores the preferences", "CONFIG_STORE_URL", "Exit codes"] {
        assert!(page.contains(text), "{page}");
    }
    let pages = folder.join("pages");
    let said = service(&["man", "--to", pages.to_str().unwrap()]);
    let count = std::fs::read_dir(&pages).unwrap().count();
    assert!(
        said.contains(&format!("Wrote {count} manual pages")),
        "{said}"
    );
    for page in ["", "-import", "-keys-rotate", "-man"] {
        let page = pages.join(format!("punctual-config-service{page}.1"));
        assert!(page.exists(), "{}", page.display());
    }
}

#[test]
fn a_reader_that_has_seen_enough_causes_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(folder.path(), &["retention"]);
    let output = command.stdout(writer).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && !error.contains("panicked"),
        "{error}"
    );
}

/// An agent that answers every call with this document, and the heads of the calls.
fn agent(answer: &Value) -> (String, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (called, calls) = channel();
    let body = answer.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head = lines
                .map(Result::unwrap)
                .take_while(|line| !line.is_empty());
            let head: Vec<String> = head.collect();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
            if called.send(head).is_err() {
                return;
            }
        }
    });
    (url, calls)
}

#[test]
fn past_runs_come_from_the_agent_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let run = json!({"job_id": "posts", "occurrence": "2026-11-24", "scheduled_at": "2026-11-24T09:00:00Z",
        "finished_at": "2026-11-24T09:00:01Z", "outcome": "succeeded", "reason": null});
    let (url, calls) = agent(&json!({"tenant_id": "a", "feature_type": "f", "runs": [run]}));
    let mut command = command(folder.path(), &[]);
    command
        .env("BATCH_LOG", "trace")
        .env("CONFIG_AGENT_URLS", &url)
        .env("CONFIG_AGENT_API_KEY", "canary-agent")
        .stderr(std::fs::File::create(&log).unwrap());
    let service = Service::run(command);
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let feature = format!("{}/api/v1/feature-types/f", service.1);
    let stored = client.put(feature).bearer_auth("canary-admin");
    let stored = stored.body(json!({"show_runs": true}).to_string()).send();
    assert_eq!(stored.unwrap().status(), 204);
    let signed_in = client
        .post(format!("{}/sign-in", service.1))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("key=canary-admin")
        .send()
        .unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let past_runs = |tenant: &str| {
        let url = format!("{}/tenants/{tenant}/features/f/past-runs", service.1);
        let answer = client.get(url).header("cookie", &cookie).send().unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().unwrap()
    };
    let shown = past_runs("a");
    assert!(
        shown.contains("Tuesday, 24 November 2026 at 09:00 — done"),
        "{shown}"
    );
    let head = calls.recv().unwrap();
    assert_eq!(
        head[0],
        "GET /api/v1/tenants/a/features/f/runs?limit=10 HTTP/1.1"
    );
    let bearer = "authorization: bearer canary-agent";
    assert!(
        head.iter().any(|line| line.to_lowercase() == bearer),
        "{head:?}"
    );
    // What it says of another tenant is shown to none.
    let other = past_runs("b");
    assert!(other.contains("be shown at the moment"), "{other}");
    drop(service);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("Failed to read past runs"), "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn a_backup_is_made_while_the_service_runs_and_takes_the_place_of_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let created = output(folder.path(), &["keys", "create", "agent"]);
    assert!(created.0, "{created:?}");
    let copied = folder.path().join("copy");
    std::fs::create_dir(&copied).unwrap();
    let to = copied.join("config.db").display().to_string();
    let (done, said, error) = output(folder.path(), &["backup", "--to", &to]);
    assert!(done && said.contains("Copied"), "{said}{error}");
    let (done, _, error) = output(folder.path(), &["backup", "--to", &to]);
    assert!(!done && error.contains("exists already"), "{error}");
    drop(service);
    // The copy is a store.
    let (done, keys, error) = output(&copied, &["keys", "list"]);
    assert!(done && keys.contains("agent\tread"), "{keys}{error}");
}

#[test]
fn zone_rules_that_change_in_their_folder_are_taken_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let zones = folder.path().join("zones");
    let write = |version: &str, berlin: i32| {
        for (zone, hours) in [
            ("UTC", 0),
            ("America/New_York", -5),
            ("Europe/Berlin", berlin),
        ] {
            let path = zones.join(zone);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, zone_file(hours)).unwrap();
        }
        std::fs::write(zones.join("+VERSION"), version).unwrap();
    };
    write("2099a", 1);
    let mut command = command(folder.path(), &[]);
    command.env("CONFIG_TZDB_DIR", &zones);
    let service = Service::run(command);
    let asked = |path: &str| -> Value {
        let answer = Client::new().get(format!("{}{path}", service.1)).send();
        serde_json::from_str(&answer.unwrap().text().unwrap()).unwrap()
    };
    let version = || asked("/version")["tzdb"].as_str().unwrap().to_owned();
    let within_a_minute = |holds: &dyn Fn() -> bool| {
        (0..600).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            holds()
        })
    };
    assert_eq!(version(), "2099a");
    write("2099b", 2);
    let taken = within_a_minute(&|| version() == "2099b");
    assert!(taken, "the rules are still {}", version());

    // Refused rules stop neither the service nor what operators do meanwhile.
    std::fs::remove_file(zones.join("UTC")).unwrap();
    let code = |arguments: &[&str]| {
        let mut command = self::command(folder.path(), arguments);
        let address = service.1.trim_start_matches("http://");
        command.env("CONFIG_HTTP_ADDR", address);
        let output = command.env("CONFIG_TZDB_DIR", &zones).output();
        output.unwrap().status.code()
    };
    assert_eq!(code(&["health"]), Some(0));
    assert_eq!(code(&["keys", "list"]), Some(0));
    assert_eq!(code(&["import", "/dev/null"]), Some(2));
    let warnings = || asked("/health/ready")["warnings"].to_string();
    let warns = within_a_minute(&|| warnings().contains("changed zone rules are not in effect"));
    assert!(warns && warnings().contains("(CONFIG_TZDB_DIR)"));
    assert_eq!(asked("/health/ready")["status"], "ready");
    write("2099b", 2);
    assert!(within_a_minute(&|| warnings() == "[]"), "{}", warnings());
}
