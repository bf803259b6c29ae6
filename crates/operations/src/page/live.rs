//! What keeps open pages up to date: server-sent events.

use std::{
    collections::hash_map::DefaultHasher,
    convert::Infallible,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::sse::{Event, KeepAlive, Sse},
};
use chrono::{DateTime, Utc};
use futures::stream::{self, Stream};
use punctual_application::ports::{AuditFilter, DeliveryFilter, Page, StoreError, WaitingFilter};
use punctual_domain::{BatchStatus, Work};
use punctual_web::page::{root, with_root};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    App, Problem, Visitor,
    overview::{LiveView, STORE_TIMEOUT},
    since,
};
use crate::feed::Read;

/// How often a stream without changes says that it is alive: a page that hears nothing for three times as long says so.
const BEAT: Duration = Duration::from_secs(10);
/// Batches of a status, and deliveries, that are looked at for what is new: the newest.
const MAX_ROWS: u32 = 100;

fn beat() -> KeepAlive {
    let alive = Event::default().event("beat").data("alive");
    KeepAlive::new().interval(BEAT).event(alive)
}

/// An event of what was read at an instant.
fn read_at(at: &DateTime<Utc>) -> Event {
    Event::default().id(since(at))
}

/// What a page shows was read again, and is the same.
fn same(at: &DateTime<Utc>) -> Event {
    read_at(at).event("same").data("same")
}

/// The live part of the overview, whenever it changes, until the agent stops, and otherwise that it is the same. All open
/// overviews share what is read for it.
pub(super) async fn overview(
    State(app): State<App>,
    visitor: Visitor,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (root, stop, watched) = (root(), app.stop.clone(), app.clone());
    let (changes, feed) = (app.operator.reader.changes(), Arc::clone(&app.live));
    let now = feed.subscribe(changes, move || {
        let app = app.clone();
        async move {
            let (now, answered) = app.now().await;
            Read {
                value: Some(now),
                failed: !answered,
            }
        }
    });
    let events = stream::unfold((now, String::new()), move |(mut now, last)| {
        let (root, stop) = (root.clone(), stop.clone());
        let (app, visitor) = (watched.clone(), visitor.clone());
        async move {
            loop {
                tokio::select! {
                    changed = now.changed() => changed.ok()?,
                    () = stop.cancelled() => return None,
                }
                if !app.still_sees(&visitor).await {
                    return None;
                }
                let render = || {
                    let now = now.borrow_and_update();
                    let now = now.as_ref()?;
                    let may_operate = visitor.may_operate();
                    Some((now.at, LiveView { now, may_operate }.render().ok()?))
                };
                let Some((at, html)) = with_root(root.clone(), render) else {
                    continue;
                };
                // An event cannot carry what ends a line on other systems.
                let html = html.replace('\r', " ");
                let event = if html == last {
                    same(&at)
                } else {
                    read_at(&at).data(&html)
                };
                return Some((Ok(event), (now, html)));
            }
        }
    });
    Sse::new(events).keep_alive(beat())
}

/// What the pages beside the overview show, as far as it tells whether they show something new.
#[derive(Clone, Copy)]
pub(crate) enum Snapshot {
    /// It was read.
    Read {
        /// When it was read.
        at: DateTime<Utc>,
        /// Differs when a page shows something else.
        hash: u64,
    },
    /// The store failed, or did not answer in time.
    Failed,
}

#[derive(Deserialize)]
pub(super) struct ChangesQuery {
    /// The hash that the page has which the stream is for; without it, what is read first is new.
    seen: Option<u64>,
}

/// An event when a page shows something new, and otherwise that it is the same, or that this cannot be read, until the agent
/// stops. All open pages share what is read for it.
pub(super) async fn changes(
    State(app): State<App>,
    visitor: Visitor,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Query(ChangesQuery { seen }) = query?;
    let (changes, feed, stop, watched) = (
        app.operator.reader.changes(),
        Arc::clone(&app.snapshots),
        app.stop.clone(),
        app.clone(),
    );
    let snapshots = feed.subscribe(changes, move || {
        let app = app.clone();
        async move {
            let snapshot = app.look().await;
            Read {
                value: Some(snapshot),
                failed: matches!(snapshot, Snapshot::Failed),
            }
        }
    });
    let events = stream::unfold((snapshots, seen), move |(mut snapshots, seen)| {
        let (stop, app, visitor) = (stop.clone(), watched.clone(), visitor.clone());
        async move {
            loop {
                tokio::select! {
                    changed = snapshots.changed() => changed.ok()?,
                    () = stop.cancelled() => return None,
                }
                if !app.still_sees(&visitor).await {
                    return None;
                }
                let Some(now) = *snapshots.borrow_and_update() else {
                    continue;
                };
                let (event, seen) = event_of(now, seen);
                return Some((Ok(event), (snapshots, seen)));
            }
        }
    });
    Ok(Sse::new(events).keep_alive(beat()))
}

/// What a stream says of what was read, and what it has seen then.
fn event_of(now: Snapshot, seen: Option<u64>) -> (Event, Option<u64>) {
    let Snapshot::Read { at, hash } = now else {
        return (Event::default().event("failed").data("failed"), seen);
    };
    let event = if seen == Some(hash) {
        same(&at)
    } else {
        read_at(&at).data("changed")
    };
    (event, Some(hash))
}

impl App {
    /// The hash of what there is: what the open streams have seen, or else what is read now; `None`: the store does not answer.
    /// An older one does no harm: the page reads itself once more.
    pub(super) async fn seen(&self) -> Option<u64> {
        let snapshot = match self.snapshots.latest() {
            Some(snapshot) => snapshot,
            None => self.look().await,
        };
        match snapshot {
            Snapshot::Read { hash, .. } => Some(hash),
            Snapshot::Failed => None,
        }
    }

    async fn look(&self) -> Snapshot {
        match timeout(STORE_TIMEOUT, self.read_snapshot()).await {
            Ok(Ok(snapshot)) => snapshot,
            Ok(Err(_)) | Err(_) => Snapshot::Failed,
        }
    }

    /// What has happened: batches, what is wrong, jobs, replicas, deliveries and the audit log are what pages show.
    async fn read_snapshot(&self) -> Result<Snapshot, StoreError> {
        let (operator, mut hasher) = (&self.operator, DefaultHasher::new());
        let at = operator.clock.now();
        for status in [None, Some(BatchStatus::Running), Some(BatchStatus::Queued)] {
            for batch in operator.newest(status, MAX_ROWS).await? {
                let counts = (
                    batch.processed(),
                    batch.failed,
                    batch.skipped,
                    batch.replayed,
                    batch.waiting,
                );
                let state = (batch.status.as_str(), batch.finished_at);
                (batch.batch_id, counts, state).hash(&mut hasher);
            }
        }
        for finding in operator.findings().await?.all() {
            let known = finding.acknowledged.as_ref().map(|known| known.at);
            let words = (&finding.what, &finding.by, finding.since);
            (finding.state(), known, words).hash(&mut hasher);
        }
        self.hash_jobs(at, &mut hasher);
        self.hash_replicas(&mut hasher).await?;
        let newest = Page {
            cursor: None,
            limit: MAX_ROWS,
        };
        let all = WaitingFilter::default();
        for call in operator.waiting_calls(&all, &newest).await?.0 {
            let progress = call.progress.map(|progress| (progress.note, progress.at));
            (call.call_id, call.waiting.until, progress).hash(&mut hasher);
        }
        for failed in [false, true] {
            let filter = DeliveryFilter {
                failed,
                ..DeliveryFilter::default()
            };
            let (deliveries, _) = operator.operations.deliveries(&filter, &newest).await?;
            for one in deliveries {
                let state = (one.state.as_str(), one.tries, one.next_try);
                (one.id, state, &one.reason).hash(&mut hasher);
            }
        }
        let newest = Page {
            cursor: None,
            limit: 1,
        };
        let (entries, _) = operator
            .operations
            .audit_log(&AuditFilter::default(), &newest)
            .await?;
        for entry in entries {
            (entry.at, &entry.action, &entry.subject).hash(&mut hasher);
        }
        Ok(Snapshot::Read {
            at,
            hash: hasher.finish(),
        })
    }

    /// The jobs, with what the scheduler knows of each.
    pub(super) fn hash_jobs(&self, now: DateTime<Utc>, hasher: &mut DefaultHasher) {
        let (status, jobs) = (self.operator.status.get(), self.operator.jobs.current());
        for job in &jobs.jobs {
            job.job_id.as_str().hash(hasher);
            if let Work::Fixed { schedule, .. } = &job.work {
                schedule.next_after(now).hash(hasher);
            }
            if let Some(known) = status.jobs.get(&job.job_id) {
                let tenants = (known.tenants, known.quarantined);
                (known.loaded, tenants, known.next_due, &known.trouble).hash(hasher);
            }
        }
    }

    /// Who leads, and who works on what. When the lease ends is left out: it is always another instant.
    async fn hash_replicas(&self, hasher: &mut DefaultHasher) -> Result<(), StoreError> {
        let operations = &self.operator.operations;
        let leader = operations.leader().await?;
        leader.map(|(process, _)| process).hash(hasher);
        for replica in operations.replica_leases().await? {
            let holds = (replica.chunks, replica.jobs, replica.since);
            (&replica.process, holds, replica.last_seen).hash(hasher);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_what_a_page_does_not_show_yet() {
        let read = |hash| Snapshot::Read {
            at: DateTime::UNIX_EPOCH,
            hash,
        };
        for (now, seen, word, then) in [
            // The first look: nothing has happened since the page was read, something has, and it is not known.
            (read(1), Some(1), "same", Some(1)),
            (read(2), Some(1), "changed", Some(2)),
            (read(1), None, "changed", Some(1)),
            (Snapshot::Failed, Some(1), "failed", Some(1)),
            (Snapshot::Failed, None, "failed", None),
        ] {
            let (event, seen_then) = event_of(now, seen);
            let text = format!("{event:?}");
            let said = ["same", "changed", "failed"];
            let said = said.into_iter().find(|word| text.contains(word));
            assert_eq!((said, seen_then), (Some(word), then), "{seen:?}");
        }
    }
}
