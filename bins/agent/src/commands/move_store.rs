//! `punctual-agent move-store`: from the embedded store to PostgreSQL, without losing anything.

use punctual_application::ports::StoreError;
use punctual_infrastructure::{PostgresStore, SqliteStore, transfer};

use super::Failure;
use crate::settings::Settings;

pub(crate) async fn move_store(settings: &Settings, to: &str) -> Result<(), Failure> {
    let from = &settings.batch_store_url;
    let file = from
        .strip_prefix("sqlite:")
        .map(|path| path.trim_start_matches("//"));
    // Opening would make an empty one.
    if !file.is_some_and(|path| std::path::Path::new(path).is_file()) {
        return Err(Failure::bad_input(format!(
            "BATCH_STORE_URL names a SQLite store that does not exist: {file:?}; set it to the \
             store to copy, e.g. sqlite://var/punctual.db"
        )));
    }
    let refuse = |error: StoreError| match error.is_callers() {
        true => Failure::bad_input(error),
        false => Failure::failed(error),
    };
    let source = SqliteStore::open(from).await.map_err(refuse)?;
    let target = PostgresStore::open(to).await.map_err(|error| {
        let message = error.to_string().replace("BATCH_STORE_URL", "--to");
        match error.is_callers() {
            true => Failure::bad_input(message),
            false => Failure::failed(message),
        }
    })?;
    let moved = transfer(&source, &target).await.map_err(refuse)?;
    for (table, rows) in &moved.rows {
        println!("{rows:>12} {table}");
    }
    println!("{:>12} chunks waiting in the queue", moved.waiting);
    println!(
        "Start the agents with BATCH_STORE_URL set to the PostgreSQL database. The SQLite file is unchanged."
    );
    Ok(())
}
