//! Commands that ask the agent that is running, through its [`Client`].

use std::collections::BTreeSet;

use punctual_application::{
    BackfillReport, BackfillRequest, DeadLetterSelection, DiscardReport, Explanation, ReplayReport,
    TriggerRequest, TriggeredBatch, ports::StoredResult,
};
use punctual_domain::{DeadLetter, JobId, TenantId, visible};
use punctual_operations::model::{
    CancelledBatch, DeadLetters, PausedJob, Quarantine, Results, Runs,
};
use serde_json::json;
use uuid::Uuid;

use super::Failure;
use crate::{
    cli::{
        self, BackfillOptions, ExplainOptions, LetterSelection, ReplayOptions, ResultsOptions,
        TriggerOptions,
    },
    client::{Client, LONG_TIMEOUT, TIMEOUT},
    settings::Settings,
    terminal::{print_line, say_json},
};

/// Of calls whose address says everything.
const NO_BODY: Option<&()> = None;

pub(crate) async fn explain(settings: &Settings, options: ExplainOptions) -> Result<(), Failure> {
    let ExplainOptions {
        tenant,
        job,
        date,
        json,
    } = options;
    let mut query = vec![("job_id", job.to_string())];
    query.extend(date.map(|date| ("date", date.to_string())));
    let path = format!("tenants/{tenant}/explain");
    let explained: Explanation = Client::new(settings)?.get(&path, &query).await?;
    if json {
        say_json(&explained);
        return Ok(());
    }
    let words = visible(&explained.explanation);
    print_line(format!("{tenant} in {job}: {words}"));
    for (name, value) in [
        ("slot", explained.slot),
        (
            "occurrence",
            explained.occurrence.map(|run| run.to_string()),
        ),
        ("batch", explained.batch_id.map(|id| id.to_string())),
    ] {
        if let Some(value) = value {
            print_line(format!("  {name:<11}{value}"));
        }
    }
    Ok(())
}

pub(crate) async fn trigger(settings: &Settings, options: TriggerOptions) -> Result<(), Failure> {
    let path = format!("jobs/{}/trigger", options.job);
    let (tenants, all) = recipients(options.tenant);
    let body = TriggerRequest {
        tenants,
        all,
        allow_unknown: options.allow_unknown,
    };
    let client = Client::new(settings)?;
    let key = options.idempotency_key;
    let queued: TriggeredBatch = client.post_once(&path, &body, key, TIMEOUT).await?;
    if options.json {
        say_json(&queued);
    } else {
        print_line(format!(
            "{} is queued for {} items: GET /api/v1/batches/{}",
            options.job, queued.total, queued.batch_id
        ));
    }
    Ok(())
}

/// These tenants, or all when none is named.
fn recipients(tenants: Vec<TenantId>) -> (Option<BTreeSet<TenantId>>, bool) {
    let all = tenants.is_empty();
    ((!all).then(|| tenants.into_iter().collect()), all)
}

pub(crate) async fn backfill(settings: &Settings, options: BackfillOptions) -> Result<(), Failure> {
    let path = format!("jobs/{}/backfill", options.job);
    let (tenants, all) = recipients(options.tenant);
    let body = BackfillRequest {
        from: options.from,
        to: options.to,
        tenants,
        all,
        allow_unknown: options.allow_unknown,
        preview: options.preview,
    };
    let client = Client::new(settings)?;
    let key = options.idempotency_key;
    let report: BackfillReport = client.post_once(&path, &body, key, LONG_TIMEOUT).await?;
    if options.json {
        say_json(&report);
        return Ok(());
    }
    let (job, count) = (report.job_id, report.count);
    let verb = if report.preview {
        "would run"
    } else {
        "are queued"
    };
    print_line(format!(
        "{job}: {} items fell due, {} have not run and {verb}",
        count.due, count.to_run
    ));
    for (date, items) in count.dates {
        print_line(format!("  {date}  {items}"));
    }
    Ok(())
}

/// `pause` and `resume`.
pub(crate) async fn set_paused(
    settings: &Settings,
    job: &JobId,
    paused: bool,
) -> Result<(), Failure> {
    let verb = if paused { "pause" } else { "resume" };
    let path = format!("jobs/{job}/{verb}");
    let answer: PausedJob = Client::new(settings)?.post(&path, NO_BODY).await?;
    let word = if answer.paused { "paused" } else { "resumed" };
    print_line(format!("{job} is {word}"));
    Ok(())
}

pub(crate) async fn cancel(settings: &Settings, batch: Uuid) -> Result<(), Failure> {
    let path = format!("batches/{batch}/cancel");
    let cancelled: CancelledBatch = Client::new(settings)?.post(&path, NO_BODY).await?;
    print_line(format!(
        "{} is cancelled; the items that have not begun are skipped",
        cancelled.batch_id
    ));
    Ok(())
}

pub(crate) async fn dead_letters(
    settings: &Settings,
    what: cli::DeadLetters,
) -> Result<(), Failure> {
    match what {
        cli::DeadLetters::List {
            job,
            tenant,
            all,
            json,
        } => {
            let mut query = vec![];
            query.extend(job.map(|job| ("job_id", job.to_string())));
            query.extend(tenant.map(|tenant| ("tenant_id", tenant.to_string())));
            query.extend((!all).then(|| ("state", "open".to_owned())));
            let mut letters = Vec::new();
            let entries = |page: DeadLetters| (page.dead_letters, page.next_cursor);
            let client = Client::new(settings)?;
            let read = client.pages("dead-letters", query, entries, |letter| {
                letters.push(letter);
            });
            read.await?;
            if json {
                say_json(&json!({ "dead_letters": letters }));
            } else if letters.is_empty() {
                print_line("No dead letters");
            } else {
                print_line(table(&letters));
            }
            Ok(())
        }
        cli::DeadLetters::Replay(options) => replay(settings, options).await,
        cli::DeadLetters::Discard(which) => discard(settings, which).await,
    }
}

fn table(letters: &[DeadLetter]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "id",
        "state",
        "job",
        "tenant",
        "occurrence",
        "attempts",
        "reason",
    ]);
    for letter in letters {
        table.add_row([
            letter.id.to_string(),
            letter.state.as_str().to_owned(),
            letter.job_id.to_string(),
            letter.item_id.to_string(),
            letter.occurrence.to_string(),
            letter.attempts.to_string(),
            visible(&letter.reason).into_owned(),
        ]);
    }
    table
}

fn selection(which: LetterSelection) -> DeadLetterSelection {
    DeadLetterSelection {
        ids: (!which.id.is_empty()).then(|| which.id.into_iter().collect()),
        job_id: which.job,
        tenant_id: which.tenant,
        all: which.all,
    }
}

async fn replay(settings: &Settings, options: ReplayOptions) -> Result<(), Failure> {
    let (path, body) = ("dead-letters/replay", selection(options.which));
    let client = Client::new(settings)?;
    let key = options.idempotency_key;
    let report: ReplayReport = client.post_once(path, &body, key, TIMEOUT).await?;
    print_line(format!("{} dead letters are replayed", report.replayed));
    for batch in report.batches {
        print_line(format!("  batch {batch}"));
    }
    for id in report.not_open {
        print_line(format!("  {id} is not open"));
    }
    for left in report.left_out {
        let reason = visible(&left.reason);
        print_line(format!("  {} stay open: {reason}", left.dead_letters));
    }
    Ok(())
}

async fn discard(settings: &Settings, which: LetterSelection) -> Result<(), Failure> {
    let (path, body) = ("dead-letters/discard", selection(which));
    let client = Client::new(settings)?;
    let report: DiscardReport = client.post(path, Some(&body)).await?;
    print_line(format!("{} dead letters are discarded", report.discarded));
    for id in report.not_open {
        print_line(format!("  {id} is not open"));
    }
    Ok(())
}

pub(crate) async fn quarantine(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let answer: Quarantine = Client::new(settings)?.get("quarantine", &[]).await?;
    if as_json {
        say_json(&answer);
        return Ok(());
    }
    for entry in &answer.quarantine {
        let tenant = entry.tenant_id.as_ref().map_or("-", TenantId::as_str);
        print_line(format!("{}  tenant {tenant}", entry.job_id));
        for error in &entry.errors.0 {
            let (place, value) = (&error.pointer, error.value.as_deref().unwrap_or("-"));
            let (problem, remedy) = (&error.problem, &error.remedy);
            print_line(format!("  {place}: {value} {problem}; {remedy}"));
        }
    }
    print_line(format!(
        "{} preferences cannot be used or read",
        answer.count
    ));
    Ok(())
}

pub(crate) async fn results(settings: &Settings, options: ResultsOptions) -> Result<(), Failure> {
    let status = options.status.map(|status| ("status", status));
    let query = status.into_iter().collect();
    let client = Client::new(settings)?;
    let show = |result: StoredResult| say_json(&result);
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
