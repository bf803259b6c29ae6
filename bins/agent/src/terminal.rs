//! What a person at the terminal sees: the slots, each batch with its progress, and where to look next. On a
//! pipe the same comes as plain lines. Log lines are written above the bars.

use std::{
    collections::{HashMap, HashSet},
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::Table;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use punctual_application::{
    Operator, SchedulerStatus,
    ports::{BatchFilter, Page, ResultFilter},
};
use punctual_domain::{Batch, BatchStatus, ItemStatus, visible, visible_lines};
use punctual_operations::remedies;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

use crate::remedies::remedy;

/// Prints a line for a person. What a terminal would act upon is escaped: there may be text from elsewhere in it.
pub(crate) fn print_line(text: impl std::fmt::Display) {
    println!("{}", visible_lines(&text.to_string()));
}

/// The same, on standard error.
pub(crate) fn print_error(text: impl std::fmt::Display) {
    eprintln!("{}", visible_lines(&text.to_string()));
}

/// Prints a document for a program, in a form that a terminal shows as it is.
pub(crate) fn say_json(document: &impl Serialize) {
    println!("{}", visible(&json!(document).to_string()));
}

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

    fn print(&self, text: &str) {
        // The agent keeps working when its terminal is gone.
        self.bars.suspend(|| {
            let _ = writeln!(io::stdout(), "{}", visible_lines(text));
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
    /// What has been shown as wrong and still is, by the page it leads to and since when.
    wrong: HashSet<(String, Option<DateTime<Utc>>)>,
    bars: HashMap<Uuid, ProgressBar>,
    reported: HashSet<Uuid>,
}

impl Display {
    pub(crate) fn new(terminal: Terminal, operator: Operator, address: SocketAddr) -> Self {
        Self {
            terminal,
            operator,
            address,
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
            for batch in batches.iter().rev() {
                active += usize::from(batch.finished_at.is_none());
                self.show(batch);
            }
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
        for finding in findings.all().filter(|finding| lasts(finding.since)) {
            let key = (remedies::link(&finding.kind), finding.since);
            if !before.contains(&key) {
                self.terminal
                    .print(&format!("  ! {}", remedies::in_words(finding, remedy)));
            }
            self.wrong.insert(key);
        }
    }

    fn show(&mut self, batch: &Batch) {
        let id = batch.batch_id;
        if batch.status == BatchStatus::Completed {
            if let Some(bar) = self.bars.remove(&id) {
                bar.finish_and_clear();
            }
            let recent = batch
                .finished_at
                .is_some_and(|finished| finished >= self.operator.started_at);
            if recent && self.reported.insert(id) {
                self.terminal.print(&done(batch));
            }
            return;
        }
        let running = batch.status == BatchStatus::Running;
        if running && !self.bars.contains_key(&id) && self.bars.len() < MAX_BARS {
            let bar = self.terminal.bars.add(ProgressBar::new(batch.total));
            let style = ProgressStyle::with_template("  {bar:30} {pos:>6}/{len} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(format!("{}  {}", batch.job_id, batch.slot));
            self.bars.insert(id, bar);
        }
        if let Some(bar) = self.bars.get(&id) {
            bar.set_position(batch.processed());
        }
    }

    async fn hint(&self, largest: Option<&Batch>) -> String {
        let base = format!("http://{}", self.address);
        let mut text = String::new();
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
            text.push_str(&format!("\nNext steps:\n  {base}/ in a browser\n"));
            text.push_str(&format!("  curl {base}/api/v1/batches\n"));
            text.push_str(&format!(
                "  curl {base}/api/v1/batches/{}/results\n",
                batch.batch_id
            ));
            if let Some(stored) = sample {
                let tenant = &stored.result.item_id;
                // The handlers `template` and `chat` return a text; those of an embedder, any JSON.
                let output = stored.result.output.as_ref();
                let output = output.and_then(|output| output.get("text")?.as_str());
                text.push_str(&format!("  curl {base}/api/v1/tenants/{tenant}/runs\n"));
                if let Some(output) = output {
                    let indented = output.replace('\n', "\n  │ ");
                    text.push_str(&format!("\nResult of {tenant}:\n  │ {indented}\n"));
                }
            }
        } else {
            text.push_str("\nNothing is due now. ");
        }
        let next = self
            .operator
            .status
            .get()
            .jobs
            .values()
            .filter_map(|job| job.next_due)
            .min();
        if let Some(next) = next {
            text.push_str(&format!(
                "\nNext due: {}. ",
                next.format("%Y-%m-%d %H:%M UTC")
            ));
        }
        text.push_str("Ctrl-C stops.");
        text
    }
}

fn done(batch: &Batch) -> String {
    let took = batch.finished_at.map_or(0, |finished| {
        (finished - batch.created_at).num_milliseconds()
    });
    let mut line = format!(
        "  ✓ {}  {}  {}: {} succeeded",
        batch.scheduled_at.format("%m-%d %H:%M"),
        batch.job_id,
        batch.slot,
        batch.succeeded
    );
    if batch.failed > 0 {
        line.push_str(&format!(", {} failed", batch.failed));
    }
    if batch.skipped > 0 {
        line.push_str(&format!(", {} skipped", batch.skipped));
    }
    format!("{line} ({:.1} s)", took as f64 / 1000.0)
}

fn slots(status: &SchedulerStatus) -> String {
    let mut text = String::new();
    let mut jobs: Vec<_> = status.jobs.iter().collect();
    jobs.sort_by_key(|(job_id, _)| (*job_id).clone());
    for (job_id, job) in jobs {
        let (largest, slot_count) = job.mirror.largest_slots(MAX_SLOTS);
        text.push_str(&format!(
            "\n{job_id}: {} tenants in {slot_count} slots\n",
            job.tenants
        ));
        if job.quarantined > 0 {
            text.push_str(&format!(
                "  {} preferences cannot be used: GET /api/v1/quarantine\n",
                job.quarantined
            ));
        }
        if largest.is_empty() {
            continue;
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["  slot", "tenants", "next (UTC)"]);
        for slot in &largest {
            let next = slot.next.map_or_else(String::new, |next| {
                next.format("%Y-%m-%d %H:%M").to_string()
            });
            table.add_row([format!("  {}", slot.slot), slot.tenants.to_string(), next]);
        }
        text.push_str(&table.to_string());
        if slot_count > largest.len() {
            text.push_str(&format!(
                "\n   … and {} more slots",
                slot_count - largest.len()
            ));
        }
        text.push('\n');
    }
    text
}
