//! The handler `email` against a real SMTP server, aiosmtpd of Python, which `tests/smtp/server.py` starts on loopback.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use mail_parser::MessageParser;
use punctual_application::{
    Handlers,
    ports::{HandlerError, HandlerErrorKind, Page, PurposeHandler, Suppressions},
    testing::{FakeStore, item, item_preferring},
};
use punctual_domain::{Item, ItemInput, Outcome, PurposeId};
use punctual_infrastructure::HandlerKinds;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A server that runs, with the folder of what it has taken.
struct Server {
    child: Child,
    _input: ChildStdin,
    port: u16,
    folder: TempDir,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let python = std::env::var("TEST_SMTP_PYTHON").expect("run it under tests/with-smtp.sh");
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(python)
            .arg(file("../../tests/smtp/server.py"))
            .arg(folder.path())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        Self {
            _input: child.stdin.take().unwrap(),
            port: line.trim().parse().expect("the server prints its port"),
            child,
            folder,
        }
    }

    /// What it has taken: what it says of each e-mail, and the e-mail.
    fn taken(&self) -> Vec<(Value, Vec<u8>)> {
        let path = |number: usize, kind: &str| self.folder.path().join(format!("{number}.{kind}"));
        let numbers = (0..).take_while(|number| path(*number, "json").exists());
        numbers
            .map(|number| {
                let said = std::fs::read(path(number, "json")).unwrap();
                let content = std::fs::read(path(number, "eml")).unwrap();
                (serde_json::from_slice(&said).unwrap(), content)
            })
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A purpose with a store of its own.
struct Purpose {
    handler: Arc<dyn PurposeHandler>,
    store: Arc<FakeStore>,
    _templates: TempDir,
}

impl Purpose {
    fn new(server: &Server, options: Value) -> Self {
        let templates = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(templates.path().join(name), text);
        write(
            "mail.txt.j2",
            "Hello {{ item.data.name | default('Ann') }}\n.\nBye",
        )
        .unwrap();
        write(
            "mail.html.j2",
            "<p>Hello {{ item.data.name | default('Ann') }}</p>",
        )
        .unwrap();
        let mut purpose = json!({"handler": "email", "host": "localhost", "port": server.port, "tls": "none",
            "from": "Shop <news@shop.example>", "subject": "Your week", "text": "mail.txt.j2"});
        purpose
            .as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        let kinds = HandlerKinds::built_in(templates.path());
        let handlers = kinds.handlers(&json!({"purposes": {"mail": purpose}}));
        let handlers: Handlers = handlers.unwrap();
        let store: Arc<FakeStore> = Arc::default();
        handlers.suppressions().connect(store.clone());
        let handler = handlers.handler(&PurposeId::new("mail").unwrap()).unwrap();
        Self {
            handler,
            store,
            _templates: templates,
        }
    }

    async fn send(&self, address: &str) -> Result<Outcome, HandlerError> {
        self.handler.run(&to(address)).await
    }

    async fn suppressed(&self) -> Vec<(String, String)> {
        let all = Page {
            cursor: None,
            limit: 100,
        };
        let (entries, _) = self.store.suppressions(&all).await.unwrap();
        let entries = entries.into_iter();
        entries
            .map(|entry| (entry.address.to_string(), entry.reason))
            .collect()
    }
}

fn to(address: &str) -> Item {
    Item {
        input: ItemInput::Record(json!({"email": address, "name": "<b>Bob</b>"})),
        ..item("bob")
    }
}

/// A certificate for loopback, and its key, as files.
fn certificate() -> (TempDir, [String; 2]) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("cert.pem", cert.pem()),
        ("key.pem", signing_key.serialize_pem()),
    ];
    let paths = files.map(|(name, content)| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    });
    (folder, paths)
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_e_mail_arrives_as_it_was_written() {
    let server = Server::start(&[]);
    let purpose = Purpose::new(
        &server,
        json!({"html": "mail.html.j2", "to_name": "{{ item.data.name }}"}),
    );
    let answer = purpose.send("Bob@Shop.Example").await.unwrap();
    let answer = answer.into_output().expect("it was sent");
    let (said, content) = server.taken().remove(0);
    assert_eq!(said["from"], "news@shop.example");
    assert_eq!(said["to"], json!(["Bob@shop.example"]));
    let message = MessageParser::default().parse(&content).unwrap();
    assert_eq!(message.subject(), Some("Your week"));
    let text = message.body_text(0).unwrap().replace("\r\n", "\n");
    assert_eq!(text.trim_end(), "Hello <b>Bob</b>\n.\nBye");
    let html = message.body_html(0).unwrap();
    assert_eq!(html.trim_end(), "<p>Hello &lt;b&gt;Bob&lt;&#x2f;b&gt;</p>");
    let recipient = message.to().unwrap().first().unwrap();
    assert_eq!(recipient.name.as_deref(), Some("<b>Bob</b>"));
    let id = format!("<{}>", message.message_id().unwrap());
    assert_eq!(answer["message_id"], id);
    assert_eq!(answer["server"], format!("localhost:{}", server.port));
    assert_eq!(answer["reply"], "2.0.0 taken");

    // The next e-mail uses the connection again, and a further attempt has the same id.
    let again = Item {
        attempt: 2,
        ..to("bob@shop.example")
    };
    let again = purpose.handler.run(&again).await.unwrap();
    assert_eq!(again.output().expect("it was sent")["message_id"], id);
    let taken = server.taken();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0].0["peer"], taken[1].0["peer"], "one connection");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_preview_is_what_arrives_and_sends_nothing() {
    let server = Server::start(&[]);
    let purpose = Purpose::new(
        &server,
        json!({"html": "mail.html.j2", "to_name": "{{ item.data.name }}", "subject": "To {{ item.data.name }}"}),
    );
    let bob = to("bob@shop.example");
    let preview = purpose.handler.preview(&bob, true).await.unwrap().unwrap();
    assert!(preview.outcome.is_none());
    assert_eq!(server.taken().len(), 0);
    purpose.send("bob@shop.example").await.unwrap();
    let (_, content) = server.taken().remove(0);
    let message = MessageParser::default().parse(&content).unwrap();
    assert_eq!(message.subject(), preview.subject.as_deref());
    let lines = |text: &str| text.replace("\r\n", "\n").trim_end().to_owned();
    let text = message.body_text(0).unwrap();
    assert_eq!(Some(lines(&text)), preview.text);
    let html = message.body_html(0).unwrap();
    assert_eq!(Some(lines(&html)), preview.html);
    assert!(preview.to.unwrap().contains("bob@shop.example"));

    // A look at the suppression list belongs to the way of a run.
    let gone = "rcpt.550.5.1.1@shop.example";
    let preview = async || purpose.handler.preview(&to(gone), false).await;
    assert!(preview().await.unwrap().unwrap().outcome.is_none());
    assert_eq!(purpose.suppressed().await.len(), 0);
    purpose.send(gone).await.unwrap_err();
    let outcome = preview().await.unwrap().unwrap().outcome;
    let Some(Ok(Outcome::NothingToDo(reason))) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(reason.contains("suppressed"), "{reason}");
    assert_eq!(server.taken().len(), 1);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_the_server_answers_decides_about_a_retry_and_the_suppression_list() {
    use HandlerErrorKind::{Permanent, Retryable, Throttled};
    let server = Server::start(&[]);
    let purpose = Purpose::new(&server, json!({}));
    for (address, kind, refused, is_suppressed) in [
        (
            "rcpt.550.5.1.1@shop.example",
            Permanent,
            "refused the recipient: 550 5.1.1 <[address]>",
            true,
        ),
        (
            "rcpt.550.5.7.1@shop.example",
            Permanent,
            "refused the recipient: 550 5.7.1 <[address]>",
            false,
        ),
        (
            "rcpt.550@shop.example",
            Permanent,
            "refused the recipient: 550 <[address]>",
            false,
        ),
        (
            "rcpt.450.4.2.1@shop.example",
            Retryable,
            "refused the recipient: 450 4.2.1 <[address]>",
            false,
        ),
        (
            "rcpt.450.4.7.1@shop.example",
            Throttled,
            "refused the recipient: 450 4.7.1 <[address]>",
            false,
        ),
        (
            "data.550.5.1.1@shop.example",
            Permanent,
            "refused the e-mail: 550 5.1.1 <[address]>",
            false,
        ),
        (
            "rcpt.421.4.7.0@shop.example",
            Throttled,
            "refused the recipient: 421 4.7.0 <[address]>",
            false,
        ),
        (
            "data.451.4.3.0@shop.example",
            Retryable,
            "refused the e-mail: 451 4.3.0 <[address]>",
            false,
        ),
        (
            "data.554.5.7.1@shop.example",
            Permanent,
            "refused the e-mail: 554 5.7.1 <[address]>",
            false,
        ),
    ] {
        let before = purpose.suppressed().await.len();
        let error = purpose.send(address).await.unwrap_err();
        assert_eq!(error.kind, kind, "{address}: {error}");
        let expected = format!("localhost:{} {refused}", server.port);
        assert!(error.message.starts_with(&expected), "{address}: {error}");
        assert!(!error.message.contains(address), "{error}");
        let added = purpose.suppressed().await.len() - before;
        assert_eq!(added == 1, is_suppressed, "{address}");
        // The next e-mail gets through, on the same connection or on another.
        purpose.send("bob@shop.example").await.unwrap();
    }
    let (address, reason) = purpose.suppressed().await.remove(0);
    assert_eq!(address, "rcpt.550.5.1.1@shop.example");
    assert!(reason.starts_with("550 5.1.1 <[address]>"), "{reason}");
    let taken = server.taken().len();
    let outcome = purpose.send("RCPT.550.5.1.1@shop.example").await.unwrap();
    assert!(
        matches!(&outcome, Outcome::NothingToDo(reason) if reason.starts_with("the address is suppressed (550 5.1.1")),
        "{outcome:?}"
    );
    assert_eq!(
        server.taken().len(),
        taken,
        "the server was not asked again"
    );
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_e_mail_that_the_server_may_have_taken_is_not_sent_again() {
    let server = Server::start(&[]);
    let timeout = Duration::from_secs(2);
    let purpose = Purpose::new(&server, json!({"item_timeout_ms": 2_000}));
    for (number, address) in ["cut@shop.example", "mute@shop.example"].iter().enumerate() {
        // The handler decides: its item would be retried.
        let sent = tokio::time::timeout(timeout, purpose.send(address)).await;
        let error = sent.expect("within the item's time").unwrap_err();
        assert_eq!(error.kind, HandlerErrorKind::Permanent, "{error}");
        let expected = format!(
            "localhost:{} did not confirm the e-mail; it may have been sent",
            server.port
        );
        assert!(error.message.starts_with(&expected), "{error}");
        assert!(!error.message.contains(address), "{error}");
        assert_eq!(server.taken().len(), number + 1);
    }
    // What breaks off before that is.
    let error = purpose.send("hangup@shop.example").await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Retryable, "{error}");
    purpose.send("bob@shop.example").await.unwrap();
    assert_eq!(server.taken().len(), 3);
    assert_eq!(purpose.suppressed().await, []);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_server_that_refuses_every_address_suppresses_only_a_few() {
    let server = Server::start(&[]);
    let purpose = Purpose::new(&server, json!({}));
    for domain in 0..25 {
        let address = format!("rcpt.550.5.1.1@shop{domain}.example");
        let error = purpose.send(&address).await.unwrap_err();
        assert_eq!(error.kind, HandlerErrorKind::Permanent, "{error}");
    }
    assert_eq!(purpose.suppressed().await.len(), 20);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_connection_is_encrypted_with_a_certificate_that_is_trusted_or_not_used() {
    let (_folder, [cert, key]) = certificate();
    for (options, tls) in [
        (vec!["--certificate", &cert, "--key", &key], "required"),
        (
            vec!["--certificate", &cert, "--key", &key, "--implicit"],
            "implicit",
        ),
    ] {
        let server = Server::start(&options);
        let trusting = Purpose::new(&server, json!({"tls": tls, "tls_ca_file": cert}));
        trusting.send("bob@shop.example").await.unwrap();
        assert_eq!(server.taken()[0].0["tls"], true, "{tls}");

        let distrusting = Purpose::new(&server, json!({"tls": tls}));
        let error = distrusting.send("bob@shop.example").await.unwrap_err();
        assert_eq!(error.kind, HandlerErrorKind::Retryable, "{error}");
        assert_eq!(server.taken().len(), 1, "{tls}");
    }
    // A server without STARTTLS is not used without it.
    let plain = Server::start(&[]);
    let purpose = Purpose::new(&plain, json!({"tls": "required"}));
    let error = purpose.send("bob@shop.example").await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Retryable);
    assert!(error.message.contains("STARTTLS"), "{error}");
    assert!(plain.taken().is_empty());
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_wrong_password_is_not_the_recipients_fault() {
    let (_folder, [cert, key]) = certificate();
    let server = |password: &str| {
        let options = [
            "--certificate",
            &cert,
            "--key",
            &key,
            "--implicit",
            "--password",
            password,
        ];
        Server::start(&options)
    };
    // `tests/with-smtp.sh` sets both.
    let options = json!({"tls": "implicit", "tls_ca_file": cert, "username_env": "TEST_SMTP_USER",
        "password_env": "TEST_SMTP_PASSWORD"});
    let password = std::env::var("TEST_SMTP_PASSWORD").unwrap();
    let right = server(&password);
    let purpose = Purpose::new(&right, options.clone());
    purpose.send("bob@shop.example").await.unwrap();

    let wrong = server("another password");
    let purpose = Purpose::new(&wrong, options);
    let error = purpose.send("bob@shop.example").await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Permanent);
    let expected = format!(
        "localhost:{} refused the user name or the password: 535",
        wrong.port
    );
    assert!(error.message.starts_with(&expected), "{error}");
    assert!(!error.message.contains(&password), "{error}");
    assert_eq!(purpose.suppressed().await, []);
    assert!(wrong.taken().is_empty());
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_slow_server_is_given_up_in_time_and_its_connection_is_not_used_again() {
    let server = Server::start(&[]);
    let purpose = Purpose::new(&server, json!({"item_timeout_ms": 2_000}));
    let error = purpose.send("slow@shop.example").await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Retryable);
    assert_eq!(
        error.message,
        format!(
            "localhost:{} did not answer in time to the recipient (RCPT TO)",
            server.port
        )
    );
    // A call that is dropped leaves nothing behind either.
    let dropped = tokio::time::timeout(
        Duration::from_millis(100),
        purpose.send("slow@shop.example"),
    );
    assert!(dropped.await.is_err());
    purpose.send("bob@shop.example").await.unwrap();
    let taken = server.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].0["to"], json!(["bob@shop.example"]));
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn addresses_with_other_characters_go_where_the_server_takes_them() {
    let server = Server::start(&[]);
    let purpose = Purpose::new(&server, json!({}));
    purpose.send("jürgen@münchen.example").await.unwrap();
    assert_eq!(server.taken()[0].0["to"], json!(["jürgen@münchen.example"]));

    let ascii = Server::start(&["--ascii"]);
    let purpose = Purpose::new(&ascii, json!({}));
    let error = purpose.send("jürgen@münchen.example").await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Permanent);
    assert!(error.message.contains("SMTPUTF8"), "{error}");
    purpose.send("bob@shop.example").await.unwrap();
    assert_eq!(ascii.taken().len(), 1);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_signature_is_valid_when_it_arrives() {
    let server = Server::start(&[]);
    let dkim = json!({"selector": "test", "key_file": file("tests/it/dkim/private.pem")});
    let keys = json!({"html": "mail.html.j2", "dkim": dkim, "unsubscribe_url": "https://shop.example/preferences",
        "link_keys_env": "TEST_LINK_KEYS", "subject": "Grüße für eine lange Woche, in einer Zeile, die gefaltet wird"});
    let purpose = Purpose::new(&server, keys);
    let tenant = item_preferring("ann", json!({"email": "ann@shop.example"}));
    purpose.handler.run(&tenant).await.unwrap();
    let (_, content) = server.taken().remove(0);
    let message = MessageParser::default().parse(&content).unwrap();
    let link = message.header_raw("List-Unsubscribe").unwrap().trim();
    assert!(
        link.starts_with("<https://shop.example/preferences/unsubscribe/"),
        "{link}"
    );
    let post = message.header_raw("List-Unsubscribe-Post").unwrap().trim();
    assert_eq!(post, "List-Unsubscribe=One-Click");

    let record = std::fs::read_to_string(file("tests/it/dkim/record.txt")).unwrap();
    let python = std::env::var("TEST_SMTP_PYTHON").unwrap();
    let is_valid = |content: &[u8]| {
        let path = server.folder.path().join("signed.eml");
        std::fs::write(&path, content).unwrap();
        let checked = Command::new(&python)
            .arg(file("../../tests/smtp/verify.py"))
            .arg(path)
            .args(["test._domainkey.shop.example", record.trim()])
            .status();
        checked.unwrap().success()
    };
    assert!(is_valid(&content));
    let text = String::from_utf8(content).unwrap();
    for (from, to) in [
        ("To: ann@", "To: eve@"),
        ("/unsubscribe/", "/subscribe/"),
        ("Hello", "Hallo"),
    ] {
        assert!(!is_valid(text.replacen(from, to, 1).as_bytes()), "{from}");
    }
}
