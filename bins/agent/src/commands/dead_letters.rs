//! `dead-letters`: items that failed for good.

use punctual_application::{DeadLetterSelection, DiscardReport, ReplayReport, amount};
use punctual_domain::{DeadLetter, DeadLetterState, FailureKind, JobId, TenantId, visible};
use punctual_operations::model::DeadLetters;
use serde_json::json;

use super::{Failure, batches::wait, jobs::of_job};
use crate::{
    cli::{self, DiscardOptions, LetterSelection, ReplayOptions},
    client::{Client, TIMEOUT},
    output::{Table, Tone, View, cell, confirm, minute, show},
    settings::Settings,
};

pub(crate) async fn dead_letters(
    settings: &Settings,
    what: cli::DeadLetters,
) -> Result<(), Failure> {
    let client = Client::new(settings)?;
    match what {
        cli::DeadLetters::List {
            job,
            tenant,
            failure_kind,
            all,
            json,
        } => {
            let state = (!all).then_some(DeadLetterState::Open);
            let (its_job, its_tenant) = (job.as_ref(), tenant.as_ref());
            let letters = read(&client, its_job, its_tenant, failure_kind, state).await?;
            if let (true, Some(job)) = (letters.is_empty(), &job) {
                of_job(&client, job).await?;
            }
            show(json, &json!({ "dead_letters": letters }), |_| {
                if letters.is_empty() {
                    View::default().line("No dead letters")
                } else {
                    View::default().table(&table(&letters))
                }
            });
            Ok(())
        }
        cli::DeadLetters::Replay(options) => {
            let client = client.because(options.reason.as_deref())?;
            replay(&client, options).await
        }
        cli::DeadLetters::Discard(options) => {
            let client = client.because(options.reason.as_deref())?;
            discard(&client, options).await
        }
    }
}

/// The dead letters of a job or a tenant or of all, in a state or in any.
async fn read(
    client: &Client,
    job: Option<&JobId>,
    tenant: Option<&TenantId>,
    failure_kind: Option<FailureKind>,
    state: Option<DeadLetterState>,
) -> Result<Vec<DeadLetter>, Failure> {
    let mut query = vec![];
    query.extend(job.map(|job| ("job_id", job.to_string())));
    query.extend(tenant.map(|tenant| ("tenant_id", tenant.to_string())));
    query.extend(failure_kind.map(|kind| ("failure_kind", kind.to_string())));
    query.extend(state.map(|state| ("state", state.to_string())));
    let mut letters = Vec::new();
    let entries = |page: DeadLetters| (page.dead_letters, page.next_cursor);
    let read = client.pages("dead-letters", query, entries, |page| letters.extend(page));
    read.await?;
    Ok(letters)
}

fn table(letters: &[DeadLetter]) -> Table {
    let mut table = Table::new(["id", "job and tenant", "failed", "reason"]);
    for letter in letters {
        let id = cell(letter.id);
        let id = match letter.state {
            DeadLetterState::Open => id,
            settled => id.below(settled),
        };
        table.row([
            id,
            cell(&letter.job_id).below(&letter.item_id),
            cell(minute(letter.failed_at)),
            cell(&letter.reason).toned(Tone::Bad),
        ]);
    }
    table
}

fn selection(which: &LetterSelection) -> DeadLetterSelection {
    DeadLetterSelection {
        ids: (!which.id.is_empty()).then(|| which.id.iter().copied().collect()),
        job_id: which.job.clone(),
        tenant_id: which.tenant.clone(),
        failure_kind: which.failure_kind,
        all: which.all,
        ..DeadLetterSelection::default()
    }
}

/// What is selected, with its number, such as `3 dead letters of posts`; `None`: nothing is.
async fn counted(client: &Client, which: &LetterSelection) -> Result<Option<String>, Failure> {
    let count = if which.id.is_empty() {
        let (job, tenant) = (which.job.as_ref(), which.tenant.as_ref());
        let open = Some(DeadLetterState::Open);
        read(client, job, tenant, which.failure_kind, open)
            .await?
            .len()
    } else {
        which.id.len()
    };
    if count == 0 {
        return Ok(None);
    }
    let letters = letters(count);
    let letters = match (&which.job, &which.tenant) {
        (None, None) => letters,
        (Some(job), None) => format!("{letters} of {job}"),
        (None, Some(tenant)) => format!("{letters} of tenant {tenant}"),
        (Some(job), Some(tenant)) => format!("{letters} of tenant {tenant} in {job}"),
    };
    Ok(Some(match which.failure_kind {
        None => letters,
        Some(kind) => format!("{letters} with failures of kind {kind}"),
    }))
}

/// So many dead letters, in words.
fn letters(count: usize) -> String {
    amount(count as u64, "dead letter")
}

/// What has been done to so many dead letters.
fn are(count: usize, done: &str) -> String {
    let are = if count == 1 { "is" } else { "are" };
    format!("{} {are} {done}", letters(count))
}

async fn replay(client: &Client, options: ReplayOptions) -> Result<(), Failure> {
    let which = &options.which;
    if which.id.is_empty()
        && !options.yes
        && let Some(letters) = counted(client, which).await?
    {
        confirm(format!("Run {letters} again?"))?;
    }
    let (path, body) = ("dead-letters/replay", selection(which));
    let key = options.idempotency_key;
    let report: ReplayReport = client.post_once(path, &body, key, TIMEOUT).await?;
    if options.wait && !report.batches.is_empty() {
        return wait(client, &report.batches, options.json).await;
    }
    show(options.json, &report, |report| {
        let mut view = View::default().line(are(report.replayed, "replayed"));
        for batch in &report.batches {
            view = view.line(format!("  batch {batch}"));
        }
        for id in &report.not_open {
            view = view.line(format!("  {id} is not open"));
        }
        for left in &report.left_out {
            let reason = visible(&left.reason);
            let (count, stay) = match left.dead_letters {
                1 => (1, "stays"),
                count => (count, "stay"),
            };
            view = view.prose(format!("  {count} {stay} open: {reason}"));
        }
        view
    });
    Ok(())
}

async fn discard(client: &Client, options: DiscardOptions) -> Result<(), Failure> {
    if !options.yes
        && let Some(letters) = counted(client, &options.which).await?
    {
        confirm(format!(
            "Discard {letters}? They can be reopened for 30 days, on the operations page."
        ))?;
    }
    let (path, body) = ("dead-letters/discard", selection(&options.which));
    let report: DiscardReport = client.post(path, Some(&body)).await?;
    show(options.json, &report, |report| {
        let mut view = View::default().line(are(report.discarded, "discarded"));
        for id in &report.not_open {
            view = view.line(format!("  {id} is not open"));
        }
        view
    });
    Ok(())
}
