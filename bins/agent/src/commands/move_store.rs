//! `punctual-agent move-store`: from the embedded store to `PostgreSQL`, without losing anything.

use punctual_application::ports::StoreError;
use punctual_store::{Store, transfer};
use serde_json::json;

use super::Failure;
use crate::{
    output::{View, show},
    settings::Settings,
    wiring::store_error,
};

pub(crate) async fn move_store(
    settings: &Settings,
    to: &str,
    as_json: bool,
) -> Result<(), Failure> {
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
    let refuse = |error: &StoreError, message: String| {
        if error.is_callers() {
            Failure::BadInput(message)
        } else {
            Failure::Failed(message)
        }
    };
    let cannot_open = |setting: &'static str| {
        move |error: StoreError| refuse(&error, store_error(&error, setting))
    };
    for (url, setting) in [(from.as_str(), "BATCH_STORE_URL"), (to, "--to")] {
        Store::open(url).await.map_err(cannot_open(setting))?;
    }
    let moved = transfer(from, to).await;
    let moved = moved.map_err(|error| refuse(&error, error.to_string()))?;
    let rows = moved
        .rows
        .iter()
        .map(|(table, rows)| json!({ "table": table, "rows": rows }));
    let document = json!({ "rows": rows.collect::<Vec<_>>(), "waiting": moved.waiting });
    show(as_json, &document, |_| {
        let mut view = View::default();
        for (table, rows) in &moved.rows {
            view = view.line(format!("{rows:>12} {table}"));
        }
        view.line(format!("{:>12} chunks waiting in the queue", moved.waiting))
            .line(
                "Start the agents with BATCH_STORE_URL set to the PostgreSQL database. The SQLite file is unchanged.",
            )
    });
    Ok(())
}
