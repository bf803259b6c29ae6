//! Addresses that e-mails are sent to. They come from tenants, so they are read strictly: what an SMTP server, or a header of
//! an e-mail, could take for more than one address, or for anything else, is refused.

use std::{fmt, str::FromStr};

use icu_normalizer::ComposingNormalizerBorrowed;
use serde::{Deserialize, Serialize};

use crate::input::{errors::Invalid, text::visible};

/// Longest address, and longest part before the `@`, in bytes (RFC 5321).
const MAX_LENGTH: usize = 254;
const MAX_LOCAL_LENGTH: usize = 64;
/// Longest label of a domain, in bytes.
const MAX_LABEL_LENGTH: usize = 63;
/// Characters of a refused address that its error shows.
const SHOWN: usize = 60;
const EXPECTED: &str = "use an address such as `ann@shop.example`";

/// An address such as `ann@shop.example`.
///
/// The domain is in lower case, the part before the `@` is as it was given; [`key`](Self::key) compares addresses. Letters and
/// digits of any script are taken on both sides, and it is up to the server whether it delivers there. Quoted parts
/// (`"a b"@shop.example`), comments, display names, addresses of hosts (`ann@[192.0.2.1]`) and names without a dot
/// (`root@localhost`) are not taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress {
    text: String,
    /// Place of the `@`.
    at: usize,
}

/// Text that is not an [`EmailAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a valid e-mail address: {problem}; {EXPECTED}")]
pub struct InvalidEmailAddress {
    shown: String,
    problem: &'static str,
}

impl InvalidEmailAddress {
    /// What is wrong with it, without the address itself, which may be personal data.
    #[must_use]
    pub fn problem(&self) -> &'static str {
        self.problem
    }
}

impl From<InvalidEmailAddress> for Invalid {
    fn from(error: InvalidEmailAddress) -> Self {
        Invalid::new(
            format!("is not a valid e-mail address: {}", error.problem),
            EXPECTED,
        )
    }
}

impl EmailAddress {
    /// The part before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The part after the `@`, in lower case.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What equal addresses have in common: the part before the `@` in lower case and in the form NFC of Unicode, as RFC 6532
    /// asks for, and the ASCII form of the domain (`xn--…`). Servers that tell `Ann` from `ann` hardly exist.
    ///
    /// Letters that only look alike (`а` of Cyrillic, `ａ` of full width) are other letters for a server, and so they are here:
    /// who suppresses one of two such mailboxes has not suppressed the other.
    #[must_use]
    pub fn key(&self) -> String {
        let local = self.local().to_lowercase();
        let local = ComposingNormalizerBorrowed::new_nfc().normalize(&local);
        let domain = idna::domain_to_ascii(self.domain());
        let domain = domain.as_deref().unwrap_or(self.domain());
        format!("{local}@{domain}")
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (local, domain) = text.split_once('@').ok_or("it has no `@`")?;
        let domain = domain.to_lowercase();
        // Counted now: some letters have more bytes in lower case, and what is stored is read again.
        if local.len() + 1 + domain.len() > MAX_LENGTH {
            return Err("it has more than 254 bytes");
        }
        check_local(local)?;
        check_domain(&domain)?;
        Ok(Self {
            at: local.len(),
            text: format!("{local}@{domain}"),
        })
    }
}

fn check_local(local: &str) -> Result<(), &'static str> {
    let allowed = |c: char| match c {
        '.' => true,
        c if c.is_ascii() => c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c),
        c => c.is_alphanumeric(),
    };
    if local.is_empty() {
        Err("nothing is before the `@`")
    } else if local.len() > MAX_LOCAL_LENGTH {
        Err("the part before the `@` has more than 64 bytes")
    } else if !local.chars().all(allowed) {
        Err("the part before the `@` has a character that is not allowed there")
    } else if local.split('.').any(str::is_empty) {
        Err("the part before the `@` begins or ends with a dot, or has two in a row")
    } else {
        Ok(())
    }
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c == '-' || c.is_alphanumeric();
    let usable = |label: &str| {
        (1..=MAX_LABEL_LENGTH).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = domain.rsplit('.').next().unwrap_or_default();
    if !domain.split('.').all(usable) {
        Err("the domain after the `@` is not a domain")
    } else if last == domain {
        Err("the domain after the `@` has no dot")
    } else if last.bytes().all(|b| b.is_ascii_digit()) {
        Err("a number is not the name of a domain")
    } else {
        Ok(())
    }
}

impl FromStr for EmailAddress {
    type Err = InvalidEmailAddress;

    fn from_str(text: &str) -> Result<Self, InvalidEmailAddress> {
        Self::parse(text).map_err(|problem| {
            let shown: String = text.chars().take(SHOWN).collect();
            InvalidEmailAddress {
                shown: visible(&shown).into_owned(),
                problem,
            }
        })
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = InvalidEmailAddress;

    fn try_from(text: String) -> Result<Self, InvalidEmailAddress> {
        text.parse()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.text
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> EmailAddress {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_keeps_its_local_part_and_has_one_domain() {
        let ann = address("Ann.Lee+shop@Shop.EXAMPLE");
        assert_eq!(ann.as_str(), "Ann.Lee+shop@shop.example");
        assert_eq!(
            (ann.local(), ann.domain()),
            ("Ann.Lee+shop", "shop.example")
        );
        assert_eq!(ann.key(), address("ann.lee+SHOP@shop.example").key());
        for text in [
            "a@b.co",
            "o'hara/sales=eu@mail.shop.example",
            "用户@例子.广告",
            "jürgen@münchen.example",
            "a@xn--mnchen-3ya.example",
            &format!("{}@shop.example", "a".repeat(64)),
        ] {
            assert_eq!(address(text).as_str(), text);
        }
        // A domain has two ways to be written.
        assert_eq!(
            address("Jürgen@MÜNCHEN.example").key(),
            address("jürgen@xn--mnchen-3ya.example").key()
        );
    }

    #[test]
    fn one_mailbox_has_one_key_however_its_letters_are_encoded() {
        for (one, other) in [
            // A syllable, and its two letters.
            ("\u{ac00}@shop.example", "\u{1100}\u{1161}@shop.example"),
            // Letters that Unicode has twice.
            ("\u{212b}sa@shop.example", "\u{e5}sa@shop.example"),
            ("\u{212a}im@shop.example", "kim@shop.example"),
            ("\u{f900}@shop.example", "\u{8c48}@shop.example"),
            // IDNA makes one domain of these.
            ("ann@\u{ff53}hop.example", "ann@shop.example"),
        ] {
            assert_eq!(address(one).key(), address(other).key(), "{one} {other}");
        }
        // These look alike, and are other mailboxes.
        for alike in ["\u{430}nn@shop.example", "\u{ff41}nn@shop.example"] {
            let ann = address("ann@shop.example");
            assert_ne!(address(alike).key(), ann.key(), "{alike}");
        }
    }

    #[test]
    fn what_could_be_more_than_one_address_or_a_header_is_refused() {
        let long = format!("{}@shop.example", "a".repeat(1_000));
        let long_local = format!("{}@shop.example", "a".repeat(65));
        let long_label = format!("a@{}.example", "b".repeat(64));
        // 224 bytes as it stands, and 329 in lower case.
        let long_in_lower_case = format!("a@{}example", format!("{}.", "Ⱥ".repeat(21)).repeat(5));
        for text in [
            "",
            "ann",
            "@shop.example",
            "ann@",
            "ann@@shop.example",
            "ann@shop.example\r\nBcc: eve@evil.example",
            "ann@shop.example\nRCPT TO:<eve@evil.example>",
            "ann\r\n@shop.example",
            "ann@shop.example, eve@evil.example",
            "ann,eve@evil.example",
            "ann@shop.example;eve@evil.example",
            "ann@shop.example eve@evil.example",
            "<ann@shop.example>",
            "Ann <ann@shop.example>",
            "ann@shop.example>",
            "\"ann\"@shop.example",
            "\"a b\"@shop.example",
            "ann(comment)@shop.example",
            "ann@[192.0.2.1]",
            "ann@192.0.2.1",
            "ann@localhost",
            "ann@shop",
            "ann@.example",
            "ann@shop..example",
            "ann@shop.example.",
            "ann@-shop.example",
            "ann@shop-.example",
            "ann@shop_a.example",
            ".ann@shop.example",
            "ann.@shop.example",
            "a..n@shop.example",
            " ann@shop.example",
            "ann@shop.example ",
            "ann\t@shop.example",
            "ann\0@shop.example",
            "ann@evil.example%00@shop.example",
            // Characters that some program may take for an `@`, a comma, a space or nothing.
            "ann\u{ff20}shop.example",
            "ann@shop.example\u{ff0c}eve@evil.example",
            "ann\u{200b}@shop.example",
            "ann\u{202e}@shop.example",
            "ann\u{a0}@shop.example",
            "ann@shop\u{3002}example",
            long.as_str(),
            long_local.as_str(),
            long_label.as_str(),
            long_in_lower_case.as_str(),
        ] {
            let error = text.parse::<EmailAddress>().unwrap_err();
            let said = error.to_string();
            assert!(
                said.contains(error.problem()) && !said.contains('\n'),
                "{said}"
            );
            assert!(said.len() < 400, "{said}");
        }
    }

    #[test]
    fn json_is_read_as_strictly() {
        let read = |text: &str| serde_json::from_str::<EmailAddress>(text);
        assert_eq!(read("\"a@B.example\"").unwrap().as_str(), "a@b.example");
        let error = read("\"a b\"").unwrap_err().to_string();
        assert!(
            error.contains("`a b` is not a valid e-mail address"),
            "{error}"
        );
    }
}
