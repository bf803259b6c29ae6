//! The connection to NATS and the streams of a purpose. Both are made when they are needed first; the client connects again by
//! itself after that.

use std::{
    fmt::Display,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::{
    ConnectOptions, ServerAddr,
    connection::State,
    jetstream::{
        self, Context, ErrorCode,
        consumer::{AckPolicy, PullConsumer, pull},
        context::CreateStreamErrorKind,
        stream::{Config, RetentionPolicy},
    },
};
use punctual_application::ports::HandlerError;
use punctual_domain::{Fields, Invalid, values::text};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::names::{Names, covers};
use crate::environment::secret_in;

/// Name of the consumer of answers, which all processes share.
const CONSUMER: &str = "punctual";
/// An answer that is not acknowledged within this time is delivered again.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// Answers that are delivered and not acknowledged, at most. Those whose calls do not wait count for 15 s: thousands of workers that
/// answer too late must not hold up the others.
const MAX_UNACKNOWLEDGED: i64 = 50_000;
/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long messages that are not answers are kept.
const DEAD_FOR: Duration = Duration::from_hours(30 * 24);
/// So much of them is kept, in bytes.
const DEAD_BYTES: i64 = 64 * 1024 * 1024;

/// Another stream has the subject or the name: no retry changes that. An account that is full for now is refused otherwise.
const TAKEN: [ErrorCode; 2] = [
    ErrorCode::STREAM_SUBJECT_OVERLAP,
    ErrorCode::STREAM_NAME_EXIST,
];

/// How a process proves itself to the server.
enum Credentials {
    None,
    Token(SecretString),
    /// The content of a `.creds` file.
    File(SecretString),
}

/// The servers of one purpose.
pub(super) struct Broker {
    pub(super) names: Names,
    servers: Vec<ServerAddr>,
    credentials: Credentials,
    context: OnceCell<Context>,
    has_streams: AtomicBool,
}

impl Broker {
    /// Reads `servers`, `token_env` and `credentials_env`.
    pub(super) fn read(fields: &mut Fields<'_>, names: Names) -> Option<Self> {
        let remedy = "add the servers, such as [\"nats://nats.example:4222\"]";
        let servers = fields.required("servers", remedy, servers);
        let token = fields.optional("token_env", secret_in);
        let file = fields.optional("credentials_env", credentials);
        let credentials = match (token, file) {
            (None, None) => Credentials::None,
            (Some(token), None) => Credentials::Token(token),
            (None, Some(file)) => Credentials::File(file),
            (Some(_), Some(_)) => {
                let problem = "cannot be used beside `token_env`";
                fields.complain(
                    "credentials_env",
                    Invalid::new(problem, "remove one of them"),
                );
                return None;
            }
        };
        Some(Self {
            names,
            servers: servers?,
            credentials,
            context: OnceCell::new(),
            has_streams: AtomicBool::new(false),
        })
    }

    /// The servers, for people.
    pub(super) fn hosts(&self) -> String {
        let host = |server: &ServerAddr| format!("{}:{}", server.host(), server.port());
        let hosts: Vec<String> = self.servers.iter().map(host).collect();
        hosts.join(", ")
    }

    /// A failure that another attempt may get over.
    pub(super) fn failed(&self, error: &dyn Display) -> HandlerError {
        HandlerError::retryable(format!("NATS at {}: {error}", self.hosts()))
    }

    /// The connection, once all streams of the purpose exist.
    ///
    /// # Errors
    /// The server does not answer, or it has a stream that does not fit.
    pub(super) async fn streams(&self) -> Result<&Context, HandlerError> {
        let context = self.connected().await?;
        if self.has_streams.load(Ordering::Relaxed) {
            return Ok(context);
        }
        let names = &self.names;
        let queue = |name: &str, subject: &str| Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            ..Config::default()
        };
        let items = queue(&names.stream, &names.subject);
        let completions = queue(&names.completions_stream, &names.completions_subject);
        let dead = Config {
            retention: RetentionPolicy::Limits,
            max_age: DEAD_FOR,
            max_bytes: DEAD_BYTES,
            ..queue(&names.dead_stream, &names.dead_subject)
        };
        for config in [items, completions, dead] {
            self.stream(context, config).await?;
        }
        self.has_streams.store(true, Ordering::Relaxed);
        Ok(context)
    }

    /// Looks for the streams anew when they are needed next: one of them is gone.
    pub(super) fn forget_streams(&self) {
        self.has_streams.store(false, Ordering::Relaxed);
    }

    /// The consumer of answers.
    ///
    /// # Errors
    /// As [`streams`](Self::streams).
    pub(super) async fn completions(&self) -> Result<PullConsumer, HandlerError> {
        // One of them may be gone since the last time.
        self.forget_streams();
        let context = self.streams().await?;
        let stream = context
            .get_stream_no_info(&self.names.completions_stream)
            .await
            .map_err(|error| self.failed(&error))?;
        let config = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: MAX_UNACKNOWLEDGED,
            filter_subject: self.names.completions_subject.clone(),
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(CONSUMER, config).await;
        consumer.map_err(|error| self.failed(&error))
    }

    async fn connected(&self) -> Result<&Context, HandlerError> {
        let context = self.context.get_or_try_init(|| self.connect()).await?;
        // What is published now would be sent later, after the item's attempt has failed.
        match context.client().connection_state() {
            State::Connected => Ok(context),
            State::Pending | State::Disconnected => Err(self.failed(&"not connected")),
        }
    }

    async fn connect(&self) -> Result<Context, HandlerError> {
        let options = self.options()?;
        let client = options.connect(self.servers.clone()).await;
        let client = client.map_err(|error| self.failed(&error))?;
        let mut context = jetstream::new(client);
        context.set_timeout(TIMEOUT);
        Ok(context)
    }

    fn options(&self) -> Result<ConnectOptions, HandlerError> {
        let options = match &self.credentials {
            Credentials::None => Ok(ConnectOptions::new()),
            Credentials::Token(token) => {
                Ok(ConnectOptions::with_token(token.expose_secret().to_owned()))
            }
            Credentials::File(file) => ConnectOptions::with_credentials(file.expose_secret()),
        };
        let options = options.map_err(|error| self.failed(&error))?;
        // A server names others of its cluster, without a scheme: they get the token, too.
        let has_tls = self.servers.iter().all(ServerAddr::tls_required);
        Ok(options
            .name("punctual")
            .connection_timeout(TIMEOUT)
            .require_tls(has_tls))
    }

    /// Makes a stream, or sees to it that the one of this name fits.
    async fn stream(&self, context: &Context, wanted: Config) -> Result<(), HandlerError> {
        let (name, retention) = (wanted.name.clone(), wanted.retention);
        let subject = wanted.subjects.first().cloned().unwrap_or_default();
        let stream = context.get_or_create_stream(wanted).await;
        let stream = stream.map_err(|error| {
            let problem = format!(
                "NATS at {} did not make the stream {name} for the subject {subject}: {error}",
                self.hosts()
            );
            match error.kind() {
                CreateStreamErrorKind::JetStream(refused)
                    if TAKEN.contains(&refused.error_code()) =>
                {
                    HandlerError::permanent(problem)
                }
                _ => HandlerError::retryable(problem),
            }
        })?;
        let found = &stream.cached_info().config;
        if found.retention != retention {
            return Err(HandlerError::permanent(format!(
                "the stream {name} of NATS at {} has the retention {}; expected {}: delete it, or name another one",
                self.hosts(),
                word(found.retention),
                word(retention)
            )));
        }
        if !found
            .subjects
            .iter()
            .any(|pattern| covers(pattern, &subject))
        {
            return Err(HandlerError::permanent(format!(
                "the stream {name} of NATS at {} has the subjects {}; add {subject} to them, or name another stream",
                self.hosts(),
                found.subjects.join(", ")
            )));
        }
        Ok(())
    }
}

/// A retention, as the configuration of a stream has it.
fn word(retention: RetentionPolicy) -> &'static str {
    match retention {
        RetentionPolicy::Limits => "limits",
        RetentionPolicy::Interest => "interest",
        RetentionPolicy::WorkQueue => "workqueue",
    }
}

fn servers(value: &Value) -> Result<Vec<ServerAddr>, Invalid> {
    let remedy = "use a list of URLs such as [\"nats://nats.example:4222\"]; `tls://` asks for TLS";
    let list = value.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| Invalid::new("is not a list of servers", remedy))?;
    list.iter().map(|server| address(server, remedy)).collect()
}

fn address(server: &Value, remedy: &str) -> Result<ServerAddr, Invalid> {
    let written = text(server)?;
    if written.contains('@') {
        return Err(Invalid::new(
            "contains a user or password",
            "remove it from the URL, and name a variable as `token_env` or `credentials_env` instead",
        ));
    }
    let has_scheme = written.starts_with("nats://") || written.starts_with("tls://");
    let parsed = written
        .parse::<ServerAddr>()
        .ok()
        .filter(|address| has_scheme && !address.host().is_empty());
    parsed.ok_or_else(|| Invalid::new("contains what is not the URL of a server", remedy))
}

/// The content of a `.creds` file in the variable that a field names.
fn credentials(name: &Value) -> Result<SecretString, Invalid> {
    let file = secret_in(name)?;
    match ConnectOptions::with_credentials(file.expose_secret()) {
        Ok(_) => Ok(file),
        Err(_) => Err(Invalid::new(
            "does not hold credentials of NATS",
            "set the variable to the content of a .creds file, with its JWT and its seed",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_with_tls_are_left_for_none_without() {
        for (servers, expected) in [
            (json!(["tls://a.example"]), true),
            (json!(["tls://a.example", "tls://b.example"]), true),
            (json!(["tls://a.example", "nats://127.0.0.1"]), false),
            (json!(["nats://127.0.0.1"]), false),
        ] {
            let options = json!({ "servers": servers });
            let mut fields = Fields::new(options.as_object().unwrap(), "");
            let broker = Broker::read(&mut fields, Names::of("write")).unwrap();
            // Only there it can be seen.
            let shown = format!("{:?}", broker.options().unwrap());
            let expected = format!("\"tls_required\": {expected}");
            assert!(shown.contains(&expected), "{servers}: {shown}");
        }
    }
}
