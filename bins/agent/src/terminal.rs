//! What a person at the terminal sees: the slots, each batch with its progress, and what to look at next. Log lines are
//! written above the bars. Where standard output is not a terminal, the log alone says what happens.

use std::{
    collections::{HashMap, HashSet},
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use punctual_application::{
    Operator, SchedulerStatus, amount,
    ports::{BatchFilter, Page, ResultFilter},
};
use punctual_domain::{Batch, BatchStatus, ItemStatus};
use punctual_operations::remedies;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

use crate::{
    commands::results::text_of,
    output::{Table, Tone, View, cell, instant, minute},
    remedies::remedy,
};

/// The address of the agent where none is set.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
/// How often the display looks at batches that change.
const REFRESH: Duration = Duration::from_millis(250);
/// How often it looks at least while a batch is not over.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often it looks at what is wrong, how often until the first plan, and how long it must last to be shown.
const HEALTH_INTERVAL: Duration = Duration::from_secs(10);
const FIRST_HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const SHOW_FINDING_AFTER: TimeDelta = TimeDelta::seconds(10);
/// Bars on the screen at one time, and slots listed per job.
const MAX_BARS: usize = 8;
const MAX_SLOTS: usize = 12;

/// Standard error, shared between the log and the bars.
#[derive(Clone)]
pub(crate) struct Terminal {
    bars: MultiProgress,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let target = if io::stdout().is_terminal() {
            ProgressDrawTarget::stdout()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
        }
    }

    pub(crate) fn print(&self, view: &View) {
        // The agent keeps working when its terminal is gone.
        self.bars.suspend(|| {
            let _ = write!(io::stdout(), "{view}");
        });
    }
}

impl<'w> MakeWriter<'w> for Terminal {
    type Writer = LogLine<'w>;

    fn make_writer(&'w self) -> LogLine<'w> {
        LogLine(self)
    }
}

/// Writes one line of the log, above the bars.
pub(crate) struct LogLine<'w>(&'w Terminal);

impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.bars.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Shows what the agent does.
pub(crate) struct Display {
    terminal: Terminal,
    operator: Operator,
    address: SocketAddr,
    /// Whether callers need the API key.
    has_key: bool,
    /// What has been shown as wrong and still is, by the page it leads to and since when.
    wrong: HashSet<(String, Option<DateTime<Utc>>)>,
    bars: HashMap<Uuid, ProgressBar>,
    reported: HashSet<Uuid>,
}

impl Display {
    pub(crate) fn new(
        terminal: Terminal,
        operator: Operator,
        address: SocketAddr,
        has_key: bool,
    ) -> Self {
        Self {
            terminal,
            operator,
            address,
            has_key,
            wrong: HashSet::new(),
            bars: HashMap::new(),
            reported: HashSet::new(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let all_loaded = |status: &SchedulerStatus| {
            status.planned_until.is_some() && status.jobs.values().all(|job| job.loaded)
        };
        loop {
            tokio::select! {
                status = self.operator.status.wait_for(all_loaded) => {
                    self.terminal.print(&slots(&status));
                    break;
                }
                () = tokio::time::sleep(FIRST_HEALTH_INTERVAL) => self.show_wrong().await,
                () = stop.cancelled() => return,
            }
        }
        let mut hint_given = false;
        let mut looked_at = Instant::now();
        let mut changes = self.operator.reader.changes();
        changes.mark_changed();
        let mut active = 0;
        while tokio::time::timeout(REFRESH, stop.cancelled())
            .await
            .is_err()
        {
            // The progress of other processes is not announced.
            let longest = if active > 0 {
                PROGRESS_INTERVAL
            } else {
                HEALTH_INTERVAL
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(longest) => {}
                () = stop.cancelled() => break,
            }
            if looked_at.elapsed() >= HEALTH_INTERVAL {
                self.show_wrong().await;
                looked_at = Instant::now();
            }
            // The store reports its own failures; the display looks again soon.
            let Ok((batches, _)) = self
                .operator
                .reader
                .batches(
                    &BatchFilter::default(),
                    &Page {
                        cursor: None,
                        limit: 200,
                    },
                )
                .await
            else {
                active = 1;
                continue;
            };
            active = 0;
            active += batches
                .iter()
                .filter(|batch| batch.finished_at.is_none())
                .count();
            self.show_over(&batches);
            batches
                .iter()
                .rev()
                .for_each(|batch| self.show_progress(batch));
            if active == 0 && !hint_given {
                hint_given = true;
                let hint = self
                    .hint(batches.iter().max_by_key(|batch| batch.total))
                    .await;
                self.terminal.print(&hint);
            }
        }
        for bar in self.bars.into_values() {
            bar.finish_and_clear();
        }
    }

    /// Shows what is wrong, once while it lasts.
    async fn show_wrong(&mut self) {
        let now = self.operator.clock.now();
        let findings = self.operator.readiness().await;
        let lasts = |since: Option<DateTime<Utc>>| {
            since.is_none_or(|since| now - since >= SHOW_FINDING_AFTER)
        };
        let before = std::mem::take(&mut self.wrong);
        for finding in findings
            .all()
            .into_iter()
            .filter(|finding| lasts(finding.since))
        {
            let key = (remedies::link(&finding.kind), finding.since);
            if !before.contains(&key) {
                let text = remedies::in_words(finding, remedy);
                self.terminal
                    .print(&View::default().item("!", Tone::Bad, &text));
            }
            self.wrong.insert(key);
        }
    }

    /// Shows the batches that are over since the last look, in the order in which they ended.
    fn show_over(&mut self, batches: &[Batch]) {
        let started_at = self.operator.started_at;
        let mut over: Vec<&Batch> = batches
            .iter()
            .filter(|batch| batch.finished_at.is_some_and(|at| at >= started_at))
            .filter(|batch| self.reported.insert(batch.batch_id))
            .collect();
        over.sort_by_key(|batch| batch.finished_at);
        for batch in over {
            self.terminal.print(&done(batch));
        }
    }

    fn show_progress(&mut self, batch: &Batch) {
        let id = batch.batch_id;
        if batch.finished_at.is_some() {
            if let Some(bar) = self.bars.remove(&id) {
                bar.finish_and_clear();
            }
            return;
        }
        let running = batch.status == BatchStatus::Running;
        if running && !self.bars.contains_key(&id) && self.bars.len() < MAX_BARS {
            let bar = self.terminal.bars.add(ProgressBar::new(batch.total));
            let style = ProgressStyle::with_template("  {bar:20} {pos:>6}/{len} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(format!("{}  {}", batch.job_id, batch.slot));
            self.bars.insert(id, bar);
        }
        if let Some(bar) = self.bars.get(&id) {
            bar.set_position(batch.processed());
        }
    }

    /// What to look at next, with the result of a tenant of the largest batch.
    async fn hint(&self, largest: Option<&Batch>) -> View {
        let mut view = View::default().line("");
        if let Some(batch) = largest {
            let filter = ResultFilter {
                batch_id: batch.batch_id,
                status: Some(ItemStatus::Succeeded),
            };
            let page = Page {
                cursor: None,
                limit: 1,
            };
            let sample = self
                .operator
                .reader
                .results(&filter, &page)
                .await
                .ok()
                .and_then(|(results, _)| results.into_iter().next());
            let id = batch.batch_id;
            view = view
                .toned(Tone::Heading, "Look next")
                .line(format!(
                    "  http://{}/ in a browser, or {}:",
                    self.address,
                    self.where_to_ask()
                ))
                .line("  punctual-agent status")
                .line(format!("  punctual-agent results --batch {id}"));
            if let Some(stored) = sample {
                let tenant = &stored.result.item_id;
                view = view.line(format!("  punctual-agent results --tenant {tenant}"));
                if let Some(output) = &stored.result.output {
                    view = view.heading(format!("Result of {tenant}"));
                    view = lines_of(output)
                        .iter()
                        .fold(view, |view, line| view.item(" │", Tone::Plain, line));
                }
            }
        } else {
            view = view.line("Nothing is due now.");
        }
        let next = self
            .operator
            .status
            .get()
            .jobs
            .values()
            .filter_map(|job| job.next_due)
            .min();
        let next = next.map(|next| format!("Next due: {}. ", minute(next)));
        view.line("")
            .line(format!("{}Ctrl-C stops.", next.unwrap_or_default()))
    }

    /// Where commands reach this agent.
    fn where_to_ask(&self) -> String {
        let mut names = Vec::new();
        if self.address.to_string() != DEFAULT_ADDRESS {
            names.push(format!("BATCH_HTTP_ADDR={}", self.address));
        }
        if self.has_key {
            names.push("BATCH_API_KEY".to_owned());
        }
        if names.is_empty() {
            "in another terminal".to_owned()
        } else {
            format!("in another terminal with {}", names.join(" and "))
        }
    }
}

fn done(batch: &Batch) -> View {
    let finished = batch.finished_at.unwrap_or(batch.created_at);
    let took = (finished - batch.created_at).num_milliseconds();
    let mut text = format!(
        "{}  {}: {} succeeded",
        instant(finished),
        batch.job_id,
        batch.succeeded
    );
    if batch.failed > 0 {
        text.push_str(&format!(", {} failed", batch.failed));
    }
    if batch.nothing_to_do > 0 {
        text.push_str(&format!(", {} nothing to do", batch.nothing_to_do));
    }
    if batch.skipped > 0 {
        text.push_str(&format!(", {} skipped", batch.skipped));
    }
    let (seconds, due) = (took as f64 / 1000.0, minute(batch.scheduled_at));
    text.push_str(&format!(" in {seconds:.1} s ({}, due {due})", batch.slot));
    match batch.status {
        _ if batch.failed > 0 => View::default().item("✗", Tone::Bad, &text),
        BatchStatus::Cancelled => View::default().item("–", Tone::Warning, &text),
        _ => View::default().item("✓", Tone::Good, &text),
    }
}

/// What a handler has returned: the text of `template` and `chat`, also as the first of two purposes, and the fields of others.
fn lines_of(output: &Value) -> Vec<String> {
    if let Some(text) = text_of(output) {
        return text.lines().map(str::to_owned).collect();
    }
    let line = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    };
    match output {
        Value::Object(fields) => fields.iter().map(line).collect(),
        other => vec![other.to_string()],
    }
}

fn slots(status: &SchedulerStatus) -> View {
    let mut view = View::default();
    let mut jobs: Vec<_> = status.jobs.iter().collect();
    jobs.sort_by_key(|(job_id, _)| (*job_id).clone());
    for (job_id, job) in jobs {
        let (largest, slot_count) = job.mirror.largest_slots(MAX_SLOTS);
        view = view.line("").toned(
            Tone::Heading,
            format!(
                "{job_id}: {} in {}",
                amount(job.tenants as u64, "tenant"),
                amount(slot_count as u64, "slot")
            ),
        );
        if job.quarantined > 0 {
            let text = format!(
                "{} cannot be used; see `punctual-agent quarantine`",
                amount(job.quarantined as u64, "preference")
            );
            view = view.item("!", Tone::Warning, &text);
        }
        if largest.is_empty() {
            continue;
        }
        let mut table = Table::new(["slot", "tenants", "next"]);
        for slot in &largest {
            let next = slot.next.map(minute).unwrap_or_default();
            table.row([cell(&slot.slot), cell(slot.tenants), cell(next)]);
        }
        view = view.table(&table);
        if slot_count > largest.len() {
            let more = amount((slot_count - largest.len()) as u64, "more slot");
            view = view.line(format!("… and {more}"));
        }
    }
    view
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_is_shown_as_its_text_or_field_by_field() {
        let texts = json!({"text": "One\nTwo", "model": "m"});
        assert_eq!(lines_of(&texts), ["One", "Two"]);
        let both = json!({"written": texts, "then": {"message_id": "<1@shop.example>"}});
        assert_eq!(lines_of(&both), ["One", "Two"]);
        let sent = json!({"reply": "Read it at http://127.0.0.1:8090/mails/1", "size": 3});
        let lines = ["reply: Read it at http://127.0.0.1:8090/mails/1", "size: 3"];
        assert_eq!(lines_of(&sent), lines);
        assert_eq!(lines_of(&json!(["a", 1])), ["[\"a\",1]"]);
    }
}
