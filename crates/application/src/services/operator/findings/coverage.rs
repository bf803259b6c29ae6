//! What an acknowledgement covers where a finding is about many, such as tenants: with fewer of them it still holds, with one
//! more it does not. They are kept as short hashes; of very many, only the number counts.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// With more, only their number is compared.
const MAX_HASHES: usize = 5_000;

/// What a finding is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    count: usize,
    /// How many more there are that have no name. Of them only the number is compared.
    nameless: usize,
    /// Of each, the beginning of its hash; empty for more than [`MAX_HASHES`].
    hashes: BTreeSet<u32>,
}

impl Coverage {
    /// Of `count` names.
    pub(super) fn of<'n>(count: usize, names: impl Iterator<Item = &'n str>) -> Self {
        let hash = |name: &str| {
            let [a, b, c, d, ..] = *blake3::hash(name.as_bytes()).as_bytes();
            u32::from_be_bytes([a, b, c, d])
        };
        let hashes = if count > MAX_HASHES {
            BTreeSet::new()
        } else {
            names.map(hash).collect()
        };
        Self {
            count,
            nameless: 0,
            hashes,
        }
    }

    /// The same, and so many that have no name.
    pub(super) fn and_nameless(mut self, nameless: usize) -> Self {
        self.nameless = nameless;
        self
    }

    /// Whether all of it is among what is `known`.
    pub(super) fn is_within(&self, known: &Self) -> bool {
        let named_within = if self.count.max(known.count) > MAX_HASHES {
            self.count <= known.count
        } else {
            self.hashes.is_subset(&known.hashes)
        };
        named_within && self.nameless <= known.nameless
    }
}

/// The numbers of those with and without a name, and the hashes: `2 0 0a1b2c3d4e5f6071`.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.count, self.nameless)?;
        self.hashes
            .iter()
            .try_for_each(|hash| write!(f, "{hash:08x}"))
    }
}

impl FromStr for Coverage {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (count, rest) = text.split_once(' ').ok_or(())?;
        let (nameless, hashes) = rest.split_once(' ').ok_or(())?;
        let hash = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).map_err(|_| ())?;
            u32::from_str_radix(digits, 16).map_err(|_| ())
        };
        Ok(Self {
            count: count.parse().map_err(|_| ())?,
            nameless: nameless.parse().map_err(|_| ())?,
            hashes: hashes
                .as_bytes()
                .chunks(8)
                .map(hash)
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Coverage {
        Coverage::of(names.len(), names.iter().copied())
    }

    #[test]
    fn fewer_are_covered_and_one_more_or_another_one_is_not() {
        let known = of(&["ann", "bob"]);
        for (names, covered) in [
            (&["ann", "bob"][..], true),
            (&["bob"][..], true),
            (&[][..], true),
            (&["ann", "eve"][..], false),
            (&["ann", "bob", "eve"][..], false),
        ] {
            assert_eq!(of(names).is_within(&known), covered, "{names:?}");
        }
        assert!(!of(&["ann"]).is_within(&Coverage::default()));
        assert!(Coverage::default().is_within(&Coverage::default()));
    }

    #[test]
    fn of_very_many_the_number_counts() {
        let many = |count| Coverage::of(count, std::iter::empty());
        assert!(many(9_000).is_within(&many(9_001)));
        assert!(!many(9_001).is_within(&many(9_000)));
        assert!(of(&["ann"]).is_within(&many(9_000)));
        assert!(!many(9_000).is_within(&of(&["ann"])));
    }

    #[test]
    fn of_those_without_a_name_the_number_counts() {
        let with = |nameless| of(&["ann"]).and_nameless(nameless);
        assert!(with(2).is_within(&with(2)));
        assert!(with(1).is_within(&with(2)));
        assert!(!with(3).is_within(&with(2)));
        assert!(!of(&["bob"]).and_nameless(1).is_within(&with(2)));
    }

    #[test]
    fn it_reads_back() {
        for coverage in [of(&[]), of(&["ann", "bob"]), of(&["ann"]).and_nameless(3)] {
            assert_eq!(coverage.to_string().parse(), Ok(coverage));
        }
        let many = Coverage::of(9_000, std::iter::empty());
        assert_eq!(many.to_string().parse(), Ok(many));
        for other in ["", "x 0 0a1b2c3d", "1 0a1b2c3d", "1 0 xyz"] {
            assert_eq!(other.parse::<Coverage>(), Err(()), "{other}");
        }
    }
}
