//! `results`: what came of the items of a batch, or of a tenant.

use punctual_application::ports::StoredResult;
use punctual_domain::{ItemStatus, WaitingStatus};
use punctual_operations::model::{Results, Runs};
use serde_json::Value;

use super::Failure;
use crate::{
    cli::ResultsOptions,
    client::Client,
    output::{Cell, Table, Tone, View, cell, minute, say_json},
    settings::Settings,
};

/// Characters of an output that a table shows.
const LONGEST_OUTPUT: usize = 120;

pub(crate) async fn results(settings: &Settings, options: ResultsOptions) -> Result<(), Failure> {
    let status = options.status.map(|status| ("status", status.to_string()));
    let query = status.into_iter().collect();
    let client = Client::new(settings)?;
    // Of a large batch, a page is printed before the next one is read.
    let show = |results: Vec<StoredResult>| {
        if options.json {
            results.iter().for_each(say_json);
        } else if results.is_empty() {
            View::default().line("No results").print();
        } else {
            View::default().table(&table(&results)).print();
        }
    };
    match (options.batch, options.tenant) {
        (Some(batch), _) => {
            let path = format!("batches/{batch}/results");
            let entries = |page: Results| (page.results, page.next_cursor);
            client.pages(&path, query, entries, show).await
        }
        (None, Some(tenant)) => {
            let path = format!("tenants/{tenant}/runs");
            let entries = |page: Runs| (page.runs, page.next_cursor);
            client.pages(&path, query, entries, show).await
        }
        (None, None) => Err(Failure::bad_input("name a batch or a tenant")),
    }
}

fn table(results: &[StoredResult]) -> Table {
    let mut table = Table::new(["job and tenant", "due", "status", "result"]);
    for stored in results {
        table.row([
            cell(&stored.job_id).below(&stored.result.item_id),
            cell(minute(stored.scheduled_at)),
            status(stored.result.status),
            outcome(stored),
        ]);
    }
    table
}

fn status(status: ItemStatus) -> Cell {
    cell(status).toned(match status {
        ItemStatus::Succeeded => Tone::Good,
        ItemStatus::Failed => Tone::Bad,
        ItemStatus::Skipped => Tone::Warning,
        ItemStatus::NothingToDo | ItemStatus::Running | ItemStatus::Waiting => Tone::Plain,
    })
}

/// How long it waits, the error, or the beginning of what the handler returned: of a text, the text. Of two purposes, that of the first.
fn outcome(stored: &StoredResult) -> Cell {
    let result = &stored.result;
    if let Some(waiting) = &result.waiting {
        return so_far(waiting);
    }
    let text = match (&result.error, &result.output) {
        (Some(error), _) => error.clone(),
        (None, Some(output)) => match text_of(output) {
            Some(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            None => output.to_string(),
        },
        (None, None) => String::new(),
    };
    if text.chars().nth(LONGEST_OUTPUT).is_none() {
        return cell(text);
    }
    let beginning: String = text.chars().take(LONGEST_OUTPUT - 1).collect();
    cell(format!("{beginning}…"))
}

/// Until when an item waits, and how far its work has come.
pub(super) fn so_far(waiting: &WaitingStatus) -> Cell {
    let until = cell(format!("until {}", minute(waiting.until)));
    match &waiting.progress {
        Some(progress) => until.below(&progress.note),
        None => until,
    }
}

/// The text of a result: the handlers `template` and `chat` return one, also as the first of two purposes. Those of an embedder
/// return any JSON.
pub(crate) fn text_of(output: &Value) -> Option<&str> {
    let text = output
        .get("text")
        .or_else(|| output.get("written")?.get("text"));
    text?.as_str()
}
