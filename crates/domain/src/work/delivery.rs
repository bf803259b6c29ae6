//! Where a job's results go, beside the store: a file, a URL, an e-mail, or a sink of the program Punctual is embedded in.

use std::{fmt, mem};

use serde_json::{Map, Value, json};

use crate::{
    ids::PurposeId,
    input::{
        errors::{FieldErrors, Invalid},
        fields::{Fields, object_at},
        values::{parsed, text},
    },
    work::webhook::WebhookConfig,
};

/// One place to which the results of a job's batches are delivered, at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A file of JSON lines, which grows; from the folder of `batch_config.json`.
    File(String),
    /// A sink of the program's own, by its name.
    Sink(String),
    /// An e-mail with the result of all records, by this purpose.
    Email(PurposeId),
    /// A URL.
    Webhook {
        /// URL of the webhook, and how calls are signed.
        config: WebhookConfig,
        /// Whether every result is posted by itself; otherwise in parts of a batch.
        each: bool,
    },
}

impl Delivery {
    /// Reads one at `pointer`: `{"file": PATH}`, `{"sink": NAME}`, `{"email": PURPOSE}`, or
    /// `{"url": …, "per": "item"|"batch"}`.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(value: &Value, pointer: &str) -> Result<Self, FieldErrors> {
        let mut fields = Fields::new(object_at(value, pointer)?, pointer);
        if value.get("sink").is_some() {
            let sink = fields.required("sink", "give its name", text);
            fields.deny_others();
            return fields.finish(|| Some(Self::Sink(sink?.to_owned())));
        }
        if value.get("email").is_some() {
            let remedy = "name a purpose whose handler is `email`";
            let purpose = fields.required("email", remedy, parsed::<PurposeId>);
            fields.deny_others();
            return fields.finish(|| purpose.map(Self::Email));
        }
        if value.get("url").is_none() {
            let remedy = "add the path of a file of JSON lines, or a \"url\"";
            let file = fields.required("file", remedy, text);
            fields.deny_others();
            return fields.finish(|| Some(Self::File(file?.to_owned())));
        }
        let each = fields.optional("per", |value| match text(value)? {
            "item" => Ok(true),
            "batch" => Ok(false),
            _ => Err(Invalid::new(
                "is not a valid unit of delivery",
                "use item or batch",
            )),
        });
        let config = WebhookConfig::read(&mut fields);
        fields.deny_others();
        fields.finish(|| {
            Some(Self::Webhook {
                config: config?,
                each: each.unwrap_or(false),
            })
        })
    }

    /// Whether both are the same place: of one kind, and with one address. Timeout, secret and the like may differ.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) | (Self::Sink(one), Self::Sink(other)) => {
                one == other
            }
            (Self::Email(one), Self::Email(other)) => one == other,
            (Self::Webhook { config, .. }, Self::Webhook { config: other, .. }) => {
                config.url == other.url
            }
            _ => false,
        }
    }

    /// The place that takes over from this one in a job that delivers to `current` by now: one of the same kind to which none of
    /// `others`, the batch's own deliveries, goes. `None`: the job still delivers here, to no such place, or to several.
    #[must_use]
    pub fn successor<'d>(&self, current: &'d [Self], others: &[Self]) -> Option<&'d Self> {
        let is_in =
            |places: &[Self], place: &Self| places.iter().any(|one| one.is_same_place(place));
        if is_in(current, self) {
            return None;
        }
        let kind = mem::discriminant(self);
        let mut same = current
            .iter()
            .filter(|one| mem::discriminant(*one) == kind && !is_in(others, one));
        match (same.next(), same.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// As it is kept with a batch: [`parse`](Self::parse) reads it back.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::File(path) => json!({ "file": path }),
            Self::Sink(name) => json!({ "sink": name }),
            Self::Email(purpose) => json!({ "email": purpose }),
            Self::Webhook { config, each } => {
                let mut map = Map::new();
                let per = if *each { "item" } else { "batch" };
                map.insert("url".into(), json!(config.url));
                map.insert("per".into(), json!(per));
                map.insert("secret_env".into(), json!(config.secret_env));
                let timeout = config.timeout.as_millis() as u64;
                map.insert("timeout_ms".into(), json!(timeout));
                let private = config.allow_private_addresses;
                map.insert("allow_private_addresses".into(), json!(private));
                Value::Object(map)
            }
        }
    }
}

/// The place in words, such as `file out.ndjson`, `e-mail by weekly_mail` or `https://crm.example`. What may hold a secret is left
/// out of a URL.
impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {path}"),
            Self::Sink(name) => write!(f, "sink {name}"),
            Self::Email(purpose) => write!(f, "e-mail by {purpose}"),
            Self::Webhook { config, .. } => f.write_str(&without_secrets(&config.url)),
        }
    }
}

/// Scheme, host and port of a URL: its user, path, query and fragment may hold secrets. Empty for what is not a URL.
#[must_use]
pub fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return String::new();
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = authority.rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &authority[host..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            (
                "https://me:pw@crm.example:8443/hook?token=abc#x",
                "https://crm.example:8443",
            ),
            (
                "https://hooks.chat.example/services/T0/B0/s3cret",
                "https://hooks.chat.example",
            ),
            ("https://[::1]:8443/hook", "https://[::1]:8443"),
            ("s3cret", ""),
            ("https://crm.example?token=abc", "https://crm.example"),
            ("https://crm.example/a@b", "https://crm.example"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
        let file = Delivery::File("out.ndjson".into());
        assert_eq!(file.to_string(), "file out.ndjson");
        let email = Delivery::Email(PurposeId::new("mail_report").unwrap());
        assert_eq!(email.to_string(), "e-mail by mail_report");
    }

    #[test]
    fn a_place_is_followed_by_the_only_other_one_of_its_kind() {
        let file = |path: &str| Delivery::File(path.to_owned());
        let sink = Delivery::Sink("warehouse".to_owned());
        let (a, b, c) = (file("a"), file("b"), file("c"));
        let of = |current: &[Delivery], others: &[Delivery]| a.successor(current, others).cloned();
        let own = std::slice::from_ref(&a);
        assert_eq!(of(&[b.clone(), sink.clone()], own), Some(b.clone()));
        assert_eq!(of(&[b.clone(), a.clone()], own), None, "as before");
        assert_eq!(of(&[sink], own), None, "another kind");
        let two = [b.clone(), c.clone()];
        assert_eq!(of(&two, own), None, "which of them?");
        assert_eq!(
            of(&two, &[a.clone(), c]),
            Some(b),
            "the other one is served"
        );
        assert_eq!(of(&[], &[]), None);
    }

    #[test]
    fn a_place_is_the_same_with_another_secret_or_timeout() {
        let hook = |url: &str, secret: &str, timeout: u64| {
            let value = json!({"url": url, "secret_env": secret, "timeout_ms": timeout});
            Delivery::parse(&value, "").unwrap()
        };
        let own = hook("https://crm.example/results", "OLD_SECRET", 10);
        let same = hook("https://crm.example/results", "NEW_SECRET", 99);
        let other = hook("https://crm.example/other", "OLD_SECRET", 10);
        assert!(own.is_same_place(&same) && own != same);
        assert!(!own.is_same_place(&other));
        let (file, sink) = (Delivery::File("a".into()), Delivery::Sink("a".into()));
        assert!(file.is_same_place(&file) && !file.is_same_place(&sink));
        assert_eq!(own.successor(&[same.clone(), other.clone()], &[]), None);
        // One to which the batch goes with other settings already is none to go to.
        let third = hook("https://crm.example/third", "OLD_SECRET", 10);
        assert_eq!(
            third.successor(&[same, other.clone()], &[own]),
            Some(&other)
        );
    }

    #[test]
    fn what_is_kept_with_a_batch_reads_back() {
        for value in [
            json!({"file": "../out/results.ndjson"}),
            json!({"sink": "warehouse"}),
            json!({"email": "mail_report"}),
            json!({"url": "https://crm.example/results", "per": "item", "secret_env": "CRM_SECRET", "timeout_ms": 5}),
            json!({"url": "https://crm.example/results"}),
        ] {
            let delivery = Delivery::parse(&value, "").unwrap();
            assert_eq!(Delivery::parse(&delivery.to_json(), "").unwrap(), delivery);
        }
        for (value, expected) in [
            (json!({}), "/file: is missing"),
            (
                json!({"sink": "a", "file": "b"}),
                "/file: \"b\" is not a known field",
            ),
            (
                json!({"email": "a b"}),
                "/email: \"a b\" is not a valid purpose_id",
            ),
            (
                json!({"email": "a", "per": "item"}),
                "/per: \"item\" is not a known field",
            ),
            (
                json!({"file": "a", "per": "item"}),
                "/per: \"item\" is not a known field",
            ),
            (
                json!({"url": "https://x", "per": "day"}),
                "/per: \"day\" is not a valid unit of delivery",
            ),
        ] {
            let error = Delivery::parse(&value, "").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
