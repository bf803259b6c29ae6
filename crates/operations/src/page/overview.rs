//! The overview: what is wrong first, what runs now, what falls due in the next day.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use askama::Template;
use axum::{
    extract::State,
    response::{
        Html,
        sse::{Event, KeepAlive, Sse},
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, Stream};
use punctual_application::{DueItems, Finding, length_in_words, ports::StoreError};
use punctual_domain::{Batch, BatchStatus, JobId};

use punctual_web::page::{root, with_root};

use super::{App, Problem, Visitor, render};
use crate::{Words, remedies};

const HEATMAP_HOURS: usize = 24;
/// Batches shown of those that are not over.
const MAX_RUNNING: u32 = 20;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    visitor: Visitor,
    now: LiveSection,
    hours: Vec<Hour>,
    heat: Vec<HeatRow>,
    due: usize,
}

/// One hour of the next day, as a bar of the chart.
struct Hour {
    label: String,
    items: usize,
    /// Of a hundred, the fullest hour's.
    height: usize,
}

struct HeatRow {
    job_id: JobId,
    cells: Vec<Cell>,
}

struct Cell {
    items: usize,
    /// From 0, nothing, to 4.
    heat: usize,
}

/// What is going on now: the part of the page that keeps itself up to date.
#[derive(Template)]
#[template(path = "now.html")]
pub(crate) struct LiveSection {
    wrong: Vec<FindingRow>,
    running: Vec<RunningBatch>,
    batches: u64,
    items: u64,
    failed: u64,
    lateness: String,
}

/// Something that is wrong, and where to see more.
struct FindingRow {
    text: String,
    link: String,
}

impl FindingRow {
    fn of(finding: &Finding, words: &Words) -> Self {
        Self {
            text: remedies::in_words(finding, words.remedy),
            link: remedies::link(&finding.kind),
        }
    }
}

struct RunningBatch {
    batch: Batch,
    left: String,
}

pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
) -> Result<Html<String>, Problem> {
    let from = app.operator.clock.now();
    let due = app
        .operator
        .due_between(from, from + TimeDelta::hours(HEATMAP_HOURS as i64))
        .await;
    let mut by_job: BTreeMap<JobId, [usize; HEATMAP_HOURS]> = BTreeMap::new();
    for DueItems { at, job_id, items } in due {
        let hour = (at - from).num_hours().clamp(0, HEATMAP_HOURS as i64 - 1) as usize;
        by_job.entry(job_id).or_default()[hour] += items;
    }
    let total = |hour: usize| by_job.values().map(|hours| hours[hour]).sum::<usize>();
    let totals: Vec<usize> = (0..HEATMAP_HOURS).map(total).collect();
    let fullest = totals.iter().copied().max().unwrap_or(0).max(1);
    let hours = totals.iter().enumerate().map(|(hour, items)| Hour {
        label: app.hour_label(from + TimeDelta::hours(hour as i64)),
        items: *items,
        height: (items * 100).div_ceil(fullest),
    });
    let most = by_job.values().flatten().copied().max().unwrap_or(0).max(1);
    let heat = by_job.iter().map(|(job_id, hours)| HeatRow {
        job_id: job_id.clone(),
        cells: hours
            .iter()
            .map(|items| Cell {
                items: *items,
                heat: (items * 4).div_ceil(most),
            })
            .collect(),
    });
    render(&OverviewPage {
        visitor,
        now: app.now().await?,
        hours: hours.collect(),
        heat: heat.collect(),
        due: totals.iter().sum(),
    })
}

/// The live part, whenever it changes, until the agent stops. All open overviews share what is read for it.
pub(super) async fn live(
    State(app): State<App>,
    _visitor: Visitor,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (root, stop) = (root(), app.stop.clone());
    let (changes, feed) = (app.operator.reader.changes(), Arc::clone(&app.live));
    let now = feed.subscribe(changes, move || {
        let app = app.clone();
        async move { app.now().await }
    });
    let events = stream::unfold((now, String::new()), move |(mut now, last)| {
        let (root, stop) = (root.clone(), stop.clone());
        async move {
            loop {
                tokio::select! {
                    news = now.changed() => news.ok()?,
                    () = stop.cancelled() => return None,
                }
                let render = || now.borrow_and_update().as_ref().map(Template::render);
                let Some(Ok(html)) = with_root(root.clone(), render) else {
                    continue;
                };
                // An event cannot carry what ends a line on other systems.
                let html = html.replace('\r', " ");
                if html != last {
                    return Some((Ok(Event::default().data(&html)), (now, html)));
                }
            }
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

impl App {
    fn hour_label(&self, at: DateTime<Utc>) -> String {
        let local = self.operator.zone.local(at);
        local.map_or_else(String::new, |local| local.format("%H:%M").to_string())
    }

    async fn now(&self) -> Result<LiveSection, StoreError> {
        let now = self.operator.clock.now();
        let activity = self
            .operator
            .operations
            .activity(now - TimeDelta::hours(1))
            .await?;
        let worst = activity.iter().map(|job| job.worst_lateness_ms).max();
        let mut running = Vec::new();
        for status in [BatchStatus::Running, BatchStatus::Queued] {
            let batches = self.operator.newest(Some(status), MAX_RUNNING).await?;
            running.extend(
                batches
                    .into_iter()
                    .map(|batch| RunningBatch::of(batch, now)),
            );
        }
        Ok(LiveSection {
            wrong: self
                .operator
                .findings()
                .await?
                .all()
                .map(|finding| FindingRow::of(finding, &self.words))
                .collect(),
            running,
            batches: activity.iter().map(|job| job.batches).sum(),
            items: activity.iter().map(|job| job.items).sum(),
            failed: activity.iter().map(|job| job.failed).sum(),
            lateness: worst.map_or_else(
                || "–".to_owned(),
                |ms| format!("{:.1} s", ms as f64 / 1000.0),
            ),
        })
    }
}

impl RunningBatch {
    fn of(batch: Batch, now: DateTime<Utc>) -> Self {
        let (done, total) = (batch.processed(), batch.total);
        let left = match done {
            0 => "not begun".to_owned(),
            _ if done >= total => "ending".to_owned(),
            _ => {
                let taken = (now - batch.created_at).num_milliseconds().max(0) as f64;
                let left = taken / done as f64 * (total - done) as f64;
                format!(
                    "about {} left",
                    length_in_words(TimeDelta::milliseconds(left as i64))
                )
            }
        };
        Self { batch, left }
    }
}
