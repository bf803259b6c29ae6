//! The keys that sign links, each with an id, so that a new one can take the place of an old one without a link that stops
//! working.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// Characters of a secret at least: with fewer, one link is enough to try secrets elsewhere until one fits.
const MIN_SECRET_LENGTH: usize = 32;
/// Keys at most.
const MAX_KEYS: usize = 20;

/// Keys that sign links. The first one signs, all are accepted.
#[derive(Debug, Clone)]
pub struct LinkKeys(Arc<[LinkKey]>);

#[derive(Debug, Clone)]
pub(super) struct LinkKey {
    pub(super) id: String,
    pub(super) secret: SecretString,
}

impl LinkKeys {
    /// Reads keys as `id:secret`, with commas between.
    ///
    /// # Errors
    /// What is wrong with which key, without its secret.
    pub fn parse(text: &SecretString) -> Result<Self, String> {
        let mut keys: Vec<LinkKey> = Vec::new();
        for (entry, number) in text.expose_secret().split(',').zip(1..) {
            if number > MAX_KEYS {
                return Err(format!("has more than {MAX_KEYS} keys; remove old ones"));
            }
            // What is before the colon is not shown before it is known to be an id: it may be a secret.
            let (id, secret) = entry.trim().split_once(':').ok_or_else(|| {
                format!("has a key without an id, number {number}; write each key as `id:secret`")
            })?;
            if !is_id(id) {
                return Err(format!(
                    "has a key whose id is not valid, number {number}; use 1 to 32 of the characters A-Z a-z 0-9 _ -"
                ));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(format!(
                    "has two keys with the id `{id}`; give each its own"
                ));
            }
            if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!(
                    "has a key `{id}` with other characters than ASCII letters, digits and signs; use the output of \
                     `openssl rand -base64 32`"
                ));
            }
            if secret.len() < MIN_SECRET_LENGTH {
                return Err(format!(
                    "has a key `{id}` with {} characters; use at least {MIN_SECRET_LENGTH} random ones, such as the \
                     output of `openssl rand -base64 32`",
                    secret.len()
                ));
            }
            keys.push(LinkKey {
                id: id.to_owned(),
                secret: secret.into(),
            });
        }
        Ok(Self(keys.into()))
    }

    /// One key.
    #[must_use]
    pub fn one(id: &str, secret: SecretString) -> Self {
        let id = id.to_owned();
        Self([LinkKey { id, secret }].into())
    }

    /// The key that signs.
    pub(super) fn signing(&self) -> &LinkKey {
        // Splitting a text gives one part at least.
        &self.0[0]
    }

    pub(super) fn with_id(&self, id: &str) -> Option<&LinkKey> {
        self.0.iter().find(|key| key.id == id)
    }
}

fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=32).contains(&id.len()) && id.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_ids_and_long_secrets_and_errors_do_not_show_them() {
        let secret = "canary-0123456789-0123456789-abcd";
        let parse = |text: &str| LinkKeys::parse(&SecretString::from(text));
        let keys = parse(&format!("new:{secret}, old:{secret}=")).unwrap();
        assert_eq!(keys.signing().id, "new");
        assert!(keys.with_id("old").is_some() && keys.with_id("other").is_none());
        assert!(!format!("{keys:?}").contains("canary"));
        let colons = parse(&format!("a:{secret}:b")).unwrap();
        assert!(colons.signing().secret.expose_secret().ends_with(":b"));
        for (text, problem) in [
            (String::new(), "without an id, number 1"),
            (secret.to_owned(), "without an id, number 1"),
            (format!("a:{secret},{secret}"), "without an id, number 2"),
            (format!("{secret}:x"), "id is not valid, number 1"),
            (format!(":{secret}"), "id is not valid, number 1"),
            (
                format!("a:{secret},a:{secret}x"),
                "two keys with the id `a`",
            ),
            ("a:canary".to_owned(), "`a` with 6 characters"),
            (format!("a:{secret} {secret}"), "other characters"),
            (format!("a:{secret}\u{e9}"), "other characters"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let many: Vec<String> = (0..=MAX_KEYS).map(|n| format!("k{n}:{secret}")).collect();
        assert!(parse(&many.join(",")).unwrap_err().contains("more than 20"));
    }
}
