//! `batches` and `cancel`, and waiting until batches are over.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use punctual_application::JobView;
use punctual_domain::{BatchStatus, JobId, Trigger};
use punctual_operations::model::{Batch, Batches, CancelledBatch, Jobs, Restore};
use uuid::Uuid;

use super::{Failure, jobs::of_job};
use crate::{
    cli::{BatchesOptions, CancelOptions},
    client::{Client, NO_BODY},
    output::{Cell, Table, Tone, View, cell, confirm, minute, print_error, rendered, show, watch},
    settings::Settings,
};

/// How often a batch is looked at while it is waited for.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);
/// Looks at a batch between two questions whether something holds it back.
const LOOKS_PER_QUESTION: u32 = 20;

pub(crate) async fn batches(settings: &Settings, options: BatchesOptions) -> Result<(), Failure> {
    let client = Client::new(settings)?;
    if options.watch {
        return watch(async || view(&client, &options).await).await;
    }
    view(&client, &options).await?.print();
    Ok(())
}

async fn view(client: &Client, options: &BatchesOptions) -> Result<View, Failure> {
    if let Some(id) = options.batch {
        let (batch, jobs) = (of_id(client, id).await?, jobs_of(client, options).await);
        return Ok(rendered(options.json, &batch, |batch| {
            View::default().table(&table(std::slice::from_ref(batch), &jobs))
        }));
    }
    let (batches, more) =
        newest(client, options.job.as_ref(), options.status, options.limit).await?;
    if let (true, Some(job)) = (batches.is_empty(), &options.job) {
        of_job(client, job).await?;
    }
    if options.json {
        return Ok(rendered(true, &listed(batches), |_| View::default()));
    }
    if batches.is_empty() {
        return Ok(View::default().line("No batches"));
    }
    let jobs = jobs_of(client, options).await;
    let view = View::default().table(&table(&batches, &jobs));
    Ok(if more {
        view.prose(format!(
            "There are older ones; --limit shows more than {}",
            options.limit
        ))
    } else {
        view
    })
}

/// The jobs, which say whether they are paused; none for JSON, and where the agent does not say.
async fn jobs_of(client: &Client, options: &BatchesOptions) -> Vec<JobView> {
    if options.json {
        return Vec::new();
    }
    let answer = client.get::<Jobs>("jobs", &[]).await;
    answer.map_or_else(|_| Vec::new(), |answer| answer.jobs)
}

/// The newest batches of a job or of all, in a status or in any, and whether there are more.
pub(super) async fn newest(
    client: &Client,
    job: Option<&JobId>,
    status: Option<BatchStatus>,
    most: usize,
) -> Result<(Vec<Batch>, bool), Failure> {
    let mut query = vec![];
    query.extend(job.map(|job| ("job_id", job.to_string())));
    query.extend(status.map(|status| ("status", status.to_string())));
    let entries = |page: Batches| (page.batches, page.next_cursor);
    client.first("batches", query, most, entries).await
}

async fn of_id(client: &Client, id: Uuid) -> Result<Batch, Failure> {
    client.get(&format!("batches/{id}"), &[]).await
}

/// Batches as one page, which is how JSON has them.
fn listed(batches: Vec<Batch>) -> Batches {
    Batches {
        batches,
        next_cursor: None,
    }
}

/// Batches with their progress, and with whether their jobs are paused.
pub(super) fn table(batches: &[Batch], jobs: &[JobView]) -> Table {
    let mut table = Table::new(["batch", "status", "items", "due"]);
    for batch in batches {
        table.row([
            cell(&batch.job_id).below(batch.batch_id),
            status(batch, jobs),
            items(batch),
            due(batch),
        ]);
    }
    table
}

/// When a batch falls due, and why it is there where that is not its schedule.
fn due(batch: &Batch) -> Cell {
    let due = cell(minute(batch.scheduled_at));
    match batch.trigger {
        Trigger::Schedule | Trigger::LateChange | Trigger::ClockStep => due,
        Trigger::Prepare => due.below("prepared ahead"),
        asked @ (Trigger::Manual | Trigger::Backfill | Trigger::Replay) => due.below(asked),
    }
}

/// The status of a batch, in the word that the pages have for it.
fn status(batch: &Batch, jobs: &[JobView]) -> Cell {
    let is_paused = |job: &JobView| job.paused && job.job_id == batch.job_id;
    let state = batch.state(jobs.iter().any(is_paused));
    let tone = match batch.status {
        BatchStatus::Completed if batch.progress.failed == 0 => Tone::Good,
        BatchStatus::Completed => Tone::Bad,
        BatchStatus::Cancelled => Tone::Warning,
        BatchStatus::Queued | BatchStatus::Running if state == "paused" => Tone::Warning,
        BatchStatus::Queued | BatchStatus::Running => Tone::Plain,
    };
    cell(state).toned(tone)
}

/// How many items have an outcome, and how many of them not the one that was wanted.
fn items(batch: &Batch) -> Cell {
    let progress = &batch.progress;
    let done = if batch.finished_at.is_some() {
        format!("{} succeeded", progress.succeeded)
    } else {
        format!("{} of {}", progress.processed, progress.total)
    };
    let mut items = cell(done);
    if progress.waiting > 0 {
        items = items.below(format!("{} waiting", progress.waiting));
    }
    if progress.nothing_to_do > 0 {
        items = items.below(format!("{} nothing to do", progress.nothing_to_do));
    }
    if progress.skipped > 0 {
        items = items.below(format!("{} skipped", progress.skipped));
    }
    if progress.failed > 0 {
        items = items.below(format!("{} failed", progress.failed));
        items = items.toned(Tone::Bad);
    }
    items
}

pub(crate) async fn cancel(settings: &Settings, options: CancelOptions) -> Result<(), Failure> {
    let client = Client::new(settings)?.because(options.reason.as_deref())?;
    if !options.yes {
        let batch = of_id(&client, options.batch).await?;
        let left = batch.progress.total - batch.progress.processed;
        if batch.finished_at.is_none() {
            confirm(format!(
                "Cancel this batch of {}, and skip up to {left} of its {} items?",
                batch.job_id, batch.progress.total
            ))?;
        }
    }
    let path = format!("batches/{}/cancel", options.batch);
    let cancelled: CancelledBatch = client.post(&path, NO_BODY).await?;
    show(options.json, &cancelled, |cancelled| {
        View::default().prose(format!(
            "{} is cancelled; the items that have not begun are skipped",
            cancelled.batch_id
        ))
    });
    Ok(())
}

/// Why nothing that is queued of a job begins, and what to do; `None`: it begins, or the agent does not say.
pub(super) async fn held_back(client: &Client, job: &JobId) -> Option<String> {
    let restore = client.get::<Restore>("restore", &[]).await;
    if restore.is_ok_and(|state| state.restored.is_some()) {
        let why = "the store was restored from an older copy, and nothing runs until you decide";
        return Some(format!(
            "{job} is queued, but {why}: `punctual-agent restore`"
        ));
    }
    let view = of_job(client, job).await.ok()?;
    view.paused
        .then(|| format!("{job} is queued, but paused: `punctual-agent resume {job}`"))
}

/// Waits until these batches are over, shows their progress at a terminal, and prints what came of them. On standard error, it says
/// once what holds them back.
///
/// # Errors
/// [`Failure::Shown`]: items failed, or were cancelled.
pub(super) async fn wait(client: &Client, ids: &[Uuid], as_json: bool) -> Result<(), Failure> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:20} {pos}/{len} items {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (mut over, mut done, mut known) = (Vec::new(), 0, 0);
    let (mut looks, mut held) = (0_u32, None);
    for id in ids {
        let batch = loop {
            let batch = of_id(client, *id).await.map_err(|failure| match failure {
                Failure::Failed(why) => Failure::Failed(format!(
                    "{why}; the batches continue, `punctual-agent batches` shows them"
                )),
                other => other,
            })?;
            bar.set_length(known + batch.progress.total);
            bar.set_position(done + batch.progress.processed);
            bar.set_message(format!("{}, {}", batch.job_id, batch.status));
            if batch.finished_at.is_some() {
                break batch;
            }
            if held.is_none() && looks.is_multiple_of(LOOKS_PER_QUESTION) {
                held = held_back(client, &batch.job_id).await;
                if let Some(why) = &held {
                    bar.suspend(|| print_error(why));
                }
            }
            looks += 1;
            tokio::time::sleep(WAIT_INTERVAL).await;
        };
        known += batch.progress.total;
        done += batch.progress.processed;
        over.push(batch);
    }
    bar.finish_and_clear();
    let good = |batch: &Batch| batch.progress.failed == 0 && batch.status == BatchStatus::Completed;
    let all_good = over.iter().all(good);
    show(as_json, &listed(over), |over| {
        View::default().table(&table(&over.batches, &[]))
    });
    if all_good {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}
