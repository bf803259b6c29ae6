//! The fields of a purpose whose handler is `email`.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use lettre::{
    Address,
    message::{
        DkimConfig, Mailbox,
        dkim::{
            DkimCanonicalization, DkimCanonicalizationType, DkimSigningAlgorithm, DkimSigningKey,
        },
        header::{ContentType, HeaderName},
    },
    transport::smtp::{
        SMTP_PORT, SUBMISSION_PORT, SUBMISSIONS_PORT,
        authentication::Credentials,
        client::{Certificate, TlsParameters},
    },
};
use punctual_application::{LogLimit, SuppressionList, ports::Clock};
use punctual_domain::{
    EmailAddress, FieldErrors, Fields, Invalid, below, object_at,
    values::{http_url, parsed, text, whole_number},
};
use punctual_links::LinkKeys;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::{Host, Url};

use super::{
    EmailHandler, Unsubscribe,
    message::{Image, Sender, one_line},
    refusals::RefusedAddresses,
    relay::{Relay, Tls},
};
use crate::{
    environment::secret_in,
    handlers::template::{TEMPLATE_REMEDY, TemplateHandler, Templates},
    outbound::is_loopback,
};

/// Pictures of a purpose at most, and bytes of all of them: every e-mail carries them.
const MAX_IMAGES: usize = 20;
const MAX_IMAGE_BYTES: usize = 2 * 1024 * 1024;
/// Headers of a purpose at most, and characters of one: a line of an e-mail is shorter than 1,000.
const MAX_HEADERS: usize = 20;
const MAX_HEADER: usize = 500;
/// Characters of an address that links begin with: with the token, they are a line of the e-mail.
const MAX_URL: usize = 200;
/// Bytes of a file with a key or a certificate at most.
const MAX_KEY_FILE: usize = 64 * 1024;

/// What DKIM signs. Headers that an e-mail does not have are signed as absent: none can be added on the way.
const SIGNED: [&str; 9] = [
    "From",
    "Reply-To",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

const FROM_REMEDY: &str = "add the sender, such as \"Shop <news@shop.example>\"";

/// Reads the options. Mistakes stay with `fields`.
pub(super) fn read(
    fields: &mut Fields<'_>,
    templates: &Templates,
    suppressions: &SuppressionList,
    timeout: Duration,
    clock: Arc<dyn Clock>,
) -> Option<EmailHandler> {
    let relay = relay(fields, timeout);
    let from = fields.required("from", FROM_REMEDY, mailbox);
    let reply_to = fields.optional("reply_to", mailbox);
    let to = inline(fields, templates, "to");
    let to_name = inline(fields, templates, "to_name");
    let subject = inline(fields, templates, "subject");
    if fields.raw("subject").is_none() {
        let remedy = "add a template of one line, such as \"Your week, {{ name }}\"";
        fields.complain("subject", Invalid::new("is missing", remedy));
    }
    let text = fields.optional("text", |name| templates.handler(name));
    let html = fields.optional("html", |name| templates.html_handler(name));
    if fields.raw("text").is_none() && fields.raw("html").is_none() {
        let missing = Invalid::new("is missing, as is \"html\"", TEMPLATE_REMEDY);
        fields.complain("text", missing);
    }
    let headers = fields.nested("headers", headers);
    let images = fields.nested("images", |value, pointer| images(value, pointer, templates));
    if images.is_some() && fields.raw("html").is_none() {
        let alone = Invalid::new(
            "are shown by \"html\", which is missing",
            "add it, or remove the images",
        );
        fields.complain("images", alone);
    }
    let domain = from.as_ref().map_or("", |from| from.email.domain());
    let dkim = fields.nested("dkim", |value, pointer| dkim(value, pointer, domain));
    let unsubscribe = unsubscribe(fields);
    Some(EmailHandler {
        relay: Arc::new(relay?),
        refused: RefusedAddresses::default(),
        sender: Arc::new(Sender {
            from: from?,
            reply_to,
            headers: headers.unwrap_or_default(),
            images: images.unwrap_or_default(),
            dkim,
        }),
        to,
        to_name,
        subject: subject?,
        text,
        html,
        unsubscribe,
        suppressions: suppressions.clone(),
        unsuppressed: LogLimit::default(),
        clock,
    })
}

fn inline(
    fields: &mut Fields<'_>,
    templates: &Templates,
    name: &'static str,
) -> Option<TemplateHandler> {
    let pointer = fields.pointer_of(name);
    fields.optional(name, |template| {
        templates.inline_handler(&pointer, template)
    })
}

/// How the connection is encrypted, as `tls` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Required,
    Implicit,
    None,
}

fn encryption(value: &Value) -> Result<Encryption, Invalid> {
    match text(value)? {
        "required" => Ok(Encryption::Required),
        "implicit" => Ok(Encryption::Implicit),
        "none" => Ok(Encryption::None),
        _ => Err(Invalid::new(
            "does not say how the connection is encrypted",
            "use \"required\" (STARTTLS), \"implicit\" (TLS from the first byte on) or \"none\"",
        )),
    }
}

fn relay(fields: &mut Fields<'_>, timeout: Duration) -> Option<Relay> {
    let url = fields.optional("url", server);
    let host = fields.optional("host", |value| parsed_host(text(value)?));
    let port = fields.optional("port", |value| {
        whole_number(value, 1..=u64::from(u16::MAX)).map(|port| port as u16)
    });
    let tls = fields.optional("tls", encryption);
    let ca = fields.optional("tls_ca_file", certificate);
    let user = fields.optional("username_env", secret_in);
    let password = fields.optional("password_env", secret_in);
    let (has_url, has_host) = (fields.raw("url").is_some(), fields.raw("host").is_some());
    if !has_url && !has_host {
        let remedy = "add the server, such as \"smtp.example\", or a \"url\" such as \"smtps://smtp.example\"";
        fields.complain("host", Invalid::new("is missing", remedy));
        return None;
    }
    if has_url && (has_host || fields.raw("port").is_some()) {
        let twice = Invalid::new("names the server a second time", "remove host and port");
        fields.complain("url", twice);
        return None;
    }
    let (host, port, implied) = match url {
        Some(server) => (server.host, server.port, server.tls),
        None => (host?, port, None),
    };
    if implied.is_some() && tls.is_some_and(|tls| Some(tls) != implied) {
        let otherwise = Invalid::new(
            "contradicts the URL, which begins with smtps://",
            "remove it, or use a URL that begins with smtp://",
        );
        fields.complain("tls", otherwise);
        return None;
    }
    let tls = implied.or(tls).unwrap_or(Encryption::Required);
    let has_user = fields.raw("username_env").is_some();
    if has_user != fields.raw("password_env").is_some() {
        let alone = Invalid::new("is missing", "name the variables of both, or of neither");
        let missing = if has_user {
            "password_env"
        } else {
            "username_env"
        };
        fields.complain(missing, alone);
        return None;
    }
    let credentials = user.zip(password).map(|(user, password)| {
        let own = |secret: &SecretString| secret.expose_secret().to_owned();
        Credentials::new(own(&user), own(&password))
    });
    if tls == Encryption::None && credentials.is_some() && !is_loopback(&host) {
        let readable = Invalid::new(
            "sends the password unencrypted to another machine",
            "use \"required\" or \"implicit\", or remove username_env and password_env",
        );
        fields.complain("tls", readable);
        return None;
    }
    let mut parameters = TlsParameters::builder(host.clone());
    if let Some(certificate) = ca {
        parameters = parameters.add_root_certificate(certificate);
    }
    let (tls, usual_port) = match tls {
        Encryption::None => (Tls::None, SMTP_PORT),
        encrypted => {
            let parameters = parameters.build().map_err(|error| {
                let problem = format!("cannot be connected to with TLS: {error}");
                let remedy = "install the certificates of the system (ca-certificates)";
                let field = if has_url { "url" } else { "host" };
                fields.complain(field, Invalid::new(problem, remedy));
            });
            match encrypted {
                Encryption::Implicit => (Tls::Implicit(parameters.ok()?), SUBMISSIONS_PORT),
                _ => (Tls::Explicit(parameters.ok()?), SUBMISSION_PORT),
            }
        }
    };
    Some(Relay::new(
        &host,
        port.unwrap_or(usual_port),
        tls,
        credentials,
        timeout,
    ))
}

/// The server that a URL names.
struct Server {
    host: String,
    port: Option<u16>,
    /// The encryption that its scheme asks for.
    tls: Option<Encryption>,
}

fn server(value: &Value) -> Result<Server, Invalid> {
    let wrong = |problem: &str| {
        let remedy = "use one such as \"smtp://smtp.example:587\" or \"smtps://smtp.example\"";
        Invalid::new(problem, remedy)
    };
    let url: Url = text(value)?
        .parse()
        .map_err(|_| wrong("is not a URL of an SMTP server"))?;
    let tls = match url.scheme() {
        "smtp" => None,
        "smtps" => Some(Encryption::Implicit),
        _ => return Err(wrong("is not a URL of an SMTP server")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::new(
            "contains a user or password",
            "remove it from the URL, and name the variables in username_env and password_env",
        ));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has more than a host and a port"));
    }
    let host = match url.host() {
        Some(Host::Domain(name)) => parsed_host(name)?,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(wrong("names no server")),
    };
    Ok(Server {
        host,
        port: url.port(),
        tls,
    })
}

/// A name or an address of a server.
fn parsed_host(host: &str) -> Result<String, Invalid> {
    let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let is_name = (1..=253).contains(&host.len()) && host.bytes().all(name);
    if is_name || host.parse::<IpAddr>().is_ok() {
        return Ok(host.to_ascii_lowercase());
    }
    Err(Invalid::new(
        "is not the name or the address of a server",
        "use a name such as \"smtp.example\", without a port",
    ))
}

/// The content of a file that a field names.
fn file(path: &str) -> Result<String, Invalid> {
    let unreadable = |problem: String| {
        Invalid::new(
            problem,
            "name a file that the agent can read, by its path from the working directory",
        )
    };
    let content = std::fs::read(Path::new(path))
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    if content.len() > MAX_KEY_FILE {
        return Err(unreadable(format!("has {} bytes", content.len())));
    }
    String::from_utf8(content).map_err(|_| unreadable("is not a text file".to_owned()))
}

fn certificate(value: &Value) -> Result<Certificate, Invalid> {
    let pem = file(text(value)?)?;
    let remedy = "name a file with certificates in PEM form (`-----BEGIN CERTIFICATE-----`)";
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Invalid::new("has no certificate", remedy));
    }
    Certificate::from_pem(pem.as_bytes())
        .map_err(|error| Invalid::new(format!("cannot be used: {error}"), remedy))
}

/// A sender: an address, or a name and an address in angle brackets.
fn mailbox(value: &Value) -> Result<Mailbox, Invalid> {
    let given = text(value)?;
    let (name, address) = match given
        .strip_suffix('>')
        .and_then(|rest| rest.rsplit_once('<'))
    {
        Some((name, address)) => (name.trim().trim_matches('"'), address),
        None => ("", given),
    };
    if one_line(name) != name {
        return Err(Invalid::new(
            "has a name with characters that are not shown",
            FROM_REMEDY,
        ));
    }
    let address: EmailAddress = parsed(&Value::from(address))?;
    let address = Address::new(address.local(), address.domain())
        .map_err(|error| Invalid::new(format!("cannot be used: {error}"), FROM_REMEDY))?;
    Ok(Mailbox::new(
        (!name.is_empty()).then(|| name.to_owned()),
        address,
    ))
}

fn headers(value: &Value, pointer: &str) -> Result<Vec<(HeaderName, String)>, FieldErrors> {
    members(value, pointer, ("headers", MAX_HEADERS), header)
}

/// What `read` makes of the members of an object, of which there are at most so many.
fn members<T>(
    value: &Value,
    pointer: &str,
    (kind, most): (&str, usize),
    read: impl Fn(&str, &Value) -> Result<T, Invalid>,
) -> Result<Vec<T>, FieldErrors> {
    let object = object_at(value, pointer)?;
    if object.len() > most {
        let problem = format!("has {} {kind}", object.len());
        let many = Invalid::new(problem, format!("use at most {most}"));
        return Err(many.at(pointer, None).into());
    }
    FieldErrors::collect(object.iter().map(|(name, value)| {
        read(name, value)
            .map_err(|wrong| FieldErrors::from(wrong.at(below(pointer, name), Some(value))))
    }))
}

/// A header that changes nothing about sender, recipients and content.
fn header(name: &str, value: &Value) -> Result<(HeaderName, String), Invalid> {
    let lower = name.to_ascii_lowercase();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let extra = lower.starts_with("x-") || lower.starts_with("list-");
    let name = HeaderName::new_from_ascii(name.to_owned());
    let (true, true, Ok(name)) = (extra, lower.bytes().all(plain), name) else {
        return Err(Invalid::new(
            "is not the value of a header that can be added",
            "use a name that begins with X- or List-, of the characters A-Z a-z 0-9 -",
        ));
    };
    let value = text(value)?;
    let shown = one_line(value);
    if shown != value || !(1..=MAX_HEADER).contains(&value.chars().count()) {
        return Err(Invalid::new(
            "is not a value of a header",
            format!("use 1 to {MAX_HEADER} visible characters in one line"),
        ));
    }
    Ok((name, shown))
}

fn images(value: &Value, pointer: &str, templates: &Templates) -> Result<Vec<Image>, FieldErrors> {
    let images = members(value, pointer, ("images", MAX_IMAGES), |name, value| {
        image(name, value, templates)
    })?;
    let bytes: usize = images.iter().map(|image| image.bytes).sum();
    if bytes > MAX_IMAGE_BYTES {
        let large = Invalid::new(
            format!("have {bytes} bytes in sum"),
            format!("use images of at most {MAX_IMAGE_BYTES} bytes in sum"),
        );
        return Err(large.at(pointer, None).into());
    }
    Ok(images)
}

fn image(name: &str, value: &Value, templates: &Templates) -> Result<Image, Invalid> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
        return Err(Invalid::new(
            "has a name that cannot stand in `cid:NAME`",
            "use 1 to 64 of the characters A-Z a-z 0-9 . _ -",
        ));
    }
    let content = templates.file(text(value)?, MAX_IMAGE_BYTES)?;
    let content_type = picture_type(&content).and_then(|kind| ContentType::parse(kind).ok());
    let content_type = content_type.ok_or_else(|| {
        Invalid::new(
            "is not a picture that mail programs show",
            "use a PNG, JPEG, GIF or WebP file",
        )
    })?;
    Ok(Image::new(name, content_type, content))
}

/// The kind of a picture, by its content.
fn picture_type(content: &[u8]) -> Option<&'static str> {
    match content {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        _ if content.starts_with(b"RIFF") && content.get(8..12) == Some(b"WEBP") => {
            Some("image/webp")
        }
        _ => None,
    }
}

fn dkim(value: &Value, pointer: &str, domain: &str) -> Result<DkimConfig, FieldErrors> {
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    let remedy = "add the name under which the public key is in the DNS, such as \"mail2026\"";
    let selector = fields.required("selector", remedy, dns_name);
    let own = fields.optional("domain", dns_name);
    let remedy = "add the path of the file with the private key";
    let key = fields.required("key_file", remedy, signing_key);
    fields.deny_others();
    fields.finish(|| {
        let domain = own.unwrap_or_else(|| domain.to_owned());
        let signed = Vec::from(SIGNED.map(HeaderName::new_from_ascii_str));
        // Programs on the way fold headers anew: the other form would not survive that.
        let relaxed = DkimCanonicalization {
            header: DkimCanonicalizationType::Relaxed,
            body: DkimCanonicalizationType::Relaxed,
        };
        Some(DkimConfig::new(selector?, domain, key?, signed, relaxed))
    })
}

fn dns_name(value: &Value) -> Result<String, Invalid> {
    let name = text(value)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=253).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name.to_owned());
    }
    Err(Invalid::new(
        "is not a name of the DNS",
        "use the characters A-Z a-z 0-9 . _ -",
    ))
}

/// A private key: RSA in PEM form (PKCS#1), or the 32 bytes of Ed25519 in base64.
fn signing_key(value: &Value) -> Result<DkimSigningKey, Invalid> {
    let key = SecretString::from(file(text(value)?)?);
    let key = key.expose_secret().trim();
    let algorithm = if key.starts_with("-----BEGIN") {
        DkimSigningAlgorithm::Rsa
    } else {
        DkimSigningAlgorithm::Ed25519
    };
    // The error says nothing about the key itself.
    DkimSigningKey::new(key, algorithm).map_err(|error| {
        Invalid::new(
            format!("has a key that cannot be used: {error}"),
            "use the output of `openssl genrsa -traditional 2048`, or the 32 bytes of an Ed25519 key in base64",
        )
    })
}

fn unsubscribe(fields: &mut Fields<'_>) -> Option<Unsubscribe> {
    let base = fields.optional("unsubscribe_url", |value| {
        let url = http_url(value)?;
        if url.len() > MAX_URL || url.contains(['?', '#']) || one_line(url) != url {
            let remedy = format!(
                "use the address of the preference pages, without what follows the path, of at most {MAX_URL} characters"
            );
            return Err(Invalid::new("cannot be the beginning of a link", remedy));
        }
        Ok(url.trim_end_matches('/').to_owned())
    });
    let keys = fields.optional("link_keys_env", |value| {
        let remedy = "set it to the keys with which the Config Database signs links";
        LinkKeys::parse(&secret_in(value)?).map_err(|problem| Invalid::new(problem, remedy))
    });
    let (url, env) = (
        fields.raw("unsubscribe_url").is_some(),
        fields.raw("link_keys_env").is_some(),
    );
    if url != env {
        let missing = if url {
            "link_keys_env"
        } else {
            "unsubscribe_url"
        };
        let remedy = "links that unsubscribe need both: where the preference pages are, and the keys that sign them";
        fields.complain(missing, Invalid::new("is missing", remedy));
    }
    Some(Unsubscribe {
        base: base?,
        keys: keys?,
    })
}
