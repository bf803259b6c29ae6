//! `quarantine`, `deliveries` and `audit-log`.

use punctual_application::ports::DeliveryState;
use punctual_domain::TenantId;
use punctual_operations::model::{AuditLog, Deliveries, Quarantine};

use super::Failure;
use crate::{
    cli::AuditLogOptions,
    client::Client,
    output::{Cell, Table, Tone, View, cell, instant, print_line, show},
    settings::Settings,
};

pub(crate) async fn quarantine(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let answer: Quarantine = Client::new(settings)?.get("quarantine", &[]).await?;
    show(as_json, &answer, |answer| {
        if answer.quarantine.is_empty() {
            return View::default().line("Every preference can be used");
        }
        let mut table = Table::new(["job and tenant", "field", "problem"]);
        for entry in &answer.quarantine {
            let tenant = entry.tenant_id.as_ref().map_or("-", TenantId::as_str);
            for error in &entry.errors.0 {
                let value = error.value.as_ref().map(|value| format!("{value} "));
                let (problem, remedy) = (&error.problem, &error.remedy);
                table.row([
                    cell(&entry.job_id).below(tenant),
                    cell(&error.pointer),
                    cell(format!("{}{problem}; {remedy}", value.unwrap_or_default())),
                ]);
            }
        }
        View::default().table(&table).prose(format!(
            "{} preferences cannot be used or read",
            answer.count
        ))
    });
    Ok(())
}

pub(crate) async fn deliveries(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let failed = [("failed", "true".to_owned())];
    let answer: Deliveries = Client::new(settings)?.get("deliveries", &failed).await?;
    show(as_json, &answer, |answer| {
        if answer.deliveries.is_empty() {
            return View::default().line("No delivery fails");
        }
        let mut table = Table::new(["job and place", "state", "next try", "reason"]);
        for failing in &answer.deliveries {
            let state: Cell = if failing.state == DeliveryState::GivenUp {
                cell("given up").toned(Tone::Bad)
            } else {
                cell("retrying").toned(Tone::Warning)
            };
            table.row([
                cell(&failing.job_id).below(&failing.target),
                state,
                cell(failing.next_try.map_or_else(|| "-".to_owned(), instant)),
                cell(failing.reason.as_deref().unwrap_or("-")),
            ]);
        }
        View::default().table(&table)
    });
    Ok(())
}

pub(crate) async fn audit_log(
    settings: &Settings,
    options: AuditLogOptions,
) -> Result<(), Failure> {
    let entries = |page: AuditLog| (page.entries, page.next_cursor);
    let client = Client::new(settings)?;
    if options.export {
        let mut query = vec![("format", "ndjson".to_owned())];
        query.extend(options.since.map(|date| ("since", date.to_string())));
        return client
            .lines("audit-log", &query, |line| print_line(line))
            .await;
    }
    let (entries, more) = client
        .first("audit-log", vec![], options.limit, entries)
        .await?;
    let log = AuditLog {
        entries,
        next_cursor: None,
    };
    show(options.json, &log, |log| {
        if log.entries.is_empty() {
            return View::default().line("No actions yet");
        }
        let mut table = Table::new(["time", "action", "subject", "by"]);
        for entry in &log.entries {
            table.row([
                cell(instant(entry.at)),
                cell(&entry.action),
                cell(&entry.subject).below(&entry.detail),
                match &entry.reason {
                    Some(reason) => cell(&entry.by).below(reason),
                    None => cell(&entry.by),
                },
            ]);
        }
        let view = View::default().table(&table);
        if more {
            let limit = options.limit;
            return view.prose(format!(
                "There are older ones; --limit shows more than {limit}"
            ));
        }
        view
    });
    Ok(())
}
