use std::{collections::BTreeMap, path::Path};

use chrono::{DateTime, Utc};
use lettre::message::header::{ContentType, HeaderName};
use mail_parser::{Message, MessageParser, MimeHeaders};
use punctual_application::{
    ports::HandlerErrorKind,
    testing::{FakeStore, ManualClock, item, item_preferring},
};
use punctual_domain::{ItemInput, object_at};
use punctual_links::ONE_CLICK;
use secrecy::SecretString;

use super::{message::Image, *};

const NOW: &str = "2026-03-01T09:00:00Z";
const SECRET: &str = "k:0123456789-0123456789-0123456789";

fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

fn sender() -> Sender {
    Sender {
        from: mailbox("Shop <news@shop.example>"),
        reply_to: Some(mailbox("help@shop.example")),
        headers: vec![(
            HeaderName::new_from_ascii_str("X-Campaign"),
            "weekly".to_owned(),
        )],
        images: Vec::new(),
        dkim: None,
    }
}

fn parts(text: Option<&str>, html: Option<&str>) -> Parts {
    Parts {
        subject: "Your week".to_owned(),
        text: text.map(str::to_owned),
        html: html.map(str::to_owned),
        unsubscribe: None,
    }
}

fn built(sender: &Sender, to: Mailbox, parts: Parts) -> Envelope {
    let now = NOW.parse().unwrap();
    sender
        .message("news/ann/2026-03-01", now, to, parts)
        .unwrap()
}

fn parsed(content: &[u8]) -> Message<'_> {
    MessageParser::default().parse(content).unwrap()
}

/// The value of a header as it stands in the e-mail, on one line.
fn header(message: &Message<'_>, name: &'static str) -> String {
    let raw = message.header_raw(name).unwrap_or_default();
    raw.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names of all headers, with how often they are there.
fn names(content: &[u8]) -> BTreeMap<String, usize> {
    let text = String::from_utf8_lossy(content);
    let (headers, _) = text.split_once("\r\n\r\n").unwrap();
    let mut names = BTreeMap::new();
    for line in headers
        .split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
    {
        let (name, _) = line.split_once(':').unwrap();
        *names.entry(name.to_ascii_lowercase()).or_default() += 1;
    }
    names
}

#[test]
fn an_e_mail_is_read_back_as_it_was_written() {
    let to = Mailbox::new(
        Some("Ann Grün".to_owned()),
        "ann@shop.example".parse().unwrap(),
    );
    let mut parts = parts(
        Some("Grüße\n.\n.. 日本語"),
        Some("<p>Grüße <b>日本語</b></p>"),
    );
    parts.subject =
        "Your week: Grüße from 日本語, and a long line that is folded somewhere".to_owned();
    parts.unsubscribe = Some("https://shop.example/unsubscribe/TOKEN".to_owned());
    let subject = parts.subject.clone();
    let built = built(&sender(), to, parts);
    let message = parsed(&built.content);

    assert_eq!(message.subject(), Some(subject.as_str()));
    let address = |address: Option<&mail_parser::Address<'_>>| {
        let first = address.unwrap().first().unwrap();
        let name = first.name.as_deref().unwrap_or_default().to_owned();
        (name, first.address.as_deref().unwrap().to_owned())
    };
    let own = |name: &str, address: &str| (name.to_owned(), address.to_owned());
    assert_eq!(address(message.from()), own("Shop", "news@shop.example"));
    assert_eq!(address(message.to()), own("Ann Grün", "ann@shop.example"));
    assert_eq!(address(message.reply_to()), own("", "help@shop.example"));
    let now: DateTime<Utc> = NOW.parse().unwrap();
    assert_eq!(message.date().unwrap().to_timestamp(), now.timestamp());
    let id = built.message_id.trim_matches(['<', '>']);
    assert_eq!(message.message_id(), Some(id));
    assert_eq!(header(&message, "X-Campaign"), "weekly");
    assert_eq!(
        header(&message, "List-Unsubscribe"),
        "<https://shop.example/unsubscribe/TOKEN>"
    );
    assert_eq!(header(&message, "List-Unsubscribe-Post"), ONE_CLICK);
    let text = message.body_text(0).unwrap().replace("\r\n", "\n");
    assert_eq!(text.trim_end(), "Grüße\n.\n.. 日本語");
    let html = message.body_html(0).unwrap();
    assert_eq!(html.trim_end(), "<p>Grüße <b>日本語</b></p>");

    let to: Address = "ann@shop.example".parse().unwrap();
    assert_eq!(built.envelope.to(), [to]);
    let from = built.envelope.from().map(ToString::to_string);
    assert_eq!(from.as_deref(), Some("news@shop.example"));
    assert!(built.content.is_ascii());
}

#[test]
fn hostile_subjects_and_names_add_neither_headers_nor_recipients() {
    let usual = names(
        &built(
            &sender(),
            mailbox("ann@shop.example"),
            parts(Some("x"), None),
        )
        .content,
    );
    for hostile in [
        "a\r\nBcc: eve@evil.example",
        "a\nBcc: eve@evil.example\n\nbody",
        "a\rBcc: eve@evil.example",
        "a\u{2028}Bcc: eve@evil.example",
        "a>, eve@evil.example",
        "a\" <eve@evil.example>, \"",
        "a <eve@evil.example>",
        "eve@evil.example,",
        "=?utf-8?q?a=0d=0aBcc:_eve@evil.example?=",
        "\\",
        "\"",
        "(comment",
        "\0\u{1b}[2J\u{202e}",
    ] {
        let line = one_line(hostile);
        let to = Mailbox::new(
            Some(line.clone()).filter(|line| !line.is_empty()),
            "ann@shop.example".parse().unwrap(),
        );
        let mut parts = parts(Some("x"), None);
        parts.subject.clone_from(&line);
        let built = built(&sender(), to, parts);
        assert_eq!(names(&built.content), usual, "{hostile:?}");
        let message = parsed(&built.content);
        let mut recipients = Vec::new();
        for to in message.all_to() {
            recipients.extend(to.iter().filter_map(|one| one.address.as_deref()));
        }
        assert_eq!(recipients, ["ann@shop.example"], "{hostile:?}");
        assert_eq!(built.envelope.to().len(), 1);
    }
}

#[test]
fn pictures_are_shown_by_the_html_they_belong_to() {
    let mut sender = sender();
    let png = b"\x89PNG\0\xff".repeat(40);
    let kind = ContentType::parse("image/png").unwrap();
    sender.images.push(Image::new("logo", kind, png.clone()));
    let to = mailbox("ann@shop.example");
    let html = Some("<img src=\"cid:logo\">");
    for (text, structure) in [
        (
            Some("x"),
            [
                "multipart/alternative",
                "text/plain",
                "multipart/related",
                "text/html",
                "image/png",
            ]
            .as_slice(),
        ),
        (
            None,
            ["multipart/related", "text/html", "image/png"].as_slice(),
        ),
    ] {
        let built = built(&sender, to.clone(), parts(text, html));
        let message = parsed(&built.content);
        let found: Vec<String> = message
            .parts
            .iter()
            .filter_map(|part| {
                let kind = part.content_type()?;
                Some(format!("{}/{}", kind.ctype(), kind.subtype()?))
            })
            .collect();
        assert_eq!(found, structure);
        let picture = message.parts.last().unwrap();
        assert_eq!(picture.content_id(), Some("logo"));
        assert_eq!(picture.contents(), png);
        // It is in the e-mail as it was encoded when the purpose was read.
        let encoded = sender.images[0].encoded();
        assert!(encoded.split(|b| *b == b'\n').all(|line| line.len() <= 77));
        let parts = built.content.windows(encoded.len());
        assert_eq!(parts.filter(|part| *part == encoded).count(), 1);
    }
}

/// A handler with these options, beside those that each needs, on this store. Its server does not exist.
fn handler(folder: &Path, store: &Arc<FakeStore>, options: Value) -> EmailHandler {
    let mut purpose = json!({"host": "127.0.0.1", "port": 1, "tls": "none", "from": "news@shop.example",
        "subject": "Your week"});
    let object = purpose.as_object_mut().unwrap();
    object.extend(options.as_object().unwrap().clone());
    let templates = Templates::in_folder(folder);
    let suppressions = SuppressionList::default();
    suppressions.connect(store.clone());
    let mut fields = Fields::new(object_at(&purpose, "").unwrap(), "");
    let clock = Arc::new(ManualClock::starting_at(NOW));
    let timeout = Duration::from_secs(5);
    let handler = options::read(&mut fields, &templates, &suppressions, timeout, clock);
    fields.finish(|| handler).unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let template = "{{ item.data.text | default('Hello') }}";
    std::fs::write(folder.path().join("mail.j2"), template).unwrap();
    folder
}

fn with_data(data: Value) -> Item {
    Item {
        input: ItemInput::Record(data),
        ..item("ann")
    }
}

#[tokio::test]
async fn nothing_is_sent_without_a_text_or_to_a_suppressed_address() {
    let (folder, store) = (folder(), Arc::new(FakeStore::default()));
    let handler = handler(
        folder.path(),
        &store,
        json!({"text": "mail.j2", "html": "mail.j2"}),
    );
    let run = async |data: Value| handler.run(&with_data(data)).await;
    let outcome = run(json!({"email": "ann@shop.example", "text": " \n\t"})).await;
    let nothing = Outcome::nothing_to_do("the text is empty");
    assert_eq!(outcome.unwrap(), nothing);

    let entry = Suppression {
        address: "Ann@shop.example".parse().unwrap(),
        reason: "complained".to_owned(),
        at: NOW.parse().unwrap(),
        by: "a test".to_owned(),
    };
    handler.suppressions.add(entry).await.unwrap();
    let outcome = run(json!({"email": "ann@SHOP.example"})).await;
    let nothing = Outcome::nothing_to_do("the address is suppressed (complained)");
    assert_eq!(outcome.unwrap(), nothing);

    // Another address is sent to, and its server does not exist.
    let error = run(json!({"email": "bob@shop.example"})).await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Retryable);
    assert!(error.message.starts_with("127.0.0.1:1 "), "{error}");
}

#[tokio::test]
async fn an_address_is_one_address_and_is_not_in_the_error() {
    let (folder, store) = (folder(), Arc::new(FakeStore::default()));
    let own = handler(folder.path(), &store, json!({"text": "mail.j2"}));
    let of_template = json!({"text": "mail.j2", "to": "{{ item.data.to }}"});
    let of_template = handler(folder.path(), &store, of_template);
    let long = format!("{}@shop.example", "a".repeat(1_000));
    for hostile in [
        "ann@shop.example\r\nBcc: eve@evil.example",
        "ann@shop.example, eve@evil.example",
        "Ann <ann@shop.example>",
        "ann@shop.example> <eve@evil.example",
        "ann\u{ff20}shop.example",
        "ann@localhost",
        "",
        &long,
    ] {
        for (handler, field) in [(&own, "email"), (&of_template, "to")] {
            let item = with_data(json!({ field: hostile }));
            let error = handler.run(&item).await.unwrap_err();
            assert_eq!(error.kind, HandlerErrorKind::Permanent);
            let message = error.message;
            assert!(
                message.starts_with("the address is not valid: "),
                "{message}"
            );
            assert!(!message.contains("eve") && message.len() < 200, "{message}");
        }
    }
    let error = own.run(&with_data(json!({}))).await.unwrap_err();
    assert!(error.message.contains("has no address"), "{error}");
}

#[test]
fn the_preference_has_the_address_or_else_the_data() {
    let tenant = item_preferring("ann", json!({"email": "ann@shop.example"}));
    let of = |item: &Item| own_address(&Values::from(item).item);
    assert_eq!(of(&tenant).as_deref(), Some("ann@shop.example"));
    let fetched = |tenant: Item| Item {
        fetched: Some(json!({"email": "eve@shop.example"})),
        ..tenant
    };
    assert_eq!(of(&fetched(tenant)).as_deref(), Some("ann@shop.example"));
    let tenant = fetched(item_preferring("ann", json!({})));
    assert_eq!(of(&tenant).as_deref(), Some("eve@shop.example"));
    let record = with_data(json!({"email": "bob@shop.example"}));
    assert_eq!(of(&record).as_deref(), Some("bob@shop.example"));
    assert_eq!(of(&item("ann")), None);
}

#[test]
fn a_link_that_unsubscribes_is_signed_for_the_tenant_and_the_feature() {
    let (folder, store) = (folder(), Arc::new(FakeStore::default()));
    let mut handler = handler(folder.path(), &store, json!({"text": "mail.j2"}));
    let keys = LinkKeys::parse(&SecretString::from(SECRET)).unwrap();
    handler.unsubscribe = Some(Unsubscribe {
        base: "https://shop.example/preferences".to_owned(),
        keys: keys.clone(),
    });
    let tenant = item_preferring("ann", json!({}));
    let url = handler.unsubscribe_url(&tenant).unwrap().unwrap();
    let token = url.strip_prefix("https://shop.example/preferences/unsubscribe/");
    let now = NOW.parse().unwrap();
    let claims: UnsubscribeClaims = keys.verify(token.unwrap(), now).unwrap();
    assert_eq!(
        (claims.sub.as_str(), claims.feature.as_str()),
        ("ann", "feature")
    );
    let lifetime = claims.exp - now.timestamp();
    assert_eq!(lifetime, UnsubscribeClaims::LIFETIME.num_seconds());
    // A record belongs to no feature.
    assert_eq!(handler.unsubscribe_url(&item("ann")).unwrap(), None);
}

#[tokio::test]
async fn a_preview_has_the_parts_of_the_e_mail_and_a_link_that_switches_nothing_off() {
    let (folder, store) = (folder(), Arc::new(FakeStore::default()));
    for (name, template) in [
        ("link.j2", "Bye {{ item.unsubscribe_url }}"),
        ("page.j2", "Hello <b>{{ item.tenant_id }}</b>"),
    ] {
        std::fs::write(folder.path().join(name), template).unwrap();
    }
    let options = json!({"text": "link.j2", "html": "page.j2", "to_name": "Ann",
        "subject": "Week of {{ item.tenant_id }}"});
    let mut full = handler(folder.path(), &store, options);
    let keys = LinkKeys::parse(&SecretString::from(SECRET)).unwrap();
    full.unsubscribe = Some(Unsubscribe {
        base: "https://shop.example/preferences".to_owned(),
        keys: keys.clone(),
    });
    let ann = item_preferring("ann", json!({"email": "ann@shop.example"}));
    // Its server does not exist, so that a call would fail.
    let preview = full.preview(&ann, true).await.unwrap().unwrap();
    assert!(preview.outcome.is_none());
    assert_eq!(preview.to.as_deref(), Some("Ann <ann@shop.example>"));
    assert_eq!(preview.subject.as_deref(), Some("Week of ann"));
    assert_eq!(preview.html.as_deref(), Some("Hello <b>ann</b>"));
    let link = "Bye https://shop.example/preferences/unsubscribe/preview";
    assert_eq!(preview.text.as_deref(), Some(link));
    let claims: Result<UnsubscribeClaims, _> = keys.verify(NO_TOKEN, NOW.parse().unwrap());
    assert!(claims.is_err());

    let short = handler(folder.path(), &store, json!({"text": "mail.j2"}));
    let preview = async |data: Value| short.preview(&with_data(data), false).await;
    let empty = preview(json!({"email": "ann@shop.example", "text": " "})).await;
    let outcome = empty.unwrap().unwrap().outcome.unwrap();
    let nothing = Outcome::nothing_to_do("the text is empty");
    assert_eq!(outcome.unwrap(), nothing);
    let error = preview(json!({})).await.unwrap_err();
    assert!(error.message.contains("has no address"), "{error}");
}

/// The mistakes in these options.
fn mistakes(folder: &Path, options: Value) -> Vec<String> {
    let templates = Templates::in_folder(folder);
    let list = SuppressionList::default();
    let mut fields = Fields::new(object_at(&options, "").unwrap(), "");
    let clock = Arc::new(SystemClock);
    let read = options::read(
        &mut fields,
        &templates,
        &list,
        Duration::from_secs(5),
        clock,
    );
    fields.deny_others();
    let errors = fields.finish(|| read).err();
    let errors = errors.map_or_else(Vec::new, |errors| errors.0);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_mistake_in_the_options_is_named() {
    let folder = folder();
    std::fs::write(folder.path().join("logo.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    std::fs::write(folder.path().join("note.png"), "no picture").unwrap();
    let mut large = b"\x89PNG".to_vec();
    large.resize(2 * 1024 * 1024 + 4, 0);
    std::fs::write(folder.path().join("large.png"), large).unwrap();
    std::fs::write(
        folder.path().join("key.pem"),
        "-----BEGIN PRIVATE KEY-----\ncanary",
    )
    .unwrap();
    let key = folder.path().join("key.pem");
    let with = |changed: Value| {
        let mut purpose = json!({"host": "smtp.example", "from": "Shop <news@shop.example>",
            "subject": "Your week", "html": "mail.j2"});
        let object = purpose.as_object_mut().unwrap();
        for (name, value) in changed.as_object().unwrap() {
            object.insert(name.clone(), value.clone());
        }
        mistakes(folder.path(), purpose)
    };
    for good in [
        json!({}),
        json!({"tls": "implicit", "port": 2465, "reply_to": "help@shop.example", "text": "mail.j2"}),
        json!({"host": null, "url": "smtps://smtp.example"}),
        json!({"host": null, "url": "smtp://[::1]:2525", "tls": "none"}),
        json!({"headers": {"X-Campaign": "weekly", "list-id": "<news.shop.example>"}}),
        json!({"images": {"logo": "logo.png"}, "to": "{{ item.data.email }}", "to_name": "{{ name }}"}),
    ] {
        assert_eq!(with(good.clone()), [""; 0], "{good}");
    }
    for (bad, expected) in [
        (json!({"host": null}), "/host: is missing"),
        (
            json!({"host": "smtp.example:25"}),
            "/host: \"smtp.example:25\" is not the name or the address of a server",
        ),
        (
            json!({"url": "smtp://smtp.example"}),
            "/url: \"smtp://smtp.example\" names the server a second time",
        ),
        (
            json!({"host": null, "url": "smtp://me:pw@smtp.example"}),
            "/url: \"smtp://me:pw@smtp.example\" contains a user or password",
        ),
        (
            json!({"host": null, "url": "https://smtp.example"}),
            "/url: \"https://smtp.example\" is not a URL of an SMTP server",
        ),
        (
            json!({"host": null, "url": "smtps://smtp.example", "tls": "none"}),
            "/tls: \"none\" contradicts the URL",
        ),
        (json!({"tls": "maybe"}), "/tls: \"maybe\" does not say how"),
        (json!({"port": 0}), "/port: 0 is out of range"),
        (
            json!({"username_env": "NOT_SET_ANYWHERE"}),
            "/username_env: \"NOT_SET_ANYWHERE\" is not set",
        ),
        (
            json!({"from": "Shop"}),
            "/from: \"Shop\" is not a valid e-mail address",
        ),
        (
            json!({"from": "a@b.example, c@d.example"}),
            "/from: \"a@b.example, c@d.example\" is not a valid e-mail address",
        ),
        (
            json!({"from": "a\r\nBcc: <c@d.example>"}),
            "/from: \"a\\r\\nBcc: <c@d.example>\" has a name with characters",
        ),
        (json!({"subject": null}), "/subject: is missing"),
        (
            json!({"subject": "{% if %}"}),
            "/subject: \"{% if %}\" cannot be used",
        ),
        (json!({"html": null}), "/text: is missing, as is \"html\""),
        (
            json!({"html": "none.j2"}),
            "/html: \"none.j2\" cannot be used",
        ),
        (
            json!({"headers": {"Bcc": "eve@evil.example"}}),
            "/headers/Bcc: \"eve@evil.example\" is not the value of a header that can be added",
        ),
        (
            json!({"headers": {"X-A: b\r\nBcc": "c"}}),
            "/headers/X-A: b\r\nBcc: \"c\" is not the value",
        ),
        (
            json!({"headers": {"X-A": "b\r\nBcc: c"}}),
            "/headers/X-A: \"b\\r\\nBcc: c\" is not a value of a header",
        ),
        (
            json!({"images": {"a b": "logo.png"}}),
            "/images/a b: \"logo.png\" has a name",
        ),
        (
            json!({"images": {"logo": "../logo.png"}}),
            "/images/logo: \"../logo.png\" is not the name of a file",
        ),
        (
            json!({"images": {"logo": "note.png"}}),
            "/images/logo: \"note.png\" is not a picture",
        ),
        (
            json!({"images": {"logo": "large.png"}}),
            "/images/logo: \"large.png\" has 2097156 bytes",
        ),
        (
            json!({"html": null, "text": "mail.j2", "images": {"logo": "logo.png"}}),
            "/images: {\"logo\":\"logo.png\"} are shown by \"html\"",
        ),
        (
            json!({"dkim": {"selector": "s", "key_file": "/nowhere"}}),
            "/dkim/key_file: \"/nowhere\" cannot be read",
        ),
        (
            json!({"dkim": {"selector": "a b", "key_file": key}}),
            "/dkim/selector: \"a b\" is not a name of the DNS",
        ),
        (
            json!({"unsubscribe_url": "https://shop.example"}),
            "/link_keys_env: is missing",
        ),
        (json!({"colour": 1}), "/colour: 1 is not a known field"),
    ] {
        let found = with(bad.clone());
        let first = found.first().map(String::as_str).unwrap_or_default();
        assert!(first.starts_with(expected), "{bad}: {found:#?}");
    }
    let found = with(json!({"dkim": {"selector": "s", "key_file": key}}));
    assert!(
        found[0].contains("cannot be used: rsa decode error"),
        "{found:?}"
    );
    assert!(!found[0].contains("canary"), "{found:?}");
}
