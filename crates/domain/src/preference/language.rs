//! The languages of texts that people read.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest tag, in bytes.
const LONGEST: usize = 35;
/// Characters of a text that an error shows.
const SHOWN: usize = 40;

/// A language as an IETF tag (BCP 47), such as `de` or `pt-BR`: a language of two or three letters, and subtags of up to
/// eight letters and digits. At most 35 bytes; which languages there are is not checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LanguageTag(String);

/// A text that is not a language tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid language tag \"{value}\"; expected one such as `de` or `pt-BR`")]
pub struct InvalidLanguageTag {
    /// Its first 40 characters, escaped.
    value: String,
}

impl LanguageTag {
    /// The tag as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What `text` finds for the one of these tags that suits a reader of `language` best: the tag itself, in any case, else a more
    /// general one (`de` for `de-AT`), else one of the same language (`de-CH` for `de-AT`). A tag for which it finds nothing is
    /// passed over.
    pub fn best<'t, T>(
        tags: impl Iterator<Item = &'t str> + Clone,
        language: &str,
        text: impl Fn(&'t str) -> Option<T>,
    ) -> Option<T> {
        let mut range = language;
        loop {
            let mut same = tags.clone().filter(|tag| tag.eq_ignore_ascii_case(range));
            if let Some(found) = same.find_map(&text) {
                return Some(found);
            }
            match range.rsplit_once('-') {
                Some((general, _)) => range = general,
                None => break,
            }
        }
        let of_language = |tag: &&str| {
            let own = tag.split('-').next();
            own.is_some_and(|own| own.eq_ignore_ascii_case(range))
        };
        tags.filter(of_language).find_map(&text)
    }
}

impl FromStr for LanguageTag {
    type Err = InvalidLanguageTag;

    fn from_str(tag: &str) -> Result<Self, InvalidLanguageTag> {
        let mut parts = tag.split('-');
        let language = parts.next().unwrap_or_default();
        let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphabetic());
        let others = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let valid = (2..=3).contains(&language.len()) && letters(language) && parts.all(others);
        if valid && tag.len() <= LONGEST {
            Ok(Self(tag.to_owned()))
        } else {
            let shown = tag.chars().take(SHOWN);
            Err(InvalidLanguageTag {
                value: shown.flat_map(char::escape_debug).collect(),
            })
        }
    }
}

impl TryFrom<String> for LanguageTag {
    type Error = InvalidLanguageTag;

    fn try_from(tag: String) -> Result<Self, InvalidLanguageTag> {
        tag.parse()
    }
}

impl From<LanguageTag> for String {
    fn from(tag: LanguageTag) -> Self {
        tag.0
    }
}

impl fmt::Display for LanguageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_language_and_subtags() {
        for tag in ["de", "fil", "pt-BR", "es-419", "zh-Hant-TW", "de-u-hc-h12"] {
            assert_eq!(tag.parse::<LanguageTag>().unwrap().as_str(), tag);
        }
        let long = "de-".to_owned() + &"abcdefgh-".repeat(4) + "x";
        for tag in [
            "",
            "d",
            "german",
            "d3",
            "de_AT",
            "de-",
            "de--AT",
            "de-abcdefghi",
            "de-ä",
            "*",
            &long,
        ] {
            assert!(tag.parse::<LanguageTag>().is_err(), "{tag}");
        }
    }

    #[test]
    fn an_error_quotes_the_text_and_cuts_it() {
        for (text, quoted) in [
            ("german".to_owned(), "german".to_owned()),
            ("\"\n\u{202e}".to_owned(), r#"\"\n\u{202e}"#.to_owned()),
            ("x".repeat(10_000), "x".repeat(40)),
        ] {
            let error = text.parse::<LanguageTag>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("invalid language tag \"{quoted}\"; expected one such as `de` or `pt-BR`")
            );
        }
    }
}
