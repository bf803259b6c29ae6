//! The handler `command`: runs a program of this machine, with the item as JSON on its standard input. Its exit code and its
//! standard output say what came of it.
//!
//! - No shell is between: arguments are the purpose's own, and nothing of an item becomes one.
//! - The environment is empty but for `PATH`, what the purpose lists and the variables that name the run.
//! - The handler ends before the time of its item does, and with it the program: no further attempt runs beside it.
//! - `process`: the program, its group, and its limits.

mod process;

use std::{
    io::{self, ErrorKind},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use punctual_application::ports::{Clock, HandlerError, PurposeHandler, Rendered, SystemClock};
use punctual_domain::{
    FieldErrors, Fields, Invalid, Item, Outcome, below,
    values::{text, variable, whole_number},
};
use rustix::fs::{Access, access};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use self::process::{MAX_STDERR_BYTES, MAX_STDOUT_BYTES, Output, Running};
use super::{
    HandlerKind,
    completion::{CompletionOptions, completion_url},
    endpoint::without_key,
    webhook::{MAX_REASON_CHARACTERS, content, unwritable},
};
use crate::environment::{secret, secret_in};

/// Exit code that says that there was nothing to do.
const NOTHING_TO_DO: i32 = 3;
/// Exit code that says that the work goes on elsewhere.
const WAITS: i32 = 4;
/// Exit code that asks for another attempt: `EX_TEMPFAIL` of sysexits.h.
const RETRY: i32 = 75;
/// Signals by which others end a program: hang-up, interrupt, kill and terminate.
const ENDED_BY_OTHERS: [i32; 4] = [1, 2, 9, 15];

/// The program's variables that name the run.
const IDEMPOTENCY_KEY: &str = "PUNCTUAL_IDEMPOTENCY_KEY";
const DRY_RUN: &str = "PUNCTUAL_DRY_RUN";
/// The address at which the work is completed that goes on elsewhere.
const COMPLETION_URL: &str = "PUNCTUAL_COMPLETION_URL";

const DEFAULT_MEMORY_MB: u64 = 512;
const MEBIBYTE: u64 = 1024 * 1024;
/// How long a program that is asked to end may take, at most.
const MAX_GRACE: Duration = Duration::from_secs(2);
/// So much of the end of standard error is shown.
const MAX_MESSAGE_CHARACTERS: usize = 500;
/// A shorter line of a variable's value is not taken for a secret.
const MIN_SECRET_BYTES: usize = 4;

/// Reads the options of a [`CommandHandler`].
pub(crate) struct CommandKind;

impl HandlerKind for CommandKind {
    fn name(&self) -> &'static str {
        "command"
    }

    fn target(&self, options: &mut Fields<'_>) -> Option<String> {
        options.raw("program")?.as_str().map(str::to_owned)
    }

    fn read(&self, fields: &mut Fields<'_>, timeout: Duration) -> Option<Arc<dyn PurposeHandler>> {
        Some(Arc::new(CommandHandler::read(fields, timeout)?))
    }
}

/// Runs a program.
struct CommandHandler {
    program: PathBuf,
    args: Vec<String>,
    /// Variables that the program gets from the agent's environment.
    env: Vec<String>,
    /// Mebibytes of memory of each of its processes.
    memory_mb: u64,
    /// How long the program may take: less than its item has.
    time: Duration,
    /// How long the program may take after it has been asked to end.
    grace: Duration,
    /// Within what time work is completed that goes on elsewhere.
    completion: CompletionOptions,
    clock: Arc<dyn Clock>,
}

impl CommandHandler {
    /// A handler for items that may take `item_timeout`.
    fn read(fields: &mut Fields<'_>, item_timeout: Duration) -> Option<Self> {
        let remedy = "add the path of the program, such as \"/usr/local/bin/digest\"";
        let program = fields.required("program", remedy, program);
        let args = fields.nested("args", |value, pointer| texts(value, pointer, argument));
        let env = fields.nested("env", |value, pointer| texts(value, pointer, set_variable));
        let memory_mb = fields.optional("memory_mb", |value| whole_number(value, 16..=1_048_576));
        let completion = CompletionOptions::read(fields);
        Some(Self {
            program: program?,
            args: args.unwrap_or_default(),
            env: env.unwrap_or_default(),
            memory_mb: memory_mb.unwrap_or(DEFAULT_MEMORY_MB),
            time: item_timeout * 9 / 10,
            grace: (item_timeout / 20).min(MAX_GRACE),
            completion,
            clock: Arc::new(SystemClock),
        })
    }

    /// Starts the program, and returns what is not to be shown.
    fn start(
        &self,
        item: &Item,
        dry_run: bool,
    ) -> Result<(Running, Vec<SecretString>), HandlerError> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let mut values = Vec::new();
        for name in &self.env {
            let value = secret(name).ok_or_else(|| {
                HandlerError::permanent(format!("the environment variable {name} is not set"))
            })?;
            command.env(name, value.expose_secret());
            values.push(value);
        }
        command.env(IDEMPOTENCY_KEY, item.idempotency_key());
        if dry_run {
            command.env(DRY_RUN, "1");
        } else if let Some(url) = completion_url(item) {
            command.env(COMPLETION_URL, url);
            values.push(SecretString::from(url));
        }
        let running = Running::start(command, self.memory_mb * MEBIBYTE, self.grace);
        let running = running.map_err(|error| {
            let problem = format!("failed to start {}: {error}", self.program.display());
            HandlerError::retryable(problem).with_source(error)
        })?;
        Ok((running, secrets_in(&values)))
    }

    /// Runs the program once.
    async fn execute(
        &self,
        item: &Item,
        content: &[u8],
        dry_run: bool,
    ) -> Result<Outcome, HandlerError> {
        let (mut running, secrets) = self.start(item, dry_run)?;
        let mut output = Output::default();
        let exchanged = timeout(self.time, running.exchange(content, &mut output)).await;
        let ended = running.end().await;
        let program = self.program.display();
        let Output { stdout, stderr } = output;
        let message = message(stderr, &secrets);
        let unknown = |error: io::Error| {
            let problem = format!("failed to run {program}: {error}");
            HandlerError::retryable(problem).with_source(error)
        };
        match exchanged {
            Err(_elapsed) => {
                let limit = self.time.as_millis();
                let problem = format!("{program} did not end within {limit} ms{message}");
                return Err(HandlerError::retryable(problem));
            }
            Ok(Err(error)) if error.kind() == ErrorKind::FileTooLarge => {
                return Err(HandlerError::permanent(format!(
                    "{program} wrote more than {MAX_STDOUT_BYTES} bytes to its standard output{message}"
                )));
            }
            Ok(exchanged) => exchanged.map_err(unknown)?,
        }
        let status = ended.map_err(unknown)?;
        match status.code() {
            Some(0) => Ok(result(&stdout)),
            Some(NOTHING_TO_DO) => Ok(Outcome::nothing_to_do(reason(stdout, &secrets))),
            Some(WAITS) if !dry_run && completion_url(item).is_some() => {
                Ok(Outcome::Waiting(self.completion.waiting(self.clock.now())))
            }
            Some(WAITS) => Err(HandlerError::permanent(format!(
                "{program} ended with exit code {WAITS}, so its work goes on elsewhere, but this call has no completion URL{message}"
            ))),
            _ => Err(self.failure(status, &message)),
        }
    }

    fn failure(&self, status: ExitStatus, message: &str) -> HandlerError {
        let program = self.program.display();
        let Some(code) = status.code() else {
            let signal = status.signal().unwrap_or_default();
            let problem = format!("signal {signal} ended {program}");
            if ENDED_BY_OTHERS.contains(&signal) {
                return HandlerError::retryable(problem + message);
            }
            let limit = self.memory_mb;
            return HandlerError::permanent(format!(
                "{problem}, whose memory is limited to {limit} MiB{message}"
            ));
        };
        let problem = format!("{program} ended with exit code {code}{message}");
        if code == RETRY {
            HandlerError::retryable(problem)
        } else {
            HandlerError::permanent(problem)
        }
    }

    /// Program and arguments, as a shell would take them, for people.
    fn line(&self) -> String {
        let program = self.program.to_string_lossy();
        let mut line = quoted(&program);
        for argument in &self.args {
            line.push(' ');
            line += &quoted(argument);
        }
        line
    }
}

#[async_trait]
impl PurposeHandler for CommandHandler {
    /// What the program wrote to its standard output: JSON where it is, else `{"text"}`.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        self.execute(item, &content(item)?, false).await
    }

    async fn preview(&self, item: &Item, call: bool) -> Result<Option<Rendered>, HandlerError> {
        let content = content(item)?;
        let body = serde_json::from_slice(&content).map_err(unwritable)?;
        let outcome = if call {
            Some(self.execute(item, &content, true).await)
        } else {
            None
        };
        Ok(Some(Rendered {
            to: Some(self.line()),
            body: Some(body),
            outcome,
            ..Rendered::default()
        }))
    }
}

/// What a program that has succeeded has written.
fn result(stdout: &[u8]) -> Outcome {
    let json = serde_json::from_slice(stdout);
    let output: Value = json.unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(stdout);
        json!({ "text": text.trim_end() })
    });
    output.into()
}

/// Why there was nothing to do: the first line.
fn reason(stdout: Vec<u8>, secrets: &[SecretString]) -> String {
    let text = redacted(stdout, secrets);
    let line = text.trim_start().lines().next().unwrap_or_default().trim();
    let line = if line.is_empty() {
        "the program gave no reason"
    } else {
        line
    };
    line.chars().take(MAX_REASON_CHARACTERS).collect()
}

/// The end of standard error, to be put behind an error; empty where there is none.
fn message(stderr: Vec<u8>, secrets: &[SecretString]) -> String {
    let is_cut = stderr.len() >= MAX_STDERR_BYTES;
    let text = redacted(stderr, secrets);
    let text = text.trim();
    if text.is_empty() {
        return String::new();
    }
    let mut skipped = text.chars().count().saturating_sub(MAX_MESSAGE_CHARACTERS);
    if is_cut {
        // It may begin within a secret.
        let longest = secrets
            .first()
            .map_or(0, |value| value.expose_secret().len());
        skipped = skipped.max(longest);
    }
    let end: String = text.chars().skip(skipped).collect();
    let mark = if skipped > 0 { "…" } else { "" };
    format!(": {mark}{end}")
}

/// The lines of the values of variables, the longest first: one may contain another. A program may show one line of a key alone,
/// or a value without the end of line that its file had.
fn secrets_in(values: &[SecretString]) -> Vec<SecretString> {
    let lines = values
        .iter()
        .flat_map(|value| value.expose_secret().lines());
    let lines = lines
        .map(str::trim)
        .filter(|line| line.len() >= MIN_SECRET_BYTES);
    let mut secrets: Vec<SecretString> = lines.map(SecretString::from).collect();
    secrets.sort_by_key(|line| std::cmp::Reverse(line.expose_secret().len()));
    secrets
}

/// A text without the values of variables, which programs show in their messages.
fn redacted(text: Vec<u8>, secrets: &[SecretString]) -> String {
    let text = secrets
        .iter()
        .fold(text, |text, value| without_key(text, Some(value)));
    String::from_utf8_lossy(&text).into_owned()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn program(value: &Value) -> Result<PathBuf, Invalid> {
    let path = Path::new(text(value)?);
    if !path.is_absolute() {
        let remedy = "use one such as \"/usr/local/bin/digest\"";
        return Err(Invalid::new("is not an absolute path", remedy));
    }
    let unusable =
        |problem: String| Invalid::new(problem, "name a file that the agent's user can execute");
    let found = path.metadata();
    let found = found.map_err(|error| unusable(format!("cannot be used: {error}")))?;
    if !found.is_file() {
        return Err(unusable("is not a file".to_owned()));
    }
    let executable = access(path, Access::EXEC_OK);
    executable.map_err(|error| unusable(format!("cannot be executed: {error}")))?;
    Ok(path.to_owned())
}

fn argument(value: &Value) -> Result<String, Invalid> {
    let argument = text(value)?;
    if argument.contains('\0') {
        return Err(Invalid::new(
            "contains the character U+0000",
            "remove that character",
        ));
    }
    Ok(argument.to_owned())
}

/// The name of a variable that the agent's environment has.
fn set_variable(value: &Value) -> Result<String, Invalid> {
    secret_in(value)?;
    variable(value).map(str::to_owned)
}

fn texts(
    value: &Value,
    pointer: &str,
    read: impl Fn(&Value) -> Result<String, Invalid>,
) -> Result<Vec<String>, FieldErrors> {
    let list = value
        .as_array()
        .ok_or_else(|| Invalid::wrong_type("a list, [ … ]").at(pointer, Some(value)))?;
    FieldErrors::collect(list.iter().enumerate().map(|(place, entry)| {
        read(entry).map_err(|invalid| {
            let pointer = below(pointer, &place.to_string());
            FieldErrors::from(invalid.at(pointer, Some(entry)))
        })
    }))
}

#[cfg(test)]
mod tests;
