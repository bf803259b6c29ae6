//! What cookies of the page say, under a seal that only who knows a secret can make.

use chrono::{DateTime, Utc};
use punctual_application::Role;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// Makes and checks seals for one kind of cookie.
pub(crate) struct Seal([u8; 32]);

impl Seal {
    /// For the kind of cookie that `context` tells from all others.
    pub(crate) fn new(context: &str, secret: &[u8]) -> Self {
        Self(blake3::derive_key(context, secret))
    }

    fn of(&self, content: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.0, content.as_bytes())
    }

    /// `until.nonce.content.seal`, the first in seconds since 1970. `None`: the content cannot be written.
    pub(crate) fn token(&self, until: DateTime<Utc>, content: &impl Serialize) -> Option<String> {
        let content = to_hex(&serde_json::to_vec(content).ok()?);
        let nonce = Uuid::new_v4().simple();
        let content = format!("{}.{nonce}.{content}", until.timestamp());
        let seal = self.of(&content);
        Some(format!("{content}.{seal}"))
    }

    /// What a token says; `None`: it is not one of ours, or has ended by `now`.
    pub(crate) fn open<T: DeserializeOwned>(&self, token: &str, now: DateTime<Utc>) -> Option<T> {
        let (content, given) = token.rsplit_once('.')?;
        // Comparing two hashes takes the same time whatever they are.
        if blake3::Hash::from_hex(given).ok()? != self.of(content) {
            return None;
        }
        let (until, rest) = content.split_once('.')?;
        if until.parse::<i64>().ok()? <= now.timestamp() {
            return None;
        }
        let (_, content) = rest.split_once('.')?;
        serde_json::from_slice(&from_hex(content)?).ok()
    }
}

/// What tells a token from all others, and says nothing about who has it: `until.nonce`.
pub(crate) fn id_of(token: &str) -> &str {
    let second = token.match_indices('.').nth(1);
    second.map_or(token, |(at, _)| &token[..at])
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A text takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Who is signed in on the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Session {
    /// Who has the key of the configuration.
    Own,
    /// Who has the key with this hash, as long as it is active.
    Key { hash: String },
    /// Whom the identity provider has named.
    Oidc { name: String, role: Role },
}

/// A sign-in that has begun at the identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) state: String,
    pub(crate) nonce: String,
    /// The secret of PKCE.
    pub(crate) verifier: String,
    /// The page to go on to.
    pub(crate) next: String,
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn only_the_secret_makes_a_token_and_it_ends() {
        let (seal, other) = (Seal::new("a", &[1; 32]), Seal::new("a", &[2; 32]));
        let now: DateTime<Utc> = "2026-03-01T09:00:00Z".parse().unwrap();
        let until = now + TimeDelta::hours(12);
        let session = Session::Oidc {
            name: "Jürgen (OIDC)".to_owned(),
            role: Role::View,
        };
        let token = seal.token(until, &session).unwrap();
        let open = |seal: &Seal, token: &str, now| seal.open::<Session>(token, now);
        assert_eq!(open(&seal, &token, now), Some(session));
        assert_eq!(open(&other, &token, now), None);
        assert_eq!(open(&Seal::new("b", &[1; 32]), &token, now), None);
        assert_eq!(open(&seal, &token, until), None);
        let (begin, rest) = token.split_once('.').unwrap();
        let longer = format!("{}.{rest}", begin.parse::<i64>().unwrap() + 1);
        assert_eq!(open(&seal, &longer, now), None);
        for broken in ["", ".", "..", "...", "x.y.z", "9999999999.0.0"] {
            assert_eq!(open(&seal, broken, now), None, "{broken}");
        }
        // Another content under the same seal, as who has the cookie might try.
        let parts: Vec<&str> = token.split('.').collect();
        let more = to_hex(br#"{"oidc":{"name":"x","role":"administer"}}"#);
        let forged = format!("{}.{}.{more}.{}", parts[0], parts[1], parts[3]);
        assert_eq!(open(&seal, &forged, now), None);
    }

    #[test]
    fn the_id_of_a_token_says_neither_who_nor_holds_its_seal() {
        assert_eq!(id_of("1.a.b.c"), "1.a");
        assert_eq!(id_of("1.a"), "1.a");
        assert_eq!(id_of(""), "");
        assert_eq!(from_hex(&to_hex(b"a\xff.")), Some(b"a\xff.".to_vec()));
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("ä"), None);
    }
}
