//! The one place where errors of a database become a [`StoreError`] with a kind.

use std::{error::Error, io};

use punctual_application::ports::{StoreError, StoreErrorKind, error_chain};
use punctual_domain::Chunk;
use sqlx::migrate::MigrateError;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// An error of a database, or of what was read from it. An error of any other origin, such as a text that is not
/// JSON, is taken for damage: it comes from reading what is stored.
pub(crate) fn failed(error: impl Into<BoxError>) -> StoreError {
    let error = error.into();
    StoreError::new(kind_of(error.as_ref()), error_chain(error.as_ref())).with_source(error)
}

/// Why the store at `place` cannot be opened.
pub(crate) fn cannot_open(place: &str, error: impl Into<BoxError>) -> StoreError {
    let error = failed(error);
    let message = format!("cannot open the store {place}: {error}");
    StoreError::new(error.kind(), message).with_source(error)
}

/// A dead letter that is to be replayed is settled already.
pub(crate) fn not_open() -> StoreError {
    let message = "a selected dead letter is no longer open; list the dead letters again";
    StoreError::new(StoreErrorKind::Conflict, message)
}

pub(crate) fn no_chunk(chunk: &Chunk) -> StoreError {
    let message = format!("chunk {} does not exist", chunk.chunk_id);
    StoreError::new(StoreErrorKind::NotFound, message)
}

/// The kind of the first error in the chain that has one, or belongs to a database or to the operating system.
fn kind_of(error: &(dyn Error + 'static)) -> StoreErrorKind {
    let chain = || std::iter::successors(Some(error), |error| (*error).source());
    let known = |error: &(dyn Error + 'static)| {
        let ours = error.downcast_ref::<StoreError>().map(StoreError::kind);
        let of_database = || error.downcast_ref().map(kind_of_sqlx);
        let of_system = || error.downcast_ref().map(kind_of_io);
        ours.or_else(of_database).or_else(of_system)
    };
    chain().find_map(known).unwrap_or_else(|| {
        if chain().any(<dyn std::error::Error + 'static>::is::<MigrateError>) {
            StoreErrorKind::Incompatible
        } else {
            StoreErrorKind::Corrupt
        }
    })
}

fn kind_of_io(error: &io::Error) -> StoreErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
        io::ErrorKind::PermissionDenied => StoreErrorKind::Denied,
        _ => StoreErrorKind::Unavailable,
    }
}

fn kind_of_sqlx(error: &sqlx::Error) -> StoreErrorKind {
    use sqlx::Error as E;
    match error {
        E::Database(error) => match error.code() {
            // SQLSTATE has five characters, a result code of SQLite at most four digits.
            Some(code) if code.len() == 5 => kind_of_sqlstate(&code),
            Some(code) => code
                .parse()
                .map_or(StoreErrorKind::Internal, kind_of_sqlite),
            None => StoreErrorKind::Internal,
        },
        E::Io(error) => kind_of_io(error),
        E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
            StoreErrorKind::Unavailable
        }
        E::Configuration(_) => StoreErrorKind::InvalidUrl,
        E::RowNotFound | E::ColumnDecode { .. } | E::Decode(_) => StoreErrorKind::Corrupt,
        E::ColumnNotFound(_) | E::ColumnIndexOutOfBounds { .. } | E::TypeNotFound { .. } => {
            StoreErrorKind::Incompatible
        }
        E::Migrate(_) => StoreErrorKind::Incompatible,
        _ => StoreErrorKind::Internal,
    }
}

/// <https://sqlite.org/rescode.html>: the low byte is the primary code.
fn kind_of_sqlite(code: u32) -> StoreErrorKind {
    match code & 0xff {
        // BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, CANTOPEN, PROTOCOL
        5 | 6 | 7 | 9 | 10 | 14 | 15 => StoreErrorKind::Unavailable,
        // PERM, AUTH
        3 | 23 => StoreErrorKind::Denied,
        // READONLY
        8 => StoreErrorKind::ReadOnly,
        // CORRUPT, NOTADB
        11 | 26 => StoreErrorKind::Corrupt,
        // FULL
        13 => StoreErrorKind::Full,
        _ => StoreErrorKind::Internal,
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>: the first two characters are the class.
fn kind_of_sqlstate(code: &str) -> StoreErrorKind {
    match code {
        "53100" => StoreErrorKind::Full,
        "25006" => StoreErrorKind::ReadOnly,
        "42501" => StoreErrorKind::Denied,
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        // Lock not available, database does not exist.
        "55P03" | "3D000" => StoreErrorKind::Unavailable,
        _ => match &code[..2] {
            // Connection, transaction ended (as in idle_in_transaction_session_timeout), rollback, resources, operator
            // intervention (shutdown, statement_timeout), system.
            "08" | "25" | "40" | "53" | "57" | "58" => StoreErrorKind::Unavailable,
            "28" => StoreErrorKind::Denied,
            // Undefined or other tables and columns.
            "3F" | "42" => StoreErrorKind::Incompatible,
            _ => StoreErrorKind::Internal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_databases_have_a_kind() {
        use StoreErrorKind as Kind;
        for (code, kind) in [
            (5, Kind::Unavailable),
            (13, Kind::Full),
            (8, Kind::ReadOnly),
            (2067, Kind::Internal),
        ] {
            assert_eq!(kind_of_sqlite(code), kind, "{code}");
        }
        for (code, kind) in [
            ("57P01", Kind::Unavailable),
            ("40P01", Kind::Unavailable),
            ("53100", Kind::Full),
            ("25006", Kind::ReadOnly),
            ("28P01", Kind::Denied),
            ("42P01", Kind::Incompatible),
            ("23505", Kind::Internal),
        ] {
            assert_eq!(kind_of_sqlstate(code), kind, "{code}");
        }
    }

    #[test]
    fn an_error_keeps_the_one_beneath_it_and_takes_its_kind() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = failed(sqlx::Error::Io(full));
        assert_eq!(error.kind(), StoreErrorKind::Full);
        let source = error.source().and_then(|source| source.downcast_ref());
        assert!(matches!(source, Some(sqlx::Error::Io(_))), "{source:?}");

        let migration = MigrateError::Execute(sqlx::Error::PoolTimedOut);
        let error = cannot_open("var/p.db", migration);
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        let error = cannot_open("var/p.db", MigrateError::VersionMissing(1));
        assert_eq!(error.kind(), StoreErrorKind::Incompatible);
        assert_eq!(failed("column x holds `y`").kind(), StoreErrorKind::Corrupt);
    }
}
