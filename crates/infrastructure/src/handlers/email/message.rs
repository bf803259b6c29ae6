//! The e-mail: headers, texts and pictures, signed by DKIM where a key is given.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    message::{
        Attachment, DkimConfig, Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};
use punctual_application::ports::HandlerError;
use punctual_links::ONE_CLICK;

/// Characters of a subject, and of the name of a recipient, at most: mail programs show fewer.
pub(super) const MAX_SUBJECT: usize = 250;
pub(super) const MAX_NAME: usize = 100;

/// What all e-mails of a purpose have in common.
pub(super) struct Sender {
    pub(super) from: Mailbox,
    pub(super) reply_to: Option<Mailbox>,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) images: Vec<Image>,
    pub(super) dkim: Option<DkimConfig>,
}

/// A picture that the HTML shows as `cid:NAME`: the part of an e-mail, encoded once for all e-mails of its purpose.
pub(super) struct Image {
    /// Bytes of the picture itself.
    pub(super) bytes: usize,
    part: SinglePart,
}

impl Image {
    pub(super) fn new(name: &str, content_type: ContentType, content: Vec<u8>) -> Self {
        Self {
            bytes: content.len(),
            part: Attachment::new_inline(name.to_owned()).body(content, content_type),
        }
    }

    /// The part as it stands in every e-mail.
    #[cfg(test)]
    pub(super) fn encoded(&self) -> &[u8] {
        self.part.raw_body()
    }
}

/// What differs from one e-mail to the next.
pub(super) struct Parts {
    pub(super) subject: String,
    pub(super) text: Option<String>,
    pub(super) html: Option<String>,
    /// Address that unsubscribes.
    pub(super) unsubscribe: Option<String>,
}

/// An e-mail as it is handed in.
pub(super) struct Envelope {
    pub(super) message_id: String,
    pub(super) envelope: lettre::address::Envelope,
    pub(super) content: Vec<u8>,
}

impl Sender {
    /// The e-mail of the item with this idempotency key, sent at `now`.
    ///
    /// # Errors
    /// It cannot be put together.
    pub(super) fn message(
        &self,
        key: &str,
        now: DateTime<Utc>,
        to: Mailbox,
        parts: Parts,
    ) -> Result<Envelope, HandlerError> {
        let unusable = |error: lettre::error::Error| HandlerError::permanent(error.to_string());
        let (from, recipient): (Address, Address) = (self.from.email.clone(), to.email.clone());
        let message_id = message_id(key, from.domain());
        // Given rather than taken from the headers, where a name could pass for an address.
        let envelope = lettre::address::Envelope::new(Some(from), vec![recipient]);
        let envelope = envelope.map_err(unusable)?;
        let mut builder = Message::builder()
            .envelope(envelope.clone())
            .message_id(Some(message_id.clone()))
            .date(SystemTime::from(now))
            .from(self.from.clone())
            .to(to)
            .subject(parts.subject);
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        for (name, value) in &self.headers {
            builder = builder.raw_header(HeaderValue::new(name.clone(), value.clone()));
        }
        if let Some(url) = &parts.unsubscribe {
            for (name, value) in [
                ("List-Unsubscribe", format!("<{url}>")),
                ("List-Unsubscribe-Post", ONE_CLICK.to_owned()),
            ] {
                let name = HeaderName::new_from_ascii_str(name);
                builder = builder.raw_header(HeaderValue::new(name, value));
            }
        }
        let message = match (parts.text, parts.html) {
            (Some(text), Some(html)) => {
                let both = MultiPart::alternative().singlepart(SinglePart::plain(text));
                builder.multipart(match self.html(html) {
                    Html::Alone(html) => both.singlepart(html),
                    Html::WithImages(html) => both.multipart(html),
                })
            }
            (None, Some(html)) => match self.html(html) {
                Html::Alone(html) => builder.singlepart(html),
                Html::WithImages(html) => builder.multipart(html),
            },
            (text, None) => builder.singlepart(SinglePart::plain(text.unwrap_or_default())),
        };
        let mut message = message.map_err(unusable)?;
        if let Some(dkim) = &self.dkim {
            message.sign(dkim);
        }
        Ok(Envelope {
            message_id,
            envelope,
            content: message.formatted(),
        })
    }

    fn html(&self, html: String) -> Html {
        let html = SinglePart::html(html);
        if self.images.is_empty() {
            return Html::Alone(html);
        }
        let related = MultiPart::related().singlepart(html);
        Html::WithImages(self.images.iter().fold(related, |related, image| {
            related.singlepart(image.part.clone())
        }))
    }
}

enum Html {
    Alone(SinglePart),
    WithImages(MultiPart),
}

/// The same for all attempts at an item. The key is hashed: it holds ids, and may have characters that do not belong there.
fn message_id(key: &str, domain: &str) -> String {
    let hash = blake3::hash(key.as_bytes()).to_hex();
    format!("<{}@{domain}>", &hash[..40])
}

/// The text in one line without characters that are not shown: whatever a tenant has written, it can end no header.
pub(super) fn one_line(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !is_hidden(*c))
        .collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Control characters, and those that set the direction of writing.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_no_header_and_hides_nothing() {
        for (text, line) in [
            ("  Your week\n", "Your week"),
            ("a\r\nBcc: eve@evil.example", "a Bcc: eve@evil.example"),
            ("a\u{2028}b\u{85}c\td", "a b c d"),
            ("a\0b\u{1b}[2Jc\u{7f}", "ab[2Jc"),
            ("\u{202e}evil\u{202c} Grüße 日本語", "evil Grüße 日本語"),
            ("\r\n\r\n", ""),
        ] {
            assert_eq!(one_line(text), line, "{text:?}");
        }
    }

    #[test]
    fn a_message_id_is_of_the_key_and_the_domain_of_the_sender() {
        let id = message_id("news/ann/2026-03-01", "shop.example");
        assert_eq!(id, message_id("news/ann/2026-03-01", "shop.example"));
        assert_ne!(id, message_id("news/ann/2026-03-02", "shop.example"));
        let (hash, domain) = id[1..id.len() - 1].split_once('@').unwrap();
        assert!(hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(domain, "shop.example");
    }
}
