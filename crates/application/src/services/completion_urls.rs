//! The addresses at which workers complete calls that wait. Who knows one may complete its call, so it carries a signature, and
//! a call has another one on each attempt.

use std::{fmt, sync::Arc};

use uuid::Uuid;

/// Characters of the id of a call in a token; its signature has as many.
const ID_CHARACTERS: usize = 32;

/// Signs the addresses of calls, and finds the call of an address. Clones share the key.
#[derive(Clone)]
pub struct CompletionUrls {
    key: [u8; 32],
    base: Option<Arc<str>>,
}

/// Without the key, which is a secret.
impl fmt::Debug for CompletionUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionUrls")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl CompletionUrls {
    /// Addresses below `base`, such as `https://punctual.example`, signed with this key. `None`: tokens are known, and there
    /// are no addresses.
    #[must_use]
    pub fn new(key: [u8; 32], base: Option<&str>) -> Self {
        Self {
            key,
            base: base.map(|base| base.trim_end_matches('/').into()),
        }
    }

    /// The address below which a call is completed; `None`: without a base.
    #[must_use]
    pub fn url(&self, call_id: Uuid) -> Option<Arc<str>> {
        let base = self.base.as_deref()?;
        Some(format!("{base}/api/v1/waiting/{}", self.token(call_id)).into())
    }

    /// A text of a worker, without the token of its call, which workers write with the address where they tell of a failure.
    #[must_use]
    pub(crate) fn without_token(&self, call_id: Uuid, text: &str) -> String {
        text.replace(&self.token(call_id), "[token]")
    }

    fn token(&self, call_id: Uuid) -> String {
        let (id, signature) = (call_id.simple(), self.signature(call_id).simple());
        format!("{id}{signature}")
    }

    /// The call that a token is of, in a time that does not depend on how much of its signature is right. `None`: it is not
    /// a token of this store.
    #[must_use]
    pub fn call_id(&self, token: &str) -> Option<Uuid> {
        if token.len() != 2 * ID_CHARACTERS {
            return None;
        }
        let (id, signature) = token.split_at_checked(ID_CHARACTERS)?;
        let call_id = Uuid::try_parse(id).ok()?;
        let signature = Uuid::try_parse(signature).ok()?;
        (widened(signature) == widened(self.signature(call_id))).then_some(call_id)
    }

    /// The first 16 bytes of a keyed hash.
    fn signature(&self, call_id: Uuid) -> Uuid {
        let hash = blake3::keyed_hash(&self.key, call_id.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hash.as_bytes()[..16]);
        Uuid::from_bytes(first)
    }
}

/// A signature as a hash, since hashes are compared in constant time.
fn widened(signature: Uuid) -> blake3::Hash {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(signature.as_bytes());
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(key: u8) -> CompletionUrls {
        CompletionUrls::new([key; 32], Some("https://punctual.example/"))
    }

    fn token(key: u8, call_id: Uuid) -> String {
        let url = urls(key).url(call_id).unwrap();
        let token = url.strip_prefix("https://punctual.example/api/v1/waiting/");
        token.unwrap().to_owned()
    }

    #[test]
    fn a_token_names_its_call_and_is_of_one_key() {
        let call_id = Uuid::new_v4();
        let token = token(1, call_id);
        assert_eq!(token.len(), 64);
        assert_eq!(urls(1).call_id(&token), Some(call_id));
        assert_eq!(urls(2).call_id(&token), None);
        assert_eq!(CompletionUrls::new([1; 32], None).url(call_id), None);
    }

    #[test]
    fn no_other_text_is_a_token() {
        let token = token(1, Uuid::new_v4());
        for place in 0..token.len() {
            let mut other = token.clone();
            let digit = if token.as_bytes()[place] == b'0' {
                "1"
            } else {
                "0"
            };
            other.replace_range(place..=place, digit);
            assert_eq!(urls(1).call_id(&other), None, "{place}");
            assert_eq!(urls(1).call_id(&token[..place]), None, "{place}");
        }
        // 64 bytes, with a character across the middle.
        let half = "a".repeat(31);
        let across = format!("{half}é{half}");
        for odd in ["", &across, &"é".repeat(32), &"-".repeat(64)] {
            assert_eq!(urls(1).call_id(odd), None, "{odd}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        let shown = format!("{:?}", urls(7));
        assert!(
            shown.contains("punctual.example") && !shown.contains('7'),
            "{shown}"
        );
    }
}
