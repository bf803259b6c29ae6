//! The SMTP server that takes the e-mails, and the connections to it. A connection is used again for the next e-mail, unless
//! anything is unclear about it: a call that is cut off takes its connection with it.

use std::{
    iter,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lettre::{
    address::Envelope,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::time::{Instant, timeout_at};

use super::reply::{Refusal, Stage, without_addresses};

/// How long one address of the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the connection, its encryption, the greeting and the hello may take.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the answer to a command may take. That to the e-mail itself may take all that is left of the item's time.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a kept connection may take to show that it is still usable.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next e-mail: less than servers wait.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// Connections that are kept at most.
const MAX_IDLE_CONNECTIONS: usize = 25;

/// How the connection is encrypted.
pub(super) enum Tls {
    /// Not at all.
    None,
    /// After a plain hello, by the command STARTTLS. A server that has none is not used.
    Explicit(TlsParameters),
    /// From the first byte on.
    Implicit(TlsParameters),
}

/// A server that takes e-mails.
pub(super) struct Relay {
    host: String,
    port: u16,
    /// Host and port, for people.
    server: String,
    tls: Tls,
    credentials: Option<Credentials>,
    hello: ClientId,
    /// For one e-mail: less than its item has, so that what became of the e-mail is decided here.
    timeout: Duration,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Relay {
    /// A relay for items that may take `item_timeout`.
    pub(super) fn new(
        host: &str,
        port: u16,
        tls: Tls,
        credentials: Option<Credentials>,
        item_timeout: Duration,
    ) -> Self {
        Self {
            host: host.to_owned(),
            port,
            server: if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            },
            tls,
            credentials,
            hello: ClientId::default(),
            timeout: item_timeout * 9 / 10,
            idle: Mutex::default(),
        }
    }

    /// Host and port.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// When an e-mail whose item begins now has to be done with.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Hands an e-mail in, and returns what the server answered.
    ///
    /// # Errors
    /// The server did not take it by the deadline, did not say whether it took it, or cannot be reached.
    pub(super) async fn send(
        &self,
        deadline: Instant,
        envelope: &Envelope,
        content: &[u8],
    ) -> Result<String, Refusal> {
        let mut connection = match self.idle_connection(deadline).await {
            Some(connection) => connection,
            None => self.connect(deadline).await?,
        };
        let sent = self
            .converse(deadline, &mut connection, envelope, content)
            .await;
        // After a refusal the server waits for the next e-mail: the connection is reset before that.
        let is_usable = match &sent {
            Ok(_) => true,
            Err(refusal) => refusal.is_answer,
        };
        if is_usable {
            self.keep(connection);
        }
        sent
    }

    /// The answer to a call, which comes within `limit` and by the deadline.
    async fn answer<T>(
        &self,
        stage: Stage,
        deadline: Instant,
        limit: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Refusal> {
        let until = deadline.min(Instant::now() + limit);
        match timeout_at(until, call).await {
            Ok(answered) => answered.map_err(|error| Refusal::new(&self.server, stage, &error)),
            Err(_elapsed) => Err(Refusal::too_late(&self.server, stage)),
        }
    }

    /// A connection that is still usable.
    async fn idle_connection(&self, deadline: Instant) -> Option<AsyncSmtpConnection> {
        loop {
            let Idle {
                mut connection,
                since,
            } = self.idle().pop()?;
            if since.elapsed() >= MAX_IDLE {
                continue;
            }
            let until = deadline.min(Instant::now() + RESET_TIMEOUT);
            match timeout_at(until, connection.command(Rset)).await {
                Ok(Ok(_)) => return Some(connection),
                Ok(Err(_)) => {}
                // The others would be as silent.
                Err(_elapsed) => return None,
            }
        }
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle();
        idle.retain(|known| known.since.elapsed() < MAX_IDLE);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, deadline: Instant) -> Result<AsyncSmtpConnection, Refusal> {
        let implicit = match &self.tls {
            Tls::Implicit(parameters) => Some(parameters.clone()),
            Tls::None | Tls::Explicit(_) => None,
        };
        let connected = AsyncSmtpConnection::connect_tokio1(
            (self.host.as_str(), self.port),
            Some(CONNECT_TIMEOUT),
            &self.hello,
            implicit,
            None,
        );
        let mut connection = self
            .answer(Stage::Connect, deadline, GREETING_TIMEOUT, connected)
            .await?;
        if let Tls::Explicit(parameters) = &self.tls {
            let encrypted = connection.starttls(parameters.clone(), &self.hello);
            self.answer(Stage::Connect, deadline, GREETING_TIMEOUT, encrypted)
                .await?;
        }
        if let Some(credentials) = &self.credentials {
            let signed_in = connection.auth(DEFAULT_MECHANISMS, credentials);
            self.answer(Stage::SignIn, deadline, COMMAND_TIMEOUT, signed_in)
                .await?;
        }
        Ok(connection)
    }

    async fn converse(
        &self,
        deadline: Instant,
        connection: &mut AsyncSmtpConnection,
        envelope: &Envelope,
        content: &[u8],
    ) -> Result<String, Refusal> {
        let mut parameters = Vec::new();
        if !content.is_ascii() {
            // Only addresses are left as they are; everything else in an e-mail is encoded.
            let server = connection.server_info();
            for (extension, name) in [
                (
                    Extension::SmtpUtfEight,
                    "SMTPUTF8 (addresses with other characters than ASCII)",
                ),
                (Extension::EightBitMime, "8BITMIME"),
            ] {
                if !server.supports_feature(extension) {
                    return Err(Refusal::unsupported(&self.server, name));
                }
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let mail = connection.command(Mail::new(envelope.from().cloned(), parameters));
        self.answer(Stage::Sender, deadline, COMMAND_TIMEOUT, mail)
            .await?;
        for address in envelope.to() {
            let recipient = connection.command(Rcpt::new(address.clone(), Vec::new()));
            self.answer(Stage::Recipient, deadline, COMMAND_TIMEOUT, recipient)
                .await?;
        }
        let data = connection.command(Data);
        self.answer(Stage::Content, deadline, COMMAND_TIMEOUT, data)
            .await?;
        // The final dot is written when the iterator has ended. From then on the server may have taken the e-mail.
        let is_whole = AtomicBool::new(false);
        let end = iter::from_fn(|| {
            is_whole.store(true, Ordering::Relaxed);
            None
        });
        let message = connection.message_iter(iter::once(content).chain(end));
        let answered = self
            .answer(Stage::Content, deadline, self.timeout, message)
            .await;
        let answered = answered.map_err(|refusal| {
            if is_whole.load(Ordering::Relaxed) {
                refusal.or_unconfirmed(&self.server)
            } else {
                refusal
            }
        })?;
        let reply = answered.message().collect::<Vec<_>>().join(" ");
        Ok(without_addresses(&reply))
    }
}
