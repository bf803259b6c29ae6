//! A mailbox for every address: it takes e-mails over SMTP, keeps the newest, and shows them in a browser. It speaks as much of
//! SMTP as it takes to be handed e-mails on this machine.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use askama::Template;
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};
use mail_parser::MessageParser;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
};

/// E-mails that are kept, and bytes of one.
const MAX_MAILS: usize = 10_000;
const MAX_MAIL: usize = 1024 * 1024;
/// Bytes of a line.
const MAX_LINE: u64 = 64 * 1024;
/// E-mails of the list.
const LISTED: usize = 100;
/// An e-mail may look as it likes, and do nothing.
const NO_SCRIPTS: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'";

/// The e-mails that were taken. Clones share them.
#[derive(Clone)]
pub(crate) struct Mailbox {
    /// Where its pages are, without a slash at the end.
    url: Arc<str>,
    mails: Arc<Mutex<Mails>>,
}

#[derive(Default)]
struct Mails {
    /// Number of all e-mails so far, which is the number of the newest one.
    taken: usize,
    kept: VecDeque<Mail>,
}

struct Mail {
    to: String,
    subject: String,
    source: Arc<[u8]>,
}

/// The newest e-mails.
#[derive(Template)]
#[template(path = "mailbox.html")]
struct List {
    taken: usize,
    mails: Vec<Entry>,
}

struct Entry {
    number: usize,
    to: String,
    subject: String,
}

impl Mailbox {
    /// An empty mailbox whose pages are at `url`.
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            mails: Arc::default(),
        }
    }

    /// The pages: the list, each e-mail, and its source.
    pub(crate) fn pages(self) -> Router {
        Router::new()
            .route("/", get(list))
            .route("/mails/{number}", get(mail))
            .route("/mails/{number}/source", get(source))
            .with_state(self)
    }

    /// Takes e-mails, for as long as the program runs.
    pub(crate) async fn receive(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let mailbox = self.clone();
                    // A client that goes away has no more e-mails.
                    tokio::spawn(async move { mailbox.converse(stream).await });
                }
                // Too many files are open: connections that end make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufStream::new(stream);
        say(&mut stream, "220 Mailbox of the demo").await?;
        loop {
            let line = read_line(&mut stream).await?;
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let answer = match verb.as_slice() {
                b"EHLO" | b"HELO" => "250 localhost".to_owned(),
                b"MAIL" | b"RCPT" | b"RSET" | b"NOOP" => "250 OK".to_owned(),
                b"DATA" => {
                    say(&mut stream, "354 End with a dot on a line of its own").await?;
                    let number = self.keep(read_mail(&mut stream).await?);
                    format!("250 Read it at {}/mails/{number}", self.url)
                }
                b"QUIT" => return say(&mut stream, "221 Bye").await,
                _ => "502 This mailbox does not know the command".to_owned(),
            };
            say(&mut stream, &answer).await?;
        }
    }

    /// Keeps an e-mail, and returns its number.
    fn keep(&self, source: Vec<u8>) -> usize {
        let mail = Mail::of(source);
        let mut mails = self.mails();
        if mails.kept.len() == MAX_MAILS {
            mails.kept.pop_front();
        }
        mails.kept.push_back(mail);
        mails.taken += 1;
        mails.taken
    }

    /// The source of an e-mail, unless it is not kept.
    fn source(&self, number: usize) -> Option<Arc<[u8]>> {
        let mails = self.mails();
        let forgotten = mails.taken - mails.kept.len();
        let place = number.checked_sub(forgotten + 1)?;
        Some(Arc::clone(&mails.kept.get(place)?.source))
    }

    /// An e-mail as HTML, unless it is not kept. One that is text alone is its text.
    pub(crate) fn html(&self, number: usize) -> Option<String> {
        let source = self.source(number)?;
        let parsed = MessageParser::default().parse(&*source)?;
        parsed.body_html(0).map(Cow::into_owned)
    }

    fn newest(&self) -> List {
        let mails = self.mails();
        let entry = |(index, mail): (usize, &Mail)| Entry {
            number: mails.taken - index,
            to: mail.to.clone(),
            subject: mail.subject.clone(),
        };
        let newest = mails.kept.iter().rev().take(LISTED);
        List {
            taken: mails.taken,
            mails: newest.enumerate().map(entry).collect(),
        }
    }

    fn mails(&self) -> MutexGuard<'_, Mails> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    fn of(source: Vec<u8>) -> Self {
        let (to, subject) = {
            let parsed = MessageParser::default().parse(&source);
            let to = parsed
                .as_ref()
                .and_then(|mail| mail.to()?.first()?.address());
            let subject = parsed.as_ref().and_then(|mail| mail.subject());
            let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
            (owned(to), owned(subject))
        };
        Self {
            to,
            subject,
            source: source.into(),
        }
    }
}

async fn say(stream: &mut BufStream<TcpStream>, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    stream.flush().await
}

async fn read_line(stream: &mut BufStream<TcpStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut limited = stream.take(MAX_LINE);
    limited.read_until(b'\n', &mut line).await?;
    if line.ends_with(b"\n") {
        Ok(line)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// An e-mail until the line that is a dot. A dot was put before lines that begin with one.
async fn read_mail(stream: &mut BufStream<TcpStream>) -> io::Result<Vec<u8>> {
    let mut mail = Vec::new();
    loop {
        let line = read_line(stream).await?;
        if line == b".\r\n" {
            return Ok(mail);
        }
        mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        if mail.len() > MAX_MAIL {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

async fn list(State(mailbox): State<Mailbox>) -> Result<Html<String>, StatusCode> {
    let page = mailbox.newest().render();
    page.map(Html)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn mail(
    State(mailbox): State<Mailbox>,
    Path(number): Path<usize>,
) -> Result<impl IntoResponse, StatusCode> {
    let html = mailbox.html(number).ok_or(StatusCode::NOT_FOUND)?;
    Ok(([(header::CONTENT_SECURITY_POLICY, NO_SCRIPTS)], Html(html)))
}

async fn source(
    State(mailbox): State<Mailbox>,
    Path(number): Path<usize>,
) -> Result<String, StatusCode> {
    let source = mailbox.source(number).ok_or(StatusCode::NOT_FOUND)?;
    Ok(String::from_utf8_lossy(&source).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands lines in, and returns what the mailbox says, line by line.
    async fn converse(mailbox: &Mailbox, lines: &str) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiving = tokio::spawn(mailbox.clone().receive(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(lines.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        receiving.abort();
        said.lines().map(str::to_owned).collect()
    }

    const HELLO: &str =
        "EHLO me\r\nMAIL FROM:<news@shop.example>\r\nRCPT TO:<ann@mail.example>\r\nDATA\r\n";

    #[tokio::test]
    async fn an_e_mail_that_was_handed_in_is_shown_without_scripts() {
        let mailbox = Mailbox::new("http://127.0.0.1:1");
        let head = "To: ann@mail.example\r\nSubject: Two <b>orders</b>\r\nContent-Type: text/html";
        let mail_source = format!("{head}\r\n\r\n<p>One\r\n..two</p>\r\n");
        let said = converse(
            &mailbox,
            &format!("{HELLO}{mail_source}.\r\nVRFY x\r\nquit\r\n"),
        )
        .await;
        let codes: Vec<&str> = said.iter().map(|line| &line[..3]).collect();
        assert_eq!(
            codes,
            ["220", "250", "250", "250", "354", "250", "502", "221"]
        );
        assert_eq!(said[5], "250 Read it at http://127.0.0.1:1/mails/1");

        let Html(page) = list(State(mailbox.clone())).await.unwrap();
        assert!(page.contains("href=\"/mails/1\"") && page.contains("ann@mail.example"));
        assert!(page.contains("Two ") && !page.contains("<b>"), "{page}");
        let shown = mail(State(mailbox.clone()), Path(1)).await;
        let shown = shown.map(IntoResponse::into_response).unwrap();
        assert_eq!(shown.headers()[header::CONTENT_SECURITY_POLICY], NO_SCRIPTS);
        let body = axum::body::to_bytes(shown.into_body(), MAX_MAIL)
            .await
            .unwrap();
        assert!(body.starts_with(b"<p>One\r\n.two</p>"), "{body:?}");
        let kept = source(State(mailbox.clone()), Path(1)).await.unwrap();
        assert!(kept.starts_with("To: ann@mail.example\r\n"), "{kept}");
        for number in [0, 2] {
            let missing = source(State(mailbox.clone()), Path(number)).await;
            assert_eq!(missing, Err(StatusCode::NOT_FOUND));
        }
    }

    #[tokio::test]
    async fn an_e_mail_without_a_subject_can_be_opened_from_the_list() {
        let mailbox = Mailbox::new("http://127.0.0.1:1");
        let number = mailbox.keep(b"To: ann@mail.example\r\n\r\nHello\r\n".to_vec());
        let Html(page) = list(State(mailbox)).await.unwrap();
        let link = format!("<a href=\"/mails/{number}\">(no subject)</a>");
        assert!(page.contains(&link), "{page}");
    }

    #[tokio::test]
    async fn an_e_mail_without_an_end_is_not_kept() {
        let mailbox = Mailbox::new("http://127.0.0.1:1");
        let said = converse(&mailbox, &format!("{HELLO}Subject: x\r\n\r\nHalf a l")).await;
        assert_eq!(said.len(), 5, "{said:?}");
        assert_eq!(mailbox.newest().taken, 0);
    }

    #[test]
    fn the_newest_e_mails_are_kept() {
        let mailbox = Mailbox::new("http://127.0.0.1:1");
        for number in 1..=MAX_MAILS + 3 {
            assert_eq!(
                mailbox.keep(format!("Subject: {number}\r\n\r\n").into()),
                number
            );
        }
        assert!(mailbox.source(3).is_none());
        assert!(mailbox.source(4).unwrap().starts_with(b"Subject: 4\r"));
        let List { taken, mails } = mailbox.newest();
        assert_eq!((taken, mails.len()), (MAX_MAILS + 3, LISTED));
        assert_eq!(mails[0].subject, (MAX_MAILS + 3).to_string());
    }
}
