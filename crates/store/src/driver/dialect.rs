//! What differs between the databases in the text of a statement. In it, `@` marks
//!
//! - a table of ours: `@chunks` is `chunks`, `punctual_chunks` or `punctual.chunks`, as its [`Namespace`] says,
//! - `@now()`: microseconds since 1970 by the clock of the database,
//! - `@texts($1, item)`, `@integers($1, item)`: the values of a parameter as a table `item` with the column `value`,
//! - `@json($1, one)`: the elements of a JSON array, in the same way,
//! - `@in_texts(x, $1)`, `@in_integers(x, $1)`: whether a value is one of a parameter's, which are looked up in an index even
//!   where `PostgreSQL` takes the table for nearly empty, as it does with the newest runs,
//! - `@bytes(x)`: a text that is compared by its bytes, as we do, whatever the database's own order,
//! - `@json_list(x)`: the values of a group, as the text of a JSON array,
//! - `@greatest(a, b)`: the larger one; `@unhex(x)`: the bytes of a hexadecimal text,
//! - `@for_update(c)`: a lock on the rows of `c`, until the transaction ends; `@for_update_free(c)`: the same, without the rows that
//!   another transaction has locked,
//! - `@for_delete(c)`: a lock on the rows of `c` before they may be deleted, which waits for those who hold `@for_key_share(c)`: that
//!   they stay,
//! - `@lock($1)`: waits until no other transaction holds the lock of this name; `@try_lock($1)`: whether it is ours now.

use std::fmt;

use punctual_application::ports::{StoreError, StoreErrorKind};

/// Where the tables of Punctual stand in a database: in a schema of this name in `PostgreSQL`, and with this name and `_` before
/// theirs in `SQLite`. Empty: among all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new(name: &str) -> Result<Self, StoreError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = !name.starts_with(|c: char| c.is_ascii_digit());
        if name.len() <= 32 && begins && name.chars().all(plain) {
            return Ok(Self(name.to_owned()));
        }
        let message = format!(
            "invalid namespace `{name}`; use up to 32 of a-z, 0-9 and _, and no digit first"
        );
        Err(StoreError::new(StoreErrorKind::InvalidUrl, message))
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the name of a table.
    pub(crate) fn prefix(&self, separator: char) -> String {
        match self.0.as_str() {
            "" => String::new(),
            name => format!("{name}{separator}"),
        }
    }
}

/// Writes statements for one database.
pub(crate) struct Dialect {
    prefix: String,
    /// The text of a mark with an argument; `None` for one that is none.
    mark: fn(&str, &str) -> Option<String>,
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dialect").field(&self.prefix).finish()
    }
}

impl Dialect {
    pub(super) fn new(prefix: String, mark: fn(&str, &str) -> Option<String>) -> Self {
        Self { prefix, mark }
    }

    /// What stands before the name of a table.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The statement with its marks replaced.
    pub(crate) fn render(&self, sql: &str) -> String {
        let mut pieces = sql.split('@');
        let mut rendered = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            match self.call(piece) {
                Some((text, rest)) => rendered.extend([text.as_str(), rest]),
                None => rendered.extend([self.prefix.as_str(), piece]),
            }
        }
        rendered
    }

    /// The text of a mark that `piece` begins with, and what follows.
    fn call<'p>(&self, piece: &'p str) -> Option<(String, &'p str)> {
        let (name, rest) = piece.split_once('(')?;
        let mut depth = 1;
        let end = rest.find(|c| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        })?;
        let text = (self.mark)(name, &rest[..end])?;
        Some((text, &rest[end + 1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_tables_and_expressions() {
        let mark = |name: &str, argument: &str| (name == "now").then(|| format!("now<{argument}>"));
        let dialect = Dialect::new("p.".into(), mark);
        assert_eq!(
            dialect.render("SELECT @now(f(x)) FROM @a JOIN @b (c) WHERE (x)"),
            "SELECT now<f(x)> FROM p.a JOIN p.b (c) WHERE (x)"
        );
    }

    #[test]
    fn only_names_that_need_no_quotes_are_namespaces() {
        for good in ["", "punctual", "_a1"] {
            Namespace::new(good).unwrap();
        }
        for bad in ["1a", "a b", "a\"", "A", "ä", "a;", &"a".repeat(33)] {
            let error = Namespace::new(bad).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("a-z"), "{error}");
        }
    }
}
