//! Words: enums whose values have one word each, in files, tables and JSON.

/// A word that is not one of those expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} `{value}`; use one of {}", .expected.join(", "))]
pub struct InvalidWord {
    kind: &'static str,
    value: String,
    expected: &'static [&'static str],
}

impl InvalidWord {
    pub(crate) fn new(kind: &'static str, value: &str, expected: &'static [&'static str]) -> Self {
        let value = value.chars().take(40).flat_map(char::escape_debug);
        Self {
            kind,
            value: value.collect(),
            expected,
        }
    }
}

/// Gives an enum `WORDS` and `as_str`, and `Display` and `FromStr` in the same words.
macro_rules! words {
    ($name:ident, $kind:literal, $($variant:ident = $word:literal),+ $(,)?) => {
        impl $name {
            /// Every word, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in files, tables and JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::input::words::InvalidWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    other => Err(Self::Err::new($kind, other, Self::WORDS)),
                }
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use crate::Priority;

    #[test]
    fn a_word_is_read_as_it_is_written_and_any_other_is_refused_by_name() {
        let high: Priority = "high".parse().unwrap();
        assert_eq!((high, high.to_string().as_str()), (Priority::High, "high"));
        assert_eq!(
            "High\n".parse::<Priority>().unwrap_err().to_string(),
            "invalid priority `High\\n`; use one of low, medium, high, critical"
        );
    }
}
