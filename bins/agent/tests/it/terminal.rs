//! The command line as an engineer uses it: what a running agent shows and is asked for, at a terminal and in a script.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::Instant,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, TEST_TIMEOUT, command, repository},
    common::{daily, daily_with},
    control::{ask, asking, refuses, stdout_of},
    project::Project,
};

/// A job `posts` that greets tenants by a word that they choose: `bad` has chosen none, and fails.
fn greetings() -> (Project, Command) {
    let purpose = json!({"handler": "template", "template": "word.j2"});
    let project = Project::new(purpose, json!({}));
    project.write("templates/word.j2", "{{ word }}");
    let with_word = daily_with(&json!({"word": "Moin"}));
    let tenants = [("good".to_owned(), with_word), ("bad".to_owned(), daily())];
    let preferences = project.preferences(tenants.into_iter());
    let mut command = project.command();
    command.args(["run", "--import"]).arg(preferences);
    (project, command)
}

async fn ready(command: Command) -> Agent {
    let agent = Agent::start(command);
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == 2)
        .await;
    agent
        .until("/health/ready", |health| health["status"] == "ready")
        .await;
    agent
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        panic!("{error}: {out}\n{err}")
    })
}

/// A command at a terminal of its own, made by `script`, which also passes on what is typed.
struct AtTerminal {
    child: Child,
    output: Receiver<Vec<u8>>,
    shown: String,
}

impl AtTerminal {
    fn new(command: &Command) -> Self {
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
        let words = [command.get_program()]
            .into_iter()
            .chain(command.get_args());
        let line: Vec<String> = words.map(quoted).collect();
        let line = format!("exec {}", line.join(" "));
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            script.current_dir(folder);
        }
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` is a part of every Debian");
        let (sender, output) = mpsc::channel();
        let mut stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut piece) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            output,
            shown: String::new(),
        }
    }

    /// Waits until the terminal has shown this.
    fn until(&mut self, expected: &str) {
        while !self.shown.contains(expected) {
            let Ok(piece) = self.output.recv_timeout(TEST_TIMEOUT) else {
                panic!("`{expected}` is not shown:\n{}", self.shown);
            };
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    fn type_in(&mut self, keys: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(keys.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// The exit code, and all that the terminal has shown.
    fn end(mut self) -> (Option<i32>, String) {
        while let Ok(piece) = self.output.recv_timeout(TEST_TIMEOUT) {
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
        (self.child.wait().unwrap().code(), self.shown)
    }
}

#[tokio::test]
async fn status_shows_what_is_wrong_first_and_its_exit_code_says_whether() {
    let (_project, command) = greetings();
    let agent = ready(command).await;
    let fine = stdout_of(&agent, &["status"]);
    assert!(fine.starts_with("Nothing is wrong\n"), "{fine}");
    for part in [
        "posts",
        "scheduled",
        "UTC",
        "Running batches",
        "answers, preferences as of 20",
    ] {
        assert!(fine.contains(part), "{part} in {fine}");
    }
    stdout_of(&agent, &["pause", "posts"]);
    let wrong = ask(&agent, &["status"]);
    let shown = text(&wrong.stdout);
    assert_eq!(
        (wrong.status.code(), text(&wrong.stderr)),
        (Some(1), String::new())
    );
    assert!(
        shown.starts_with("What is wrong (1)\n!  posts is paused"),
        "{shown}"
    );
    assert!(shown.contains("`punctual-agent resume posts`"), "{shown}");
    let document = json_of(&ask(&agent, &["status", "--json"]));
    assert_eq!(document["ready"], true);
    assert_eq!(document["jobs"][0]["paused"], true);
    assert_eq!(document["config_database"]["state"], "up_to_date");
    let remedy = document["findings"][0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("resume posts"), "{remedy}");

    let mut nowhere = asking(&agent, &["status"]);
    nowhere.env("BATCH_HTTP_ADDR", "127.0.0.1:9");
    let output = nowhere.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no agent answers at 127.0.0.1:9"));
}

#[tokio::test]
async fn a_run_is_waited_for_and_its_outcome_is_the_exit_code() {
    let (_project, command) = greetings();
    let agent = ready(command).await;
    let good = ask(&agent, &["trigger", "posts", "--tenant", "good", "--wait"]);
    let shown = text(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(
        ["completed", "1 succeeded", "manual"]
            .iter()
            .all(|part| shown.contains(part)),
        "{shown}"
    );
    let bad = ["trigger", "posts", "--tenant", "bad", "--wait", "--json"];
    let bad = ask(&agent, &bad);
    assert_eq!(
        (bad.status.code(), text(&bad.stderr)),
        (Some(1), String::new())
    );
    let ended = json_of(&bad);
    assert_eq!(ended["batches"][0]["progress"]["failed"], 1, "{ended}");
    let replay = [
        "dead-letters",
        "replay",
        "--job",
        "posts",
        "--yes",
        "--wait",
    ];
    let replayed = ask(&agent, &replay);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(text(&replayed.stdout).contains("1 failed"));

    let runs = agent.get("/api/v1/tenants/good/runs").await;
    let today = &runs["runs"][0]["started_at"].as_str().unwrap()[..10];
    let today: chrono::NaiveDate = today.parse().unwrap();
    let yesterday = today.pred_opt().unwrap().to_string();
    let backfill = [
        "backfill", "posts", "--from", &yesterday, "--to", &yesterday, "--tenant", "good",
        "--wait", "--json",
    ];
    let output = ask(&agent, &backfill);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document = json_of(&output);
    let batch = &document["batches"][0];
    assert_eq!(
        (&batch["trigger"], &batch["progress"]["succeeded"]),
        (&json!("backfill"), &json!(1))
    );
    let again = &backfill[..backfill.len() - 1];
    assert_eq!(
        stdout_of(&agent, again),
        "posts: 1 item fell due, 0 have not run\n"
    );

    // Without waiting, the answer is the commands to look with, and they work.
    let queued = stdout_of(&agent, &["trigger", "posts", "--tenant", "good"]);
    let next = queued.lines().last().unwrap().trim();
    let words: Vec<&str> = next
        .strip_prefix("punctual-agent ")
        .unwrap()
        .split(' ')
        .collect();
    assert_eq!(words[0], "results", "{queued}");
    stdout_of(&agent, &words);
}

#[tokio::test]
async fn a_run_that_does_not_begin_because_the_job_is_paused_is_said_to() {
    let (_project, command) = greetings();
    let agent = ready(command).await;
    stdout_of(&agent, &["pause", "posts"]);
    let held = "posts is queued, but paused: `punctual-agent resume posts`\n";
    let trigger = ["trigger", "posts", "--tenant", "good"];
    let queued = ask(&agent, &trigger);
    assert_eq!(
        (queued.status.code(), text(&queued.stderr)),
        (Some(0), held.to_owned())
    );
    let shown = text(&queued.stdout);
    assert!(shown.starts_with("posts is queued for 1 item\n"), "{shown}");
    let mut waits = asking(&agent, &[&trigger[..], &["--wait"]].concat());
    waits.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut waits = waits.spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(waits.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, held);
    stdout_of(&agent, &["resume", "posts"]);
    let over = waits.wait_with_output().unwrap();
    assert!(over.status.success(), "{over:?}");
    assert!(text(&over.stdout).contains("1 succeeded"), "{over:?}");
}

#[tokio::test]
async fn a_state_that_is_watched_is_shown_again_when_it_changes() {
    let (_project, command) = greetings();
    let agent = ready(command).await;
    let mut watching = asking(&agent, &["batches", "--watch", "--job", "posts"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(watching.stdout.take().unwrap());
    std::thread::spawn(move || {
        let lines = stdout.lines().map_while(Result::ok);
        lines
            .take_while(|line| sender.send(line.clone()).is_ok())
            .count()
    });
    let shown = |expected: &str| {
        let began = Instant::now();
        while began.elapsed() < TEST_TIMEOUT {
            let line = lines.recv_timeout(TEST_TIMEOUT).unwrap();
            if line.contains(expected) {
                return;
            }
        }
        panic!("{expected} is not shown");
    };
    shown("No batches");
    let queued = ask(&agent, &["trigger", "posts", "--tenant", "good", "--json"]);
    let id = json_of(&queued)["batch_id"].as_str().unwrap().to_owned();
    shown(&id);
    // It may have been seen before it was over.
    let seen = stdout_of(&agent, &["batches", &id]);
    assert!(seen.contains("posts"), "{seen}");
    let path = format!("/api/v1/batches/{id}");
    agent
        .until(&path, |batch| !batch["finished_at"].is_null())
        .await;
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[tokio::test]
async fn what_touches_many_or_cannot_be_undone_needs_a_yes() {
    let (_project, command) = greetings();
    let agent = ready(command).await;
    refuses(
        &agent,
        &["trigger", "posts"],
        "Run posts now for all 2 tenants?",
    );
    refuses(
        &agent,
        &["trigger", "posts"],
        "repeat the command with --yes",
    );
    assert_eq!(
        agent.all("/api/v1/batches", "batches").await,
        [] as [Value; 0]
    );
    ask(&agent, &["trigger", "posts", "--tenant", "bad", "--wait"]);
    let discard = ["dead-letters", "discard", "--job", "posts"];
    refuses(
        &agent,
        &discard,
        "Discard 1 dead letter of posts? They can be reopened for 30 days, on the operations page.",
    );
    refuses(
        &agent,
        &["dead-letters", "replay", "--all"],
        "Run 1 dead letter again?",
    );

    // At a terminal it asks, and everything but a yes is a no.
    let mut asked = AtTerminal::new(&asking(&agent, &discard));
    asked.until("page. [y/N] ");
    asked.type_in("\n");
    let (code, shown) = asked.end();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("nothing was done"), "{shown}");
    let open = "/api/v1/dead-letters?state=open";
    assert_eq!(agent.all(open, "dead_letters").await.len(), 1);
    let mut asked = AtTerminal::new(&asking(&agent, &discard));
    asked.until("[y/N] ");
    asked.type_in("y\n");
    let (code, shown) = asked.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("1 dead letter is discarded"), "{shown}");
    assert_eq!(agent.all(open, "dead_letters").await, [] as [Value; 0]);
}

#[tokio::test]
async fn names_that_do_not_exist_are_refused() {
    let (_project, command) = greetings();
    let agent = ready(command).await;
    let unknown = "job `nope` does not exist; the jobs are posts";
    for words in [
        &["dead-letters", "list", "--job", "nope"][..],
        &["batches", "--job", "nope"],
        &["jobs", "nope"],
        &["trigger", "nope", "--yes"],
    ] {
        refuses(&agent, words, unknown);
    }
    let batch = "9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10";
    for words in [
        &["batches", batch][..],
        &["results", "--batch", batch],
        &["cancel", batch],
    ] {
        refuses(&agent, words, "does not exist");
    }
}

#[tokio::test]
async fn every_list_is_json_fits_the_terminal_and_marks_failures_in_colour() {
    let (_project, command) = greetings();
    let agent = ready(command).await;
    // It names no frequency, and the job has none either.
    let preference = json!({"config_value": {"posts": {"enabled": true}}});
    let path = "tenants/odd/configs/feature_preferences";
    agent.forget_jobs("posts").await;
    agent.config(Method::PUT, path, &preference).await;
    agent
        .until("/api/v1/quarantine", |found| found["count"] == 1)
        .await;
    ask(&agent, &["trigger", "posts", "--yes", "--wait"]);
    stdout_of(&agent, &["pause", "posts"]);
    let lists = [
        &["status"][..],
        &["jobs"],
        &["batches"],
        &["results", "--tenant", "bad"],
        &["dead-letters", "list"],
        &["deliveries"],
        &["quarantine"],
        &["audit-log", "--limit", "1"],
        &["waiting"],
        &["suppressions", "list"],
        &["retention", "--preview"],
        &["explain", "--tenant", "bad", "--job", "posts"],
    ];
    for words in lists {
        for width in [80, 40] {
            let output = asking(&agent, words)
                .env("COLUMNS", width.to_string())
                .output();
            let shown = text(&output.unwrap().stdout);
            for line in shown.lines() {
                assert!(
                    line.chars().count() <= width,
                    "{words:?}, {width}:\n{shown}"
                );
            }
            assert!(
                !shown.trim().is_empty() && !shown.contains('\u{1b}'),
                "{words:?}: {shown}"
            );
        }
        json_of(&ask(&agent, &[words, &["--json"]].concat()));
    }
    let quarantine = stdout_of(&agent, &["quarantine"]);
    assert!(
        quarantine.contains("odd") && quarantine.contains("/frequency  is missing; "),
        "{quarantine}"
    );
    let log = stdout_of(&agent, &["audit-log"]);
    assert!(log.contains("pause") && log.contains("trigger"), "{log}");

    let (odd, plain) = ("a+b/c%20d#e?f@shop.example", "bob@shop.example");
    let added = ["suppressions", "add", odd, plain, "--reason", "complained"];
    let said = stdout_of(&agent, &added);
    assert!(said.contains("Added 2 addresses"), "{said}");
    let said = stdout_of(&agent, &added);
    assert!(
        said.contains("Added 0 addresses; 2 on the list already"),
        "{said}"
    );
    stdout_of(&agent, &["suppressions", "remove", odd]);
    let listed = json_of(&ask(&agent, &["suppressions", "list", "--json"]));
    assert_eq!(listed["suppressions"][0]["address"], plain);
    assert_eq!(listed["suppressions"].as_array().unwrap().len(), 1);
    let again = ask(&agent, &["suppressions", "remove", odd]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again.stdout));
    let wrong = ask(&agent, &["suppressions", "remove", "bob"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stdout));

    let (_, shown) = AtTerminal::new(&asking(&agent, &["batches"])).end();
    assert!(
        shown.contains("\u{1b}[31m") || shown.contains("\u{1b}[38;5;9m"),
        "{shown:?}"
    );
    let mut plain = asking(&agent, &["batches"]);
    plain.env("NO_COLOR", "1");
    // `AtTerminal` sets the variables of the command last.
    let (_, shown) = AtTerminal::new(&plain).end();
    assert!(
        !shown.contains('\u{1b}') && shown.contains("1 failed"),
        "{shown:?}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_punctual-agent"))
        .args(["reference", "agent"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new())
    );
}

#[test]
fn a_run_at_a_terminal_says_what_it_does_and_that_nothing_is_lost() {
    let (_project, mut command) = greetings();
    command
        .args(["--look-back", "24h"])
        .env("BATCH_API_KEY", "0123456789abcdef");
    let mut run = AtTerminal::new(&command);
    run.until("Ctrl-C stops.");
    run.type_in("\u{3}");
    let (code, shown) = run.end();
    assert_eq!(code, Some(0), "{shown}");
    let plain = plain(&shown);
    let done = plain
        .lines()
        .find(|line| line.contains("1 succeeded, 1 failed"));
    let done = done.unwrap_or_else(|| panic!("{plain}"));
    assert!(done.trim_start().starts_with("✗  20"), "{done}");
    for part in [
        " UTC",
        "Look next",
        "BATCH_HTTP_ADDR=127.0.0.1:",
        "BATCH_API_KEY",
        "punctual-agent results --tenant good",
        "Moin",
        "Stopped. Nothing is lost",
    ] {
        assert!(plain.contains(part), "{part} in {plain}");
    }
    assert!(
        shown.contains("\u{1b}["),
        "failures are in colour: {shown:?}"
    );
}

/// A text without what sets colours and moves the cursor.
fn plain(shown: &str) -> String {
    let mut text = String::new();
    let mut rest = shown.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            text.push(c);
        }
    }
    text.replace('\r', "\n")
}

/// The agent's command line in an empty folder, with the default settings but for its ports.
fn in_folder(folder: &Path, words: &[&str]) -> Command {
    let mut command = command(folder);
    for name in [
        "CONFIG_STORE_URL",
        "BATCH_STORE_URL",
        "CONFIG_LAST_KNOWN_GOOD_PATH",
        "COLUMNS",
    ] {
        command.env_remove(name);
    }
    command.current_dir(folder).stdin(Stdio::null()).args(words);
    command
}

#[tokio::test]
async fn init_writes_a_job_that_runs_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = |words: &[&str]| in_folder(folder.path(), words).output().unwrap();
    let written = output(&["init"]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    let shown = text(&written.stdout);
    let steps = std::fs::read_to_string(repository().join("docs/first-steps.md")).unwrap();
    let steps: String = steps.split_whitespace().collect();
    for file in [
        "data/batch/batch_config.json",
        "data/batch/purposes.json",
        "data/templates/greeting.txt.j2",
    ] {
        assert!(shown.contains(file), "{file} in {shown}");
        let content = std::fs::read_to_string(folder.path().join(file)).unwrap();
        let content: String = content.split_whitespace().collect();
        assert!(
            steps.contains(&content),
            "docs/first-steps.md shows {file} as it is"
        );
    }
    let checked = output(&["check"]);
    assert_eq!(
        text(&checked.stdout),
        "data/batch/batch_config.json: 1 job, no mistakes\n"
    );
    std::fs::write(folder.path().join("data/batch/purposes.json"), "mine").unwrap();
    std::fs::remove_file(folder.path().join("data/batch/batch_config.json")).unwrap();
    let again = output(&["init"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        text(&again.stderr)
            .contains("data/batch/purposes.json exists, and init overwrites nothing")
    );
    assert!(
        !folder.path().join("data/batch/batch_config.json").exists(),
        "nothing was written"
    );

    let folder = tempfile::tempdir().unwrap();
    let written = in_folder(folder.path(), &["init", "--json"])
        .output()
        .unwrap();
    assert_eq!(json_of(&written)["written"][1], "data/batch/purposes.json");
    let agent = Agent::start(in_folder(folder.path(), &["run"]));
    let greet = [
        "trigger",
        "greetings",
        "--tenant",
        "ann",
        "--allow-unknown",
        "--wait",
    ];
    agent
        .until("/health/ready", |health| health["status"] == "ready")
        .await;
    stdout_of(&agent, &greet);
    let shown = stdout_of(&agent, &["results", "--tenant", "ann"]);
    assert!(shown.contains("Hello, ann!"), "{shown}");
}

#[test]
fn check_warns_of_defaults_that_templates_do_not_see_by_their_names() {
    let purpose = json!({"handler": "template", "template": "t.j2"});
    let defaults = json!({"frequency": "daily",
        "template_overrides": {"data": "x", "organization": "y", "previous": 1, "tone": "dry"}});
    let project = Project::new(purpose, json!({ "default_preferences": defaults }));
    project.write("templates/t.j2", "{{ tone }}");
    let mut check = project.command();
    let output = check.arg("check").output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    for name in ["data", "organization", "previous"] {
        let expected = format!(
            "/jobs/0/default_preferences/template_overrides/{name}: is hidden in templates, where `{name}` is that of the item"
        );
        assert!(shown.contains(&expected), "{shown}");
    }
    assert!(
        shown.ends_with("1 job, no mistakes, 3 warnings\n"),
        "{shown}"
    );
}

#[test]
fn check_finds_what_no_tenant_and_no_default_sets() {
    let purpose = json!({"handler": "template", "template": "word.j2"});
    let project = Project::new(purpose, json!({}));
    project.write(
        "templates/word.j2",
        "{{ wrod }}, {{ item.tenant_id }} {{ tone | default('dry') }}",
    );
    let mut check = project.command();
    let output = check.arg("check").output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "tenants may set it: {shown}");
    assert!(
        shown.contains("/jobs/0/default_preferences/template_overrides: does not set `wrod`, which purpose `write` uses"),
        "{shown}"
    );
    assert!(
        shown.contains("/jobs/0/default_preferences/frequency: is missing: tenants who have not chosen a frequency are quarantined"),
        "{shown}"
    );
    assert!(
        shown.ends_with("1 job, no mistakes, 2 warnings\n"),
        "{shown}"
    );

    let digest = json!({"jobs": [{"job_id": "digest", "type": "object_batch", "purpose_id": "write",
        "schedule": {"frequency": "daily"}, "source": {"ids": ["a"]}}]});
    project.write("batch/batch_config.json", &digest.to_string());
    let mut check = project.command();
    let output = check.args(["check", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "no tenant can set it");
    let document = json_of(&output);
    let problem = document["errors"][0]["problem"].as_str().unwrap();
    assert_eq!(problem, "uses `wrod`, which nothing sets: every item fails");
}

#[test]
fn shells_complete_the_commands_and_manual_pages_have_their_examples() {
    let agent = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_punctual-agent"));
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        text(&output.stdout)
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = agent(&["completions", shell]);
        assert!(
            script.contains("dead-letters") && script.contains("cancelled"),
            "{shell}"
        );
    }
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let script = agent(&["completions", "bash"]);
    bash.stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(bash.wait().unwrap().success());

    assert!(agent(&["man"]).contains("punctual\\-agent status"));
    let folder = tempfile::tempdir().unwrap();
    agent(&["man", "--to", folder.path().to_str().unwrap()]);
    for (page, example) in [
        ("punctual-agent.1", "punctual\\-agent init"),
        ("punctual-agent-trigger.1", "\\-\\-wait"),
        ("punctual-agent-dead-letters-replay.1", "\\-\\-yes"),
    ] {
        let page = std::fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(page.contains(example), "{page}");
    }
}
