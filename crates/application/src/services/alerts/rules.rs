//! Which messages go out: decided from what is wrong, what was sent before, and the time. Nothing here asks or stores anything.

use std::{cmp::Reverse, collections::BTreeMap};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::visible;
use uuid::Uuid;

use crate::{
    Severity,
    backoff::Backoff,
    ports::{
        Alert, AlertAgent, AlertBook, AlertChange, AlertDelivery, AlertDeliveryState, AlertFinding,
        AlertKind, SentFinding, StoredAlert, TrackedFinding,
    },
};

/// How long a finding has to be gone before its recovery is reported: one that is back before then goes on.
const RECOVERED_AFTER: TimeDelta = TimeDelta::minutes(2);
/// How often a finding that is open and not acknowledged is reported again.
const REMIND_EVERY: TimeDelta = TimeDelta::hours(24);
/// The least time between two messages about a finding that is as bad as before and has another cause.
const CHANGES_EVERY: TimeDelta = TimeDelta::hours(1);
/// So many messages go out within [`WINDOW`], and one about all that are left out.
const MAX_MESSAGES: usize = 20;
/// So many of them are kept for critical findings, which a storm of milder ones must not hide.
const KEPT_FOR_CRITICAL: usize = 5;
/// The time in which messages count.
pub(super) const WINDOW: TimeDelta = TimeDelta::minutes(10);
/// How long a message is retried.
const RETRY_FOR: TimeDelta = TimeDelta::hours(1);
/// Waits after failed attempts.
const BACKOFF: Backoff = Backoff::new(
    std::time::Duration::from_secs(15),
    std::time::Duration::from_mins(10),
);
const LONGEST_BACKOFF: TimeDelta = TimeDelta::minutes(10);
/// Characters of an answer that are kept.
const MAX_ANSWER: usize = 300;

/// A finding as it is now.
#[derive(Debug, Clone)]
pub(super) struct SeenFinding {
    pub(super) finding: AlertFinding,
    /// Changes with its severity and its cause.
    pub(super) state: Uuid,
    pub(super) is_acknowledged: bool,
    /// How long it has to last before it is reported.
    pub(super) reported_after: TimeDelta,
}

/// What is wrong now.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) findings: Vec<SeenFinding>,
    /// Whether that is everything; otherwise nothing is known of what is not among them.
    pub(super) is_whole: bool,
}

/// What does not change from one look to the next.
pub(super) struct Sender<'s> {
    pub(super) agent: &'s AlertAgent,
    pub(super) channels: &'s [&'s str],
}

/// A message that may go out.
struct Candidate {
    kind: AlertKind,
    tracked: TrackedFinding,
    /// What is remembered of the finding once it has gone out; `None`: nothing.
    sent: Option<SentFinding>,
}

impl Candidate {
    /// The worst first, and what is new before what is over.
    fn rank(&self) -> (Severity, AlertKind, &str) {
        let finding = &self.tracked.finding;
        (finding.severity, self.kind, &finding.id)
    }
}

/// What changes at `now`: findings that are to be remembered otherwise, and messages that go out. During quiet hours only critical
/// findings are reported.
pub(super) fn change(
    book: &AlertBook,
    seen: &Seen,
    sender: &Sender<'_>,
    now: DateTime<Utc>,
    is_quiet: bool,
) -> AlertChange {
    let mut change = AlertChange::default();
    let mut candidates = Vec::new();
    let mut remember = |before: Option<&TrackedFinding>, after: &TrackedFinding| {
        if before != Some(after) {
            let id = after.finding.id.clone();
            change.findings.insert(id, Some(after.clone()));
        }
    };
    let mut gone: BTreeMap<&str, &TrackedFinding> = BTreeMap::new();
    for (id, tracked) in &book.findings {
        gone.insert(id, tracked);
    }
    for one in &seen.findings {
        let before = gone.remove(one.finding.id.as_str());
        let mut tracked = match before {
            Some(before) => not_ahead(before, now),
            None => TrackedFinding {
                finding: one.finding.clone(),
                seen_at: now,
                sent: None,
                changed_at: None,
                gone_at: None,
            },
        };
        tracked.gone_at = None;
        let kind = message_about(one, &mut tracked, now);
        remember(before, &tracked);
        let is_silent = is_quiet && one.finding.severity != Severity::Critical;
        if let Some(kind) = kind.filter(|_| !is_silent) {
            let first_at = tracked.sent.as_ref().map_or(now, |sent| sent.first_at);
            tracked.finding = one.finding.clone();
            tracked.changed_at = None;
            let sent = Some(SentFinding {
                state: one.state,
                severity: one.finding.severity,
                first_at,
                last_at: now,
            });
            candidates.push(Candidate {
                kind,
                tracked,
                sent,
            });
        }
    }
    let mut over = Vec::new();
    for (id, before) in gone.into_iter().filter(|_| seen.is_whole) {
        let mut tracked = not_ahead(before, now);
        let Some(sent) = &tracked.sent else {
            over.push(id.to_owned());
            continue;
        };
        let is_silent = is_quiet && sent.severity != Severity::Critical;
        let gone_at = *tracked.gone_at.get_or_insert(now);
        remember(Some(before), &tracked);
        if now - gone_at >= RECOVERED_AFTER && !is_silent {
            candidates.push(Candidate {
                kind: AlertKind::Recovered,
                tracked,
                sent: None,
            });
        }
    }
    change
        .findings
        .extend(over.into_iter().map(|id| (id, None)));
    change.alerts.extend(without_channel(book, sender, now));
    candidates.sort_by(|one, other| one.rank().cmp(&other.rank()));
    send(&mut change, candidates, book, sender, now);
    change
}

/// Messages that wait for a channel which is set up no more, given up: nothing would ever send them, and none would be removed.
fn without_channel(book: &AlertBook, sender: &Sender<'_>, now: DateTime<Utc>) -> Vec<StoredAlert> {
    let is_lost = |alert: &Alert, delivery: &AlertDelivery| {
        let is_set_up = sender.channels.contains(&delivery.channel.as_str());
        let is_pending = delivery.state == AlertDeliveryState::Pending;
        is_pending && !is_set_up && now - alert.timestamp >= RETRY_FOR
    };
    let mut given_up = Vec::new();
    for stored in &book.alerts {
        let StoredAlert {
            alert,
            mut deliveries,
        } = stored.clone();
        let mut is_changed = false;
        for delivery in &mut deliveries {
            if is_lost(&alert, delivery) {
                delivery.state = AlertDeliveryState::GivenUp;
                delivery.due_at = None;
                delivery.answer = Some("no channel of this name is set up any more".to_owned());
                is_changed = true;
            }
        }
        if is_changed {
            given_up.push(StoredAlert { alert, deliveries });
        }
    }
    given_up
}

/// Adds the messages that go out, and what is remembered of their findings.
fn send(
    change: &mut AlertChange,
    mut candidates: Vec<Candidate>,
    book: &AlertBook,
    sender: &Sender<'_>,
    now: DateTime<Utc>,
) {
    // What the clock has left in the future does not count.
    let window = now - WINDOW..=now;
    let recent = book.alerts.iter().map(|stored| &stored.alert);
    let recent = recent.filter(|alert| window.contains(&alert.timestamp));
    let kinds: Vec<AlertKind> = recent.map(|alert| alert.kind).collect();
    let counts = |kind: &&AlertKind| !matches!(kind, AlertKind::More | AlertKind::Test);
    let room = MAX_MESSAGES.saturating_sub(kinds.iter().filter(counts).count());
    // The critical ones come first.
    let is_critical = |one: &Candidate| one.tracked.finding.severity == Severity::Critical;
    let critical = candidates.partition_point(is_critical).min(room);
    let others = room.saturating_sub(KEPT_FOR_CRITICAL.max(critical));
    let left_out = candidates.split_off((critical + others).min(candidates.len()));
    for candidate in candidates {
        let finding = candidate.tracked.finding.clone();
        let alert = message(candidate.kind, Some(finding), None, sender, now);
        change.alerts.push(alert);
        sent(change, candidate);
    }
    // Those that no message has room for wait until the next one may go out.
    if !left_out.is_empty() && !kinds.contains(&AlertKind::More) {
        let more = left_out.len() as u64;
        let alert = message(AlertKind::More, None, Some(more), sender, now);
        change.alerts.push(alert);
        for candidate in left_out {
            sent(change, candidate);
        }
    }
}

/// Remembers that a message has gone out.
fn sent(change: &mut AlertChange, candidate: Candidate) {
    let Candidate { tracked, sent, .. } = candidate;
    let id = tracked.finding.id.clone();
    let tracked = sent.map(|sent| TrackedFinding {
        sent: Some(sent),
        ..tracked
    });
    change.findings.insert(id, tracked);
}

/// Which message a finding that is there calls for; notes since when it has changed.
fn message_about(
    one: &SeenFinding,
    tracked: &mut TrackedFinding,
    now: DateTime<Utc>,
) -> Option<AlertKind> {
    let severity = one.finding.severity;
    let Some(sent) = &mut tracked.sent else {
        let lasts = now - tracked.seen_at >= one.reported_after;
        return (lasts && !one.is_acknowledged).then_some(AlertKind::Opened);
    };
    // What an operator knows of, or has become milder, needs no message. What comes after it is compared with it.
    if one.is_acknowledged || severity > sent.severity {
        sent.state = one.state;
        sent.severity = severity;
    }
    if sent.state == one.state {
        tracked.changed_at = None;
    } else {
        let changed_at = *tracked.changed_at.get_or_insert(now);
        let is_due = severity < sent.severity || now - sent.last_at >= CHANGES_EVERY;
        if is_due && now - changed_at >= one.reported_after {
            return Some(AlertKind::Changed);
        }
    }
    let is_due = now - sent.last_at >= REMIND_EVERY;
    (is_due && !one.is_acknowledged).then_some(AlertKind::Reminder)
}

/// What is remembered of a finding, without instants that lie ahead because the clock was set back since.
fn not_ahead(tracked: &TrackedFinding, now: DateTime<Utc>) -> TrackedFinding {
    let mut tracked = tracked.clone();
    tracked.seen_at = tracked.seen_at.min(now);
    tracked.changed_at = tracked.changed_at.map(|at| at.min(now));
    tracked.gone_at = tracked.gone_at.map(|at| at.min(now));
    if let Some(sent) = &mut tracked.sent {
        sent.first_at = sent.first_at.min(now);
        sent.last_at = sent.last_at.min(now);
    }
    tracked
}

/// A message that is due by every channel. The same message has the same id.
pub(super) fn message(
    kind: AlertKind,
    finding: Option<AlertFinding>,
    more: Option<u64>,
    sender: &Sender<'_>,
    now: DateTime<Utc>,
) -> StoredAlert {
    let about = finding.as_ref().map_or("", |finding| finding.id.as_str());
    let name = format!("{}\n{about}\n{}", kind.as_str(), now.timestamp_micros());
    let channels = sender.channels.iter();
    StoredAlert {
        alert: Alert {
            id: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
            kind,
            timestamp: now,
            finding,
            more,
            agent: sender.agent.clone(),
        },
        deliveries: channels.map(|name| AlertDelivery::by(name)).collect(),
    }
}

/// Whether a delivery is due. One that lies further ahead than any wait was left there by a clock that has been set back.
pub(super) fn is_due(delivery: &AlertDelivery, now: DateTime<Utc>) -> bool {
    let is_now = |due: DateTime<Utc>| due <= now || due > now + LONGEST_BACKOFF;
    delivery.state == AlertDeliveryState::Pending && delivery.due_at.is_none_or(is_now)
}

/// A delivery after another attempt at a message of `decided_at`.
pub(super) fn attempted(
    delivery: &AlertDelivery,
    decided_at: DateTime<Utc>,
    answer: Result<String, String>,
    now: DateTime<Utc>,
) -> AlertDelivery {
    let attempts = delivery.attempts.saturating_add(1);
    let (state, due_at, answer) = match answer {
        Ok(answer) => (AlertDeliveryState::Sent, None, answer),
        Err(reason) if now - decided_at >= RETRY_FOR => (AlertDeliveryState::GivenUp, None, reason),
        Err(reason) => {
            let wait = TimeDelta::from_std(BACKOFF.after(attempts)).unwrap_or(LONGEST_BACKOFF);
            (AlertDeliveryState::Pending, Some(now + wait), reason)
        }
    };
    let answer: String = visible(&answer).chars().take(MAX_ANSWER).collect();
    AlertDelivery {
        channel: delivery.channel.clone(),
        state,
        attempts,
        attempted_at: Some(now),
        due_at,
        answer: Some(answer).filter(|answer| !answer.is_empty()),
    }
}

/// Why a channel has sent nothing lately: since when, and the reason. What ended last counts, unless it lies ahead because the
/// clock was set back since; `newest` are the newest messages first.
pub(in crate::services) fn given_up<'a>(
    channel: &str,
    newest: &'a [StoredAlert],
    now: DateTime<Utc>,
) -> Option<(DateTime<Utc>, &'a str)> {
    let of_channel = newest.iter().flat_map(|stored| &stored.deliveries);
    let ended = of_channel.filter(|delivery| {
        let has_ended = delivery.state != AlertDeliveryState::Pending;
        has_ended
            && delivery.channel == channel
            && delivery.attempted_at.is_some_and(|at| at <= now)
    });
    // Ends come in no order: an old message is retried while newer ones are sent.
    let last = ended.min_by_key(|delivery| Reverse(delivery.attempted_at))?;
    let is_given_up = last.state == AlertDeliveryState::GivenUp;
    let at = last.attempted_at.filter(|_| is_given_up)?;
    Some((at, last.answer.as_deref().unwrap_or("no reason is known")))
}

#[cfg(test)]
mod tests;
