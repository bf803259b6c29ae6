//! What people and programs at the agent's doors can do: those who guess keys, hold connections, keep a copied cookie,
//! write on an operator's terminal, or write a template that never ends.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode, routing::post};
use reqwest::{Client, Method, redirect::Policy};
use serde_json::{Value, json};

use crate::{
    agent::{Agent, TEST_TIMEOUT, at_time, command},
    common::{serve, until_beside},
    project::Project,
};

const KEY: &str = "the-operators-key";

fn client() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

/// Sends bytes and returns the first line of what is answered.
fn raw(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

async fn triggered(agent: &Agent, job: &str) -> Value {
    let path = format!("/api/v1/jobs/{job}/trigger");
    let queued = agent.call(Method::POST, &path, &json!({})).await;
    let path = format!("/api/v1/batches/{}", queued["batch_id"].as_str().unwrap());
    agent
        .until(&path, |batch| !batch["finished_at"].is_null())
        .await
}

#[tokio::test]
async fn who_guesses_keys_is_refused_before_they_are_looked_at_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command.env("BATCH_API_KEY", KEY);
    let agent = Agent::start(command);
    let api = agent.api().to_owned();
    let http = client();
    let call = async |key: &str| {
        let call = http.get(format!("{api}/api/v1/jobs")).bearer_auth(key);
        call.send().await.unwrap()
    };
    let sign_in = async |key: &str| {
        let call = http
            .post(format!("{api}/sign-in"))
            .body(format!("key={key}"));
        let call = call.header("content-type", "application/x-www-form-urlencoded");
        call.send().await.unwrap()
    };
    assert_eq!(call(KEY).await.status(), 200);
    let (mut wrong, mut refused) = (0, 0);
    for n in 0..300 {
        let answer = if n % 2 == 0 {
            call("guess").await
        } else {
            sign_in("guess").await
        };
        match answer.status().as_u16() {
            401 => wrong += 1,
            429 => {
                assert_eq!(answer.headers()["retry-after"], "1");
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(wrong < 200 && refused > 100, "{wrong} {refused}");
    // The key was right from here before, also at the sign-in.
    assert_eq!(call(KEY).await.status(), 200);
    assert_eq!(sign_in(KEY).await.status(), 303);
    agent.until_logged("Wrong key from 127.0.0.1").await;
    let lines = agent.log();
    let of_guesses = lines
        .iter()
        .filter(|line| line.contains("Wrong key from 127.0.0.1"));
    let of_guesses = of_guesses.count();
    assert!(of_guesses <= 20, "{of_guesses}");
    for (value, expected) in [("bearer", 200), ("BEARER", 200), ("Basic", 401)] {
        let request = format!(
            "GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {value} {KEY}\r\nConnection: close\r\n\r\n"
        );
        let answer = raw(&api, &request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{value}: {answer}"
        );
    }
    let twice = format!("Authorization: Bearer {KEY}\r\n").repeat(2);
    let request =
        format!("GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\n{twice}Connection: close\r\n\r\n");
    assert!(raw(&api, &request).starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn the_right_key_amid_guesses_is_refused_where_it_was_never_right() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command.env("BATCH_API_KEY", KEY);
    let agent = Agent::start(command);
    let http = client();
    let url = format!("{}/api/v1/jobs", agent.api());
    let mut answers = futures::future::join_all((0..400).map(|n| {
        let key = if n == 300 {
            KEY.to_owned()
        } else {
            format!("guess{n}")
        };
        let call = http.get(&url).bearer_auth(key);
        async move { call.send().await.unwrap().status().as_u16() }
    }))
    .await;
    let right = answers.remove(300);
    assert!(
        right == 429 || answers[..300].iter().all(|status| *status == 401),
        "{right}"
    );
    assert!(answers.iter().filter(|status| **status == 401).count() < 200);
}

#[tokio::test]
async fn a_cookie_that_was_copied_ends_when_its_owner_signs_out() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = command(folder.path());
        command.env("BATCH_API_KEY", KEY);
        Agent::start(command)
    };
    let (agent, http) = (start(), client());
    let sign_in = async || {
        let call = http
            .post(format!("{}/sign-in", agent.api()))
            .body(format!("key={KEY}"));
        let call = call.header("content-type", "application/x-www-form-urlencoded");
        let answer = call.send().await.unwrap();
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    };
    let (cookie, other) = (sign_in().await, sign_in().await);
    let look_at = async |agent: &Agent, cookie: &str| {
        let call = http
            .get(format!("{}/", agent.api()))
            .header("cookie", cookie);
        call.send().await.unwrap().status()
    };
    let look = async |cookie: &str| look_at(&agent, cookie).await;
    assert_eq!(look(&cookie).await, 200);
    let out = http
        .post(format!("{}/sign-out", agent.api()))
        .header("cookie", &cookie);
    assert_eq!(out.send().await.unwrap().status(), 303);
    assert_eq!(look(&cookie).await, 303);
    assert_eq!(
        look(
            &cookie
                .to_uppercase()
                .replace("PUNCTUAL_OPERATIONS", "punctual_operations")
        )
        .await,
        303
    );
    assert_eq!(look(&other).await, 200);
    assert!(agent.terminate().success());
    let again = start();
    assert_eq!(look_at(&again, &cookie).await, 303, "also after a restart");
    assert_eq!(look_at(&again, &other).await, 200);
}

#[tokio::test]
async fn errors_of_the_framework_are_problems_too() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(command(folder.path()));
    let http = client();
    for (base, method, path) in [
        (agent.api(), Method::GET, "/api/v1/tenants/%ff/runs"),
        (agent.api(), Method::GET, "/api/v1/batches/none"),
        (agent.api(), Method::GET, "/none"),
        (agent.api(), Method::PATCH, "/api/v1/jobs"),
        (agent.api(), Method::DELETE, "/health/live"),
        (agent.api(), Method::POST, "/jobs/none/backfill"),
        (
            agent.config_url(),
            Method::GET,
            "/api/v1/tenants/%ff/configs/x",
        ),
        (agent.config_url(), Method::GET, "/none"),
        (agent.config_url(), Method::PATCH, "/api/v1/keys"),
        (agent.config_url(), Method::DELETE, "/health/live"),
    ] {
        let answer = http
            .request(method.clone(), format!("{base}{path}"))
            .send()
            .await
            .unwrap();
        let status = answer.status();
        assert!(status.is_client_error(), "{method} {path}: {status}");
        let of = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        let is_page = path.starts_with("/jobs/") && of.starts_with("text/html");
        assert!(
            is_page || of == "application/problem+json",
            "{method} {path}: {of}"
        );
    }
    let large = vec![b'x'; 3 * 1024 * 1024];
    let path = "/api/v1/tenants/a/configs/feature_preferences";
    for base in [agent.config_url(), agent.api()] {
        // The connection may be closed while the client still writes what the server does not read. Not every time.
        let mut answer = None;
        for _ in 0..20 {
            let sent = http.put(format!("{base}{path}")).body(large.clone()).send();
            answer = answer.or(sent.await.ok());
        }
        let answer = answer.expect("one of twenty calls is answered");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_an_endpoint_answers_is_shown_and_never_acted_upon() {
    let answer = "\x1b[2J\x1b]0;owned\x07\x1b[31mPWNED\x1b[0m\r\n2026-11-25T00:00:00Z  INFO forged log line\u{202e}";
    let router = Router::new().route("/", post(async move || (StatusCode::BAD_REQUEST, answer)));
    let url = serve(router).await;
    let purpose = json!({"handler": "webhook", "url": url, "allow_private_addresses": true});
    let project = Project::new(purpose, json!({}));
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "03:00"});
    let mut command = project.command();
    at_time(&mut command, "2026-03-02 12:00:00");
    let agent = project.run(command, [("one".to_owned(), daily)]).await;
    triggered(&agent, "posts").await;
    let address = agent.api().trim_start_matches("http://").to_owned();
    for arguments in [
        &["dead-letters", "list", "--all"][..],
        &["dead-letters", "list", "--all", "--json"],
        &["results", "--tenant", "one"],
        &["results", "--tenant", "one", "--json"],
        &["explain", "--tenant", "one", "--job", "posts"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_punctual-agent"))
            .env("BATCH_HTTP_ADDR", &address)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}");
        let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(hidden), "{arguments:?}: {text:?}");
        let forged = text.lines().any(|line| line.starts_with("2026-11-25T"));
        assert!(!forged, "{arguments:?}: {text}");
    }
    // The reason is in the log.
    agent.until_logged("PWNED").await;
    for line in agent.log() {
        assert!(
            !line.starts_with("2026-11-25T") && !line.contains('\x1b'),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn a_template_that_never_ends_ends_with_its_item_and_others_go_on() {
    let doubled = "{% set ns = namespace(s=[1,2,3]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}";
    let hostile = [
        ("tojson", "{{ ns.s|tojson|length }}"),
        ("join", "{{ (ns.s ~ '')|length }}"),
        ("string", "{{ ns.s|string|upper|length }}"),
        ("capture", "{% set x %}{{ ns.s }}{% endset %}{{ x|length }}"),
        ("repeat", "{{ ('x' * 1000000000 * 9)|length }}"),
    ];
    let project = Project::new(
        json!({"handler": "template", "template": "good.j2"}),
        json!({}),
    );
    let mut jobs = vec![];
    let mut purposes = serde_json::Map::new();
    project.write("templates/good.j2", "fine");
    for (name, text) in [("good", "fine")].iter().chain(&hostile) {
        let head = if *name == "good" { "" } else { doubled };
        project.write(&format!("templates/{name}.j2"), &format!("{head}{text}"));
        jobs.push(
            json!({"job_id": name, "type": "individual_batch", "purpose_id": name,
            "schedule": {"cron": "0 0 29 2 *"}, "source": {"file": "../items.json"}}),
        );
        let mut purpose = json!({"handler": "template", "template": format!("{name}.j2")});
        if *name != "good" {
            purpose["item_timeout_ms"] = json!(2000);
        }
        purposes.insert((*name).to_owned(), purpose);
    }
    project.write("items.json", "[\"a\", \"b\"]");
    project.write(
        "batch/batch_config.json",
        &json!({"jobs": jobs}).to_string(),
    );
    project.write(
        "batch/purposes.json",
        &json!({"purposes": purposes}).to_string(),
    );
    let mut command = project.command();
    command.env("BATCH_RETRY_LIMIT", "0");
    let agent = Agent::start(command);
    agent
        .until("/health/ready", |ready| ready["status"] == "ready")
        .await;
    for (name, _) in &hostile {
        let path = format!("/api/v1/jobs/{name}/trigger");
        agent.call(Method::POST, &path, &json!({})).await;
    }
    let begin = Instant::now();
    let good = triggered(&agent, "good").await;
    assert_eq!(good["progress"]["succeeded"], 2);
    assert!(begin.elapsed() < TEST_TIMEOUT, "{:?}", begin.elapsed());
    let all = agent
        .until("/api/v1/batches", |list| {
            let batches = list["batches"].as_array().unwrap();
            batches.len() == hostile.len() + 1
                && batches.iter().all(|batch| !batch["finished_at"].is_null())
        })
        .await;
    for batch in all["batches"].as_array().unwrap() {
        if batch["job_id"] != "good" {
            assert_eq!(batch["progress"]["failed"], 2, "{batch}");
        }
    }
    let letters = agent.get("/api/v1/dead-letters").await;
    for letter in letters["dead_letters"].as_array().unwrap() {
        let reason = letter["reason"].as_str().unwrap();
        assert!(
            reason.contains("template `") || reason.contains("2000"),
            "{reason}"
        );
    }
}

fn modes(folder: &Path, found: &mut Vec<(String, u32)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The agent writes files anew beside the old ones: this one may have gone meanwhile.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        found.push((
            path.display().to_string(),
            metadata.permissions().mode() & 0o777,
        ));
        if metadata.is_dir() {
            modes(&path, found);
        }
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn every_file_is_its_users_alone() {
    let purpose = json!({"handler": "template", "template": "t.j2"});
    let project = Project::new(
        purpose,
        json!({"deliver": [{"file": "../var/out/results.ndjson"}]}),
    );
    project.write("templates/t.j2", "hello");
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "03:00"});
    let var = project.path().join("var");
    let mut command = project.command();
    at_time(&mut command, "2026-03-02 12:00:00");
    command
        .env(
            "BATCH_STORE_URL",
            format!("sqlite://{}/punctual.db", var.display()),
        )
        .env(
            "CONFIG_STORE_URL",
            format!("sqlite://{}/config.db", var.display()),
        )
        .env("CONFIG_LAST_KNOWN_GOOD_PATH", var.join("known"));
    let agent = project.run(command, [("one".to_owned(), daily)]).await;
    triggered(&agent, "posts").await;
    until_beside(&agent, || var.join("out/results.ndjson").exists()).await;
    let mut found = vec![];
    modes(&var, &mut found);
    assert!(found.len() >= 8, "{found:?}");
    for (path, mode) in found {
        assert!(mode == 0o600 || mode == 0o700, "{path}: {mode:o}");
    }
}

#[tokio::test]
async fn the_agent_ends_on_a_signal_whatever_clients_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command
        .env("BATCH_API_KEY", KEY)
        .env("CONFIG_SERVICE_API_KEY", KEY);
    let agent = Agent::start(command);
    let unfinished = "POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nkey=";
    let mut held = vec![];
    for url in [agent.api(), agent.config_url()] {
        for request in [
            unfinished,
            "",
            "GET / HT",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ] {
            let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            held.push(stream);
        }
    }
    let began = Instant::now();
    assert!(agent.terminate().success());
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}
