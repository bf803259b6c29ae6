use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use punctual_application::{
    ports::HandlerErrorKind::{self, Permanent, Retryable},
    testing::{ManualClock, contract, item, item_preferring},
};
use punctual_domain::{AtDeadline, Completion, ItemInput};
use rustix::process::{Resource, getrlimit};
use tempfile::TempDir;
use tokio::{runtime::Builder, task::yield_now, time::Instant};
use uuid::Uuid;

use super::*;

/// A variable that Cargo sets for tests, and its value.
const VARIABLE: &str = "CARGO_PKG_NAME";
const VALUE: &str = "punctual-infrastructure";

fn read(options: &Value, item_timeout: Duration) -> Result<CommandHandler, Vec<String>> {
    let mut fields = Fields::new(options.as_object().unwrap(), "/purposes/p");
    let handler = CommandHandler::read(&mut fields, item_timeout);
    fields.deny_others();
    let read = fields.finish(|| handler);
    read.map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

/// A handler that runs this script, and has a minute for it.
fn script(script: &str) -> CommandHandler {
    let options =
        json!({"program": "/bin/sh", "args": ["-c", script], "env": [VARIABLE], "memory_mb": 64});
    read(&options, Duration::from_mins(1)).unwrap()
}

async fn run(handler: &CommandHandler) -> Result<Outcome, (HandlerErrorKind, String)> {
    let ran = handler.run(&item("ann")).await;
    ran.map_err(|error| (error.kind, error.message))
}

/// Whether a process exists and is not a zombie, which only waits for its parent.
fn is_running(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    state.is_some_and(|state| !"ZX".contains(state))
}

/// What a script has written to this file: whole lines, so many.
fn lines(path: &Path, count: usize) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    (text.ends_with('\n') && lines.len() >= count).then_some(lines)
}

/// Waits, for 20 s at most.
async fn eventually<T>(look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "it does not come");
        yield_now().await;
    }
}

async fn have_ended(ids: &[String]) {
    eventually(|| (!ids.iter().any(|id| is_running(id))).then_some(())).await;
}

/// A script that never ends, and ignores that it is asked to: it writes its id and that of a process of its own to the file.
fn stubborn(ids: &Path) -> String {
    let ids = ids.display();
    format!("trap '' TERM; sleep 600 & echo $! >> {ids}; echo $$ >> {ids}; wait; wait; sleep 600")
}

fn ids(folder: &TempDir) -> PathBuf {
    folder.path().join("ids")
}

#[tokio::test]
async fn the_exit_code_says_what_came_of_the_item() {
    let done = |output: Value| Ok(Outcome::Done(output));
    let nothing = |reason: &str| Ok(Outcome::nothing_to_do(reason));
    let failed = |kind, message: &str| Err((kind, message.to_owned()));
    for (text, expected) in [
        (r#"echo '{"a": [1]}'"#, done(json!({"a": [1]}))),
        ("echo 42", done(json!(42))),
        (
            "echo 'Hello  '; echo; echo Ann",
            done(json!({"text": "Hello  \n\nAnn"})),
        ),
        ("echo '{\"a\": '", done(json!({"text": "{\"a\":"}))),
        ("exit 0", done(json!({"text": ""}))),
        (r"printf '\377 ok'", done(json!({"text": "\u{fffd} ok"}))),
        ("echo 'a warning' >&2; echo 1", done(json!(1))),
        ("printf ' no news \nmore'; exit 3", nothing("no news")),
        ("exit 3", nothing("the program gave no reason")),
        (
            "echo busy >&2; exit 75",
            failed(Retryable, "/bin/sh ended with exit code 75: busy"),
        ),
        (
            "echo text; echo 'no such user' >&2; exit 1",
            failed(Permanent, "/bin/sh ended with exit code 1: no such user"),
        ),
        (
            "exit 2",
            failed(Permanent, "/bin/sh ended with exit code 2"),
        ),
        (
            "kill -TERM $$",
            failed(Retryable, "signal 15 ended /bin/sh"),
        ),
        ("kill -KILL $$", failed(Retryable, "signal 9 ended /bin/sh")),
        (
            "kill -SEGV $$",
            failed(
                Permanent,
                "signal 11 ended /bin/sh, whose memory is limited to 64 MiB",
            ),
        ),
    ] {
        assert_eq!(run(&script(text)).await, expected, "{text}");
    }
}

#[tokio::test]
async fn a_program_gets_the_item_and_nothing_of_the_agents_environment_but_what_is_listed() {
    let hostile = json!({"template_overrides": {"name": "$(id) `id` ; \"'\n\u{202e}"}});
    let item = item_preferring("ann", hostile);
    let got = script("cat").run(&item).await.unwrap();
    assert_eq!(got, Outcome::Done(json!(item)));

    let environment = async |options: Value| {
        let handler = read(&options, Duration::from_mins(1)).unwrap();
        let outcome = handler.run(&item).await.unwrap().into_output().unwrap();
        outcome["text"].as_str().unwrap().to_owned()
    };
    let path = std::env::var("PATH").unwrap();
    let own = format!(
        "PATH={path}\nPUNCTUAL_IDEMPOTENCY_KEY={}",
        item.idempotency_key()
    );
    let program = "/usr/bin/env";
    assert_eq!(environment(json!({ "program": program })).await, own);
    let listed = environment(json!({ "program": program, "env": [VARIABLE] })).await;
    assert_eq!(listed, format!("{VARIABLE}={VALUE}\n{own}"));
}

#[tokio::test]
async fn a_program_says_that_its_work_goes_on_and_gets_the_address_that_completes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    let text = format!(
        "echo \"$PUNCTUAL_COMPLETION_URL\" > {0}; cat {0} >&2; exit 4",
        path.display()
    );
    let options = json!({"program": "/bin/sh", "args": ["-c", text], "completes_within": "90m", "on_deadline": "fail"});
    let now = "2026-03-01T09:00:00Z";
    let handler = CommandHandler {
        clock: Arc::new(ManualClock::starting_at(now)),
        ..read(&options, Duration::from_mins(1)).unwrap()
    };
    let url = "https://agent.example/api/v1/waiting/4711";
    let item = Item {
        completion: Some(Completion {
            call_id: Uuid::nil(),
            url: Some(url.into()),
        }),
        ..item("ann")
    };
    let Outcome::Waiting(waiting) = handler.run(&item).await.unwrap() else {
        panic!("it waits");
    };
    let earliest: DateTime<Utc> = "2026-03-01T10:30:00Z".parse().unwrap();
    assert!(waiting.until >= earliest && waiting.until < earliest + TimeDelta::minutes(1));
    assert_eq!(waiting.at_deadline, AtDeadline::Fail);
    assert_eq!(lines(&path, 1).unwrap(), [url]);

    // Neither a preview nor a process without an address can be completed.
    let previewed = handler.preview(&item, true).await.unwrap().unwrap();
    let without = run(&handler).await;
    for failed in [
        previewed
            .outcome
            .unwrap()
            .map_err(|error| (error.kind, error.message)),
        without,
    ] {
        let expected = "/bin/sh ended with exit code 4, so its work goes on elsewhere, but this call has no completion URL";
        assert_eq!(failed, Err((Permanent, expected.to_owned())));
        assert_eq!(lines(&path, 1).unwrap(), [""]);
    }
    let failing = script("echo \"cannot reach $PUNCTUAL_COMPLETION_URL\" >&2; exit 1");
    let error = failing.run(&item).await.unwrap_err();
    assert!(error.message.ends_with(": cannot reach [key]"), "{error}");
}

#[tokio::test]
async fn values_of_variables_are_not_shown_in_errors_and_reasons() {
    let failed = run(&script(&format!(
        "echo \"key ${VARIABLE} is wrong\" >&2; exit 1"
    )))
    .await;
    let (_, message) = failed.unwrap_err();
    assert_eq!(
        message,
        "/bin/sh ended with exit code 1: key [key] is wrong"
    );
    let nothing = run(&script(&format!("echo \"no news of ${VARIABLE}\"; exit 3"))).await;
    assert_eq!(nothing, Ok(Outcome::nothing_to_do("no news of [key]")));
    // Also where the end of a long text begins within it.
    let many = "i=0; while [ $i -lt 9000 ]; do echo $CARGO_PKG_NAME; i=$((i+1)); done >&2; exit 1";
    let (_, message) = run(&script(many)).await.unwrap_err();
    assert!(!message.contains("infrastructure"), "{message}");
}

#[test]
fn no_line_and_no_part_of_a_secret_is_shown() {
    let values = ["-----BEGIN-----\nMIIEvQ==\nend\n", "MIIE"].map(SecretString::from);
    let secrets = secrets_in(&values);
    let stderr = b"cannot parse MIIEvQ== MIIE".to_vec();
    assert_eq!(message(stderr, &secrets), ": cannot parse [key] [key]");

    // The end that is kept begins within a long secret, and what follows is short without secrets.
    let secret: String = (0..1_000).map(|n| n.to_string()).collect();
    let written = secret.repeat(40);
    let stderr = written.as_bytes()[written.len() - MAX_STDERR_BYTES..].to_vec();
    let shown = message(stderr, &[SecretString::from(secret)]);
    assert!(shown.len() < 10, "{shown}");
}

#[tokio::test]
async fn what_is_written_is_bounded() {
    let endless = script("while :; do echo 0123456789; done");
    let (kind, message) = run(&endless).await.unwrap_err();
    let expected = "/bin/sh wrote more than 1048576 bytes to its standard output";
    assert_eq!((kind, message.as_str()), (Permanent, expected));

    let (_, message) = run(&script(
        "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo THE END >&2; exit 1",
    ))
    .await
    .unwrap_err();
    assert!(
        message.starts_with("/bin/sh ended with exit code 1: …"),
        "{message}"
    );
    assert!(message.ends_with("THE END"), "{message}");
    assert!(message.chars().count() < 600, "{message}");

    let largest = script("head -c 1048576 /dev/zero | tr '\\0' x");
    let outcome = run(&largest).await.unwrap().into_output().unwrap();
    assert_eq!(outcome["text"].as_str().unwrap().len(), MAX_STDOUT_BYTES);
}

#[tokio::test]
async fn a_program_need_not_read_the_item() {
    let large = Item {
        input: ItemInput::Record(json!({"id": "ann", "text": "x".repeat(1024 * 1024)})),
        ..item("ann")
    };
    for text in [
        "echo 1",
        "exec 0<&-; echo 1",
        "head -c 10 > /dev/null; echo 1",
    ] {
        let outcome = script(text).run(&large).await.unwrap();
        assert_eq!(outcome, Outcome::Done(json!(1)), "{text}");
    }
    let whole = script("wc -c").run(&large).await.unwrap().into_output();
    let length = serde_json::to_vec(&large).unwrap().len();
    assert_eq!(whole, Some(json!(length)));
}

#[tokio::test]
async fn memory_is_limited_before_a_program_gets_its_item() {
    let shown = "cat > /dev/null; ulimit -d; set -- $(grep core /proc/$$/limits); echo $5";
    let limits = script(shown).run(&item("ann")).await;
    let own = getrlimit(Resource::Core).maximum;
    let core = own.map_or(1, |own| own.min(1));
    let text = json!({"text": format!("{}\n{core}", 64 * 1024)});
    assert_eq!(limits.unwrap(), Outcome::Done(text));
    let hog = "cat > /dev/null; x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let (kind, message) = run(&script(hog)).await.unwrap_err();
    assert_eq!(kind, Permanent, "{message}");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_ended_with_all_that_it_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let ids = ids(&folder);
    let text = format!("echo waiting >&2; {}", stubborn(&ids));
    let handler = CommandHandler {
        time: Duration::from_secs(5),
        grace: Duration::from_millis(50),
        ..script(&text)
    };
    let (kind, message) = run(&handler).await.unwrap_err();
    let expected = "/bin/sh did not end within 5000 ms: waiting";
    assert_eq!((kind, message.as_str()), (Retryable, expected));
    have_ended(&lines(&ids, 2).unwrap()).await;
}

#[tokio::test]
async fn a_program_is_asked_to_end_before_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = ids(&folder);
    let ids = path.display();
    let polite =
        format!("trap 'echo tidied >> {ids}; exit 0' TERM; sleep 600 & echo $! >> {ids}; wait");
    let handler = CommandHandler {
        time: Duration::from_secs(5),
        grace: Duration::from_secs(20),
        ..script(&polite)
    };
    let (kind, _) = run(&handler).await.unwrap_err();
    assert_eq!(kind, Retryable);
    let lines = lines(&path, 2).unwrap();
    assert_eq!(lines[1], "tidied");
    have_ended(&lines[..1]).await;
}

#[tokio::test]
async fn a_program_ends_with_an_item_that_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = ids(&folder);
    let handler = CommandHandler {
        grace: Duration::from_millis(50),
        ..script(&stubborn(&path))
    };
    let running = tokio::spawn(async move { run(&handler).await });
    let ids = eventually(|| lines(&path, 2)).await;
    assert!(ids.iter().all(|id| is_running(id)), "{ids:?}");
    running.abort();
    have_ended(&ids).await;
}

#[test]
fn a_program_ends_with_the_process_that_runs_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = ids(&folder);
    let runtime = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let first = runtime();
    let handler = script(&stubborn(&path));
    first.spawn(async move { run(&handler).await });
    let ids = first.block_on(eventually(|| lines(&path, 2)));
    drop(first);
    runtime().block_on(have_ended(&ids));
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let outcome = run(&script("sleep 600 & echo $!")).await.unwrap();
    let id = outcome.into_output().unwrap().to_string();
    have_ended(&[id]).await;
    // It has closed its output, and goes on.
    let closed = run(&script("exec >&- 2>&-; exit 75")).await;
    assert_eq!(closed.unwrap_err().0, Retryable);
}

#[tokio::test]
async fn ten_programs_run_at_once_each_with_its_own_item() {
    let handler = script("cat");
    let items: Vec<Item> = (0..10).map(|n| item(&format!("user{n}"))).collect();
    let outcomes = join_all(items.iter().map(|item| handler.run(item))).await;
    for (item, outcome) in items.iter().zip(outcomes) {
        assert_eq!(outcome.unwrap(), Outcome::Done(json!(item)));
    }
}

#[tokio::test]
async fn a_preview_runs_the_program_only_for_a_dry_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = ids(&folder);
    let handler = script(&format!(
        "echo run >> {}; echo \"dry run: $PUNCTUAL_DRY_RUN\"",
        path.display()
    ));
    let preview = async |call: bool| handler.preview(&item("ann"), call).await.unwrap().unwrap();

    let shown = preview(false).await;
    assert!(shown.outcome.is_none());
    assert!(!path.exists(), "it has not run");
    assert_eq!(shown.body, Some(json!(item("ann"))));
    let line = shown.to.unwrap();
    assert!(line.starts_with("/bin/sh -c 'echo run"), "{line}");

    let called = preview(true).await.outcome.unwrap().unwrap();
    assert_eq!(called, Outcome::Done(json!({"text": "dry run: 1"})));
    let ran = run(&handler).await.unwrap();
    assert_eq!(ran, Outcome::Done(json!({"text": "dry run:"})));
}

#[tokio::test]
async fn the_handler_command_keeps_the_contract() {
    let handler = script("cat > /dev/null; echo '{\"ok\": true}'");
    let item = item_preferring("ann", json!({"template_overrides": {"tone": "dry"}}));
    contract::purpose_handler(&handler, &item, None).await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    let handler = CommandHandler {
        program: PathBuf::from("/nowhere/digest"),
        ..script("")
    };
    let (kind, message) = run(&handler).await.unwrap_err();
    assert_eq!(kind, Retryable);
    assert!(
        message.starts_with("failed to start /nowhere/digest: "),
        "{message}"
    );
}

#[test]
fn options_are_checked_when_they_are_read() {
    for (options, expected) in [
        (json!({}), "/program: is missing; add the path"),
        (
            json!({"program": "digest"}),
            "/program: \"digest\" is not an absolute path; use one such as",
        ),
        (
            json!({"program": "/nowhere"}),
            "/program: \"/nowhere\" cannot be used: No such file",
        ),
        (
            json!({"program": "/tmp"}),
            "/program: \"/tmp\" is not a file",
        ),
        (
            json!({"program": "/etc/passwd"}),
            "/program: \"/etc/passwd\" cannot be executed: ",
        ),
        (
            json!({"program": "/bin/sh", "args": "-c"}),
            "/args: \"-c\" has the wrong type; use a list",
        ),
        (
            json!({"program": "/bin/sh", "args": ["-c", 7]}),
            "/args/1: 7 has the wrong type",
        ),
        (
            json!({"program": "/bin/sh", "args": ["a\0b"]}),
            "/args/0: \"a\\u0000b\" contains the character U+0000",
        ),
        (
            json!({"program": "/bin/sh", "env": ["NOT_SET_ANYWHERE"]}),
            "/env/0: \"NOT_SET_ANYWHERE\" is not set in the environment",
        ),
        (
            json!({"program": "/bin/sh", "env": ["A=b"]}),
            "/env/0: \"A=b\" is not a valid name of an environment variable",
        ),
        (
            json!({"program": "/bin/sh", "memory_mb": 8}),
            "/memory_mb: 8 is out of range; use a whole number from 16",
        ),
        (
            json!({"program": "/bin/sh", "shell": true}),
            "/shell: true is not a known field; remove it or use one of program, args, env, memory_mb, completes_within, on_deadline",
        ),
    ] {
        let errors = read(&options, Duration::from_mins(1)).err().unwrap();
        let expected = format!("/purposes/p{expected}");
        assert!(errors[0].starts_with(&expected), "{expected} in {errors:?}");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
    let usual = read(&json!({"program": "/bin/sh"}), Duration::from_secs(10)).unwrap();
    assert_eq!(usual.memory_mb, 512);
    assert_eq!(usual.time, Duration::from_secs(9));
    assert_eq!(usual.grace, Duration::from_millis(500));
}
