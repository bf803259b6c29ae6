//! The SMTP server that takes the e-mails, and the connections to it. A connection is used again for the next e-mail, unless
//! anything is unclear about it: a call that is cut off takes its connection with it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lettre::{
    address::Envelope,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::time::{Instant, timeout};

use super::reply::{Refusal, Stage, without};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next e-mail: less than servers wait.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// Connections that are kept at most.
const MAX_IDLE_CONNECTIONS: usize = 25;

/// How the connection is encrypted.
pub(super) enum Tls {
    /// Not at all.
    None,
    /// After a plain hello, by the command STARTTLS. A server that has none is not used.
    StartTls(TlsParameters),
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
    /// For one e-mail.
    timeout: Duration,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Relay {
    pub(super) fn new(
        host: &str,
        port: u16,
        tls: Tls,
        credentials: Option<Credentials>,
        timeout: Duration,
    ) -> Self {
        Self {
            host: host.to_owned(),
            port,
            server: format!("{host}:{port}"),
            tls,
            credentials,
            hello: ClientId::default(),
            timeout,
            idle: Mutex::default(),
        }
    }

    /// Host and port.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Hands an e-mail in, and returns what the server answered.
    ///
    /// # Errors
    /// The server did not take it, or cannot be reached.
    pub(super) async fn send(
        &self,
        envelope: &Envelope,
        content: &[u8],
    ) -> Result<String, Refusal> {
        let sent = timeout(self.timeout, self.try_send(envelope, content)).await;
        sent.unwrap_or_else(|_| Err(Refusal::too_late(&self.server)))
    }

    async fn try_send(&self, envelope: &Envelope, content: &[u8]) -> Result<String, Refusal> {
        let mut connection = match self.idle_connection().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let sent = self.converse(&mut connection, envelope, content).await;
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

    /// A connection that is still usable.
    async fn idle_connection(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let Idle {
                mut connection,
                since,
            } = self.idle().pop()?;
            if since.elapsed() < MAX_IDLE && connection.command(Rset).await.is_ok() {
                return Some(connection);
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

    async fn connect(&self) -> Result<AsyncSmtpConnection, Refusal> {
        let refused = |stage| move |error| Refusal::new(&self.server, stage, error, "");
        let implicit = match &self.tls {
            Tls::Implicit(parameters) => Some(parameters.clone()),
            Tls::None | Tls::StartTls(_) => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (self.host.as_str(), self.port),
            Some(CONNECT_TIMEOUT),
            &self.hello,
            implicit,
            None,
        )
        .await
        .map_err(refused(Stage::Connect))?;
        if let Tls::StartTls(parameters) = &self.tls {
            connection
                .starttls(parameters.clone(), &self.hello)
                .await
                .map_err(refused(Stage::Connect))?;
        }
        if let Some(credentials) = &self.credentials {
            connection
                .auth(DEFAULT_MECHANISMS, credentials)
                .await
                .map_err(refused(Stage::SignIn))?;
        }
        Ok(connection)
    }

    async fn converse(
        &self,
        connection: &mut AsyncSmtpConnection,
        envelope: &Envelope,
        content: &[u8],
    ) -> Result<String, Refusal> {
        let to = envelope.to().first().map_or("", AsRef::as_ref);
        let refused = |stage| move |error| Refusal::new(&self.server, stage, error, to);
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
        let mail = Mail::new(envelope.from().cloned(), parameters);
        let answered = connection.command(mail).await;
        answered.map_err(refused(Stage::Sender))?;
        for address in envelope.to() {
            let recipient = Rcpt::new(address.clone(), Vec::new());
            let answered = connection.command(recipient).await;
            answered.map_err(refused(Stage::Recipient))?;
        }
        let answered = connection.command(Data).await;
        answered.map_err(refused(Stage::Content))?;
        let answered = connection.message(content).await;
        let answered = answered.map_err(refused(Stage::Content))?;
        let reply = answered.message().collect::<Vec<_>>().join(" ");
        Ok(without(&reply, to))
    }
}
