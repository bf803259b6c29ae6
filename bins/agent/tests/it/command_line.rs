//! What a user types: check, preview, and mistakes in settings.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::{
    agent::{command, repository},
    common::daily,
    project::Project,
};

fn output(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

fn agent(arguments: &[&str]) -> Command {
    let mut command = command(Path::new("/nonexistent"));
    command.args(arguments);
    command
}

fn preview_lines(input: &str) -> Vec<Value> {
    let mut child = agent(&["preview", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_example_jobs_have_no_mistakes() {
    let (code, out, _) = output(&mut agent(&["check"]));
    assert_eq!(
        (code, out.as_str()),
        (0, "data/batch/batch_config.json: 4 jobs, no mistakes\n")
    );
}

#[test]
fn check_shows_every_mistake_of_every_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("batch")).unwrap();
    std::fs::create_dir(folder.path().join("templates")).unwrap();
    std::fs::write(folder.path().join("templates/broken.j2"), "{% for %}").unwrap();
    let jobs = folder.path().join("batch/batch_config.json");
    let purposes = folder.path().join("batch/purposes.json");
    std::fs::write(
        &jobs,
        r#"{ "jobs": [
  { "job_id": "a", "type": "object_batch", "purpose_id": "nowhere", "priority": "high",
    "schedule": { "frequency": "daily" }, "source": { "file": "gone.json" },
    "deliver": [{ "sink": "warehouse" }] }
] }"#,
    )
    .unwrap();
    std::fs::write(
        &purposes,
        r#"{ "purposes": { "p": { "handler": "template", "template": "broken.j2" } } }"#,
    )
    .unwrap();
    let mut check = agent(&["check"]);
    check
        .env("BATCH_CONFIG_PATH", &jobs)
        .env("BATCH_PURPOSES_PATH", &purposes);
    let (code, out, err) = output(&mut check);
    assert_eq!(code, 2);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(
        lines[0]
            .contains("purposes.json:1:59: /purposes/p/template: \"broken.j2\" cannot be used: "),
        "{out}"
    );
    assert!(lines[0].contains("syntax error"), "{out}");
    assert!(
        lines[1].contains(
            "batch_config.json:2:58: /jobs/0/purpose_id: \"nowhere\" is not in purposes.json"
        ),
        "{out}"
    );
    assert!(
        lines[3]
            .contains("batch_config.json:3:63: /jobs/0/source/file: \"gone.json\" is not a file"),
        "{out}"
    );
    assert!(
        out.contains(
            "/jobs/0/deliver/0/sink: \"warehouse\" is a sink, and only programs that embed"
        ),
        "{out}"
    );
    assert!(err.contains("4 mistakes"), "{err}");

    let mut as_json = agent(&["check", "--json"]);
    as_json
        .env("BATCH_CONFIG_PATH", &jobs)
        .env("BATCH_PURPOSES_PATH", &purposes);
    let (code, out, _) = output(&mut as_json);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["errors"][1]["line"].as_u64()), (2, Some(2)));
    assert_eq!(report["errors"][1]["pointer"], "/jobs/0/purpose_id");

    let mut run = agent(&["run"]);
    run.env("BATCH_CONFIG_PATH", &jobs)
        .env("BATCH_PURPOSES_PATH", &purposes);
    let (code, _, err) = output(&mut run);
    assert_eq!(code, 2, "what check refuses does not run");
    assert!(err.contains("nowhere"), "{err}");
}

#[test]
fn a_mistake_in_a_job_hides_no_mistake_in_purposes_and_sources() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = folder.path().join("batch_config.json");
    let purposes = folder.path().join("purposes.json");
    std::fs::write(
        &jobs,
        r#"{ "jobs": [
  { "job_id": "a", "type": "individual_batch", "purpose_id": "nowhere", "priority": "urgent",
    "schedule": { "frequency": "daily" }, "source": { "ids": ["one"] } },
  { "job_id": "b", "type": "individual_batch", "purpose_id": "elsewhere",
    "schedule": { "cron": "0 9 * * *" }, "source": { "file": "gone.json" } }
] }"#,
    )
    .unwrap();
    let webhook =
        r#"{ "purposes": { "p": { "handler": "webhook", "url": "https://crm.example" } } }"#;
    std::fs::write(&purposes, webhook).unwrap();
    let mut check = agent(&["check"]);
    check
        .env("BATCH_CONFIG_PATH", &jobs)
        .env("BATCH_PURPOSES_PATH", &purposes);
    let (code, out, err) = output(&mut check);
    assert_eq!(code, 2);
    for mistake in [
        "/jobs/0/priority: \"urgent\" is not a priority",
        "/jobs/0/purpose_id: \"nowhere\" is not in purposes.json; add it there, or use one of p",
        "/jobs/1/purpose_id: \"elsewhere\" is not in purposes.json",
        "/jobs/1/source/file: \"gone.json\" is not a file",
    ] {
        assert!(out.contains(mistake), "{mistake} is not in {out}");
    }
    assert!(err.contains("4 mistakes"), "{err}");
}

#[test]
fn preview_answers_one_preference_for_people_and_programs() {
    let berlin =
        r#"{"frequency": "daily", "preferred_time": "02:30", "timezone": "Europe/Berlin"}"#;
    let from = ["--from", "2026-03-28T00:00:00Z", "--count", "3"];
    let (code, out, _) = output(agent(&["preview", "--preference", berlin]).args(from));
    assert_eq!(code, 0);
    for expected in [
        "daily 02:30 Europe/Berlin",
        "2026-03-29T01:30:00Z",
        "Sun 2026-03-29 03:30",
        "2026-03-30T00:30:00Z",
    ] {
        assert!(out.contains(expected), "{expected} in {out}");
    }
    let (_, out, _) = output(agent(&["preview", "--json", "--preference", berlin]).args(from));
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["occurrences"].as_array().unwrap().len(), 3);

    let (code, _, err) = output(&mut agent(&[
        "preview",
        "--preference",
        r#"{"frequency": "dayly"}"#,
    ]));
    assert_eq!(code, 2);
    assert!(
        err.contains("/frequency: \"dayly\" is not a frequency; use one of"),
        "{err}"
    );
    assert_eq!(
        output(&mut agent(&["preview"])).0,
        2,
        "one of the three forms is needed"
    );
}

#[test]
fn preview_answers_many_line_by_line() {
    let answers = preview_lines(concat!(
        r#"{"id": "dst", "preference": {"frequency": "daily", "preferred_time": "02:30", "timezone": "America/New_York"}, "from": "2026-03-08T00:00:00Z", "count": 2}"#,
        "\n",
        r#"{"id": 7, "preference": {"frequency": "monthly", "preferred_day": 31}, "from": "2026-01-31T09:00:00Z", "count": 3}"#,
        "\n\n",
        r#"{"id": "bad", "preference": {"frequency": "daily", "timezone": "Mars/Olympus"}}"#,
        "\n",
        r#"{"id": "worse"}"#,
        "\n",
        "not json\n",
    ));
    assert_eq!(answers.len(), 5);
    assert_eq!(
        answers[0]["occurrences"],
        json!(["2026-03-08T07:30:00Z", "2026-03-09T06:30:00Z"])
    );
    assert_eq!(
        answers[1]["occurrences"],
        json!([
            "2026-02-28T09:00:00Z",
            "2026-03-31T09:00:00Z",
            "2026-04-30T09:00:00Z"
        ]),
        "strictly after `from`"
    );
    assert_eq!(answers[1]["id"], 7);
    assert!(
        answers[2]["error"]
            .as_str()
            .unwrap()
            .contains("Mars/Olympus")
    );
    assert!(
        answers[3]["error"].as_str().unwrap().contains("preference") && answers[3]["id"] == "worse"
    );
    assert!(answers[4]["error"].is_string() && answers[4]["id"].is_null());
}

#[tokio::test]
async fn preview_answers_for_a_tenant_of_the_config_database() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.ndjson");
    let line = r#"{"tenant_id": "t1", "config_value": {"instagram_posts": {"enabled": true, "timezone": "Asia/Tokyo"}}}"#;
    std::fs::write(&file, line).unwrap();
    let settings = punctual_config_database::ServerSettings {
        store_url: format!("sqlite://{}", folder.path().join("config.db").display()),
        addr: "127.0.0.1:0".parse().unwrap(),
        admin_key: None,
    };
    let server = punctual_config_database::Server::bind(settings)
        .await
        .unwrap();
    server.store().import_file(&file).await.unwrap();
    let url = format!("http://{}", server.addr());
    tokio::spawn(server.serve(std::future::pending()));

    let ask = |tenant: &'static str| {
        let mut command = agent(&[
            "preview",
            "--tenant",
            tenant,
            "--feature",
            "instagram_posts",
        ]);
        command.env("CONFIG_SERVICE_URL", &url);
        tokio::task::spawn_blocking(move || output(&mut command))
    };
    let (code, out, _) = ask("t1").await.unwrap();
    assert_eq!(code, 0);
    assert!(
        out.contains("weekly monday 10:00 Asia/Tokyo"),
        "what is missing comes from the job: {out}"
    );
    let (code, _, err) = ask("stranger").await.unwrap();
    assert_eq!(code, 2);
    assert!(
        err.contains("stranger has no preference for instagram_posts"),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_computes_times_needs_no_secret_of_a_purpose() {
    let purpose =
        json!({"handler": "webhook", "url": "https://crm.example", "secret_env": "IS_NOT_SET"});
    let project = Project::new(
        purpose,
        json!({"default_preferences": {"frequency": "daily"}}),
    );
    let tenants = [("ann".to_owned(), daily())];
    let url = project
        .serve(&project.preferences(tenants.into_iter()))
        .await;
    let run = |words: &[&str]| {
        let mut command = project.command();
        output(command.args(words).env("CONFIG_SERVICE_URL", &url))
    };
    let (code, out, _) = run(&["check"]);
    assert_eq!(code, 2);
    assert!(out.contains("IS_NOT_SET"), "{out}");
    for words in [
        &["simulate", "--users", "10", "--days", "1"][..],
        &["simulate", "--days", "1"],
        &["preview", "--tenant", "ann", "--feature", "posts"],
    ] {
        let (code, _, err) = run(words);
        assert_eq!(code, 0, "{words:?}: {err}");
    }
}

#[test]
fn a_config_database_that_is_not_in_use_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| folder.path().join(name);
    let mut backup = command(folder.path());
    backup.arg("backup").arg("--to").arg(copy("a.db"));
    backup.arg("--config-to").arg(copy("b.db"));
    let (code, _, err) = output(backup.env("CONFIG_SERVICE_URL", "http://other.example"));
    assert_eq!(code, 2);
    assert!(
        err.contains("run `punctual-config-service backup --to FILE`"),
        "{err}"
    );
    assert!(!copy("a.db").exists() && !copy("b.db").exists());
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    for (name, value, expected) in [
        ("CONFIG_CACHE_TTL", "soon", "CONFIG_CACHE_TTL"),
        ("BATCH_HTTP_ADDR", "0.0.0.0:0", "set BATCH_API_KEY"),
        ("BATCH_LOG", "==", "BATCH_LOG"),
    ] {
        let (code, _, err) = output(agent(&["run"]).env(name, value));
        assert_eq!(code, 2, "{name}");
        assert!(err.contains(expected), "{err}");
    }
    let (code, out, _) = output(&mut agent(&["--version"]));
    assert_eq!(code, 0);
    assert!(out.starts_with("punctual-agent 0."), "{out}");
    assert!(repository().join("Cargo.toml").exists());
}

#[test]
fn a_settings_file_holds_the_same_names_and_the_environment_wins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(
        &file,
        "BATCH_CONFIG_PATH = \"from/the/file.json\"\nBATCH_RETRY_LIMIT = 5\n",
    )
    .unwrap();
    let (_, out, _) = output(agent(&["check", "--settings"]).arg(&file));
    assert!(out.contains("from/the/file.json"), "{out}");
    let mut both = agent(&["check", "--settings"]);
    let (_, out, _) = output(
        both.arg(&file)
            .env("BATCH_CONFIG_PATH", "from/the/environment.json"),
    );
    assert!(out.contains("from/the/environment.json"), "{out}");
    std::fs::write(&file, "BATCH_CONFIG_PAHT = \"x\"\n").unwrap();
    let (code, _, err) = output(agent(&["check", "--settings"]).arg(&file));
    assert_eq!(code, 2);
    assert!(err.to_lowercase().contains("batch_config_paht"), "{err}");
}

#[test]
fn an_error_names_the_setting_that_mends_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (setting, value, named) in [
        (
            "BATCH_STORE_URL",
            "mysql://h/db",
            "BATCH_STORE_URL: invalid",
        ),
        (
            "BATCH_STORE_URL",
            "sqlite:///proc/a.db",
            "check BATCH_STORE_URL",
        ),
        (
            "CONFIG_STORE_URL",
            "mysql://h/db",
            "CONFIG_STORE_URL: invalid",
        ),
        (
            "BATCH_CONFIG_PATH",
            "/nonexistent/jobs.json",
            "correct BATCH_CONFIG_PATH, or the permissions of the file",
        ),
        (
            "BATCH_PURPOSES_PATH",
            "/nonexistent/purposes.json",
            "/nonexistent/purposes.json: cannot be read: ",
        ),
        (
            "BATCH_PURPOSES_PATH",
            "/nonexistent/purposes.json",
            "correct BATCH_PURPOSES_PATH, or the permissions of the file",
        ),
        (
            "CONFIG_SERVICE_URL",
            "ftp://h",
            "invalid CONFIG_SERVICE_URL",
        ),
        ("CONFIG_HTTP_ADDR", &taken, "set CONFIG_HTTP_ADDR"),
        (
            "CONFIG_HTTP_ADDR",
            "0.0.0.0:0",
            "set CONFIG_SERVICE_API_KEY",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut run = command(folder.path());
        let (code, _, err) = output(run.arg("run").env(setting, value));
        assert!(code != 0 && err.contains(named), "{value}: {err}");
        assert!(code == 2 || !value.starts_with("mysql"), "{err}");
    }
}
