//! `retention`: how long what has run is kept, and what would be removed now.

use punctual_application::{RetentionReport, amount, ports::Removable, size_in_words};

use super::Failure;
use crate::{
    client::Client,
    output::{Cell, Table, View, cell, instant, show},
    settings::Settings,
};

pub(crate) async fn retention(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let report: RetentionReport = Client::new(settings)?.get("retention", &[]).await?;
    show(as_json, &report, view);
    Ok(())
}

fn view(report: &RetentionReport) -> View {
    let mut table = Table::new([
        "job",
        "days for results",
        "days for failures",
        "removed up to",
        "would be removed now",
    ]);
    for job in &report.jobs {
        let removed_to = job.removed_to.map(|date| date.to_string());
        let name = cell(&job.job_id);
        let name = match job.source.in_words() {
            Some(words) => name.below(words),
            None => name,
        };
        table.row([
            name,
            cell(job.keep.results),
            cell(job.keep.failures),
            cell(removed_to.as_deref().unwrap_or("-")),
            kinds(&job.removable),
        ]);
    }
    let of_none = kinds(&report.removable);
    let usual = cell(report.keep_audit_log_days);
    table.row([cell("the audit log"), usual, cell("-"), cell("-"), of_none]);
    let (rows, bytes, oldest) = report.total();
    let mut view = View::default().table(&table).prose(match oldest {
        Some(oldest) => format!(
            "{} would be removed now, about {}; the oldest is of {}",
            amount(rows, "row"),
            size_in_words(bytes),
            instant(oldest)
        ),
        None => "Nothing would be removed now".to_owned(),
    });
    if let Some(begins_at) = report.begins_at {
        view = view.prose(format!(
            "Nothing is removed before {}. To keep more, set keep_results_days and keep_failures_days in the jobs before",
            instant(begins_at)
        ));
    }
    view
}

/// What would be removed, a kind on each line.
fn kinds(removable: &[Removable]) -> Cell {
    let mut lines = removable.iter().map(|one| {
        let kind = one.kind.as_str().replace('_', " ");
        format!("{} {kind}, about {}", one.rows, size_in_words(one.bytes))
    });
    let first = lines.next().unwrap_or_else(|| "-".to_owned());
    lines.fold(cell(first), Cell::below)
}
