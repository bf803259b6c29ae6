//! Fingerprints: what was prepared for a run fits it as long as both have the same one.

use std::{fmt, num::ParseIntError, str::FromStr};

/// What tells the parameters of an item's run from others: what was prepared fits the run as long as both have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// The fingerprint with these bytes of a hash.
    #[must_use]
    pub fn new(hash: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(hash))
    }

    /// Its first 16 hexadecimal digits.
    #[must_use]
    pub fn short(self) -> String {
        format!("{:016x}", self.0 >> 64)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_fingerprint_reads_back_and_begins_with_its_short_form(hash: [u8; 16]) {
            let fingerprint = Fingerprint::new(hash);
            let text = fingerprint.to_string();
            prop_assert_eq!(text.len(), 32);
            prop_assert_eq!(text.parse::<Fingerprint>(), Ok(fingerprint));
            prop_assert!(text.starts_with(&fingerprint.short()));
        }
    }
}
