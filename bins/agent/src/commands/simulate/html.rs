//! The report as a page of its own: nothing is loaded from elsewhere, and nothing runs in it.

use std::fmt::Write;

use punctual_application::amount;

use super::report::{Report, count, counted};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b2330; --back: #f6f8fa; --box: #fff; --line: #d8dee4; --bar: #1f5fc0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --back: #14181d; --box: #1d2229; --line: #3a424c; --bar: #8cb8ff; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto; padding: 1rem;
  max-width: 62rem; }
section { background: var(--box); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0;
  overflow-x: auto; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 11px; }
svg rect { fill: var(--bar); } svg line { stroke: var(--line); }
table { border-collapse: collapse; } th, td { padding: .25rem .75rem; text-align: right; } th:first-child { text-align: left; }
td.cell { padding: 0; width: 1.9rem; height: 1.4rem; border: 1px solid var(--back); }
.heat th { white-space: nowrap; font-weight: normal; font-size: .75rem; padding: .1rem .3rem; }
";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let (peak_at, peak) = report.load.peak();
    let title = format!("Schedule of {}", report.job_id);
    let queue = &report.queue;
    let mut spreads = format!(
        "<tr><th scope=row>{} (as simulated)</th><td>{}</td></tr>",
        report.spread,
        count(peak)
    );
    for (minutes, users) in &report.spreads {
        spreads += &format!(
            "<tr><th scope=row>{minutes}</th><td>{}</td></tr>",
            count(*users)
        );
    }
    let not_applied = report.not_applied.in_words();
    let not_applied = not_applied.map_or_else(String::new, |words| format!("<p>{words}.</p>"));
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>\
         <p>{} from {}; {} in {} from {}.</p>{not_applied}\
         <section><h2>Users due by hour (UTC)</h2>{}</section>\
         <section tabindex=0 aria-labelledby=busiest><h2 id=busiest>Busiest hours</h2>{}</section>\
         <section><h2>Busiest minute</h2><p>{} at {}.</p>\
         <table><tr><th scope=col>spread_minutes</th><th scope=col>users in the busiest minute</th></tr>{spreads}</table>\
         </section>\
         <section><h2>The queue</h2><p>With {} of {} ms each, {:.0} % of the capacity is used. The queue is longest at {}: {}, the last of whom waits {}.</p></section></main></html>\n",
        counted(report.users as u64, "user"),
        escaped(&report.source),
        counted(report.load.total(), "run"),
        amount(report.load.minutes.len() as u64 / 1440, "day"),
        report.load.from.format("%Y-%m-%d %H:%M UTC"),
        bars(&report.load.hours()),
        heat(report),
        counted(peak, "user"),
        peak_at.format("%Y-%m-%d %H:%M UTC"),
        amount(queue.concurrency.into(), "concurrent item"),
        queue.item_ms,
        queue.used * 100.0,
        queue.longest_at.format("%Y-%m-%d %H:%M UTC"),
        counted(queue.longest, "user"),
        counted((queue.wait_seconds / 60.0).round() as u64, "minute"),
    )
}

/// A bar an hour.
fn bars(hours: &[u64]) -> String {
    const HEIGHT: f64 = 180.0;
    let most = hours.iter().copied().max().unwrap_or(0).max(1);
    let width = 900.0 / hours.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 960 {}\" role=img aria-label=\"Users due per hour; the busiest hour has {}\">\
         <text x=0 y=12>{}</text><line x1=0 x2=960 y1=18 y2=18 />",
        HEIGHT + 40.0,
        count(most),
        count(most)
    );
    for (hour, users) in hours.iter().enumerate() {
        let height = HEIGHT * *users as f64 / most as f64;
        let (x, y) = (30.0 + width * hour as f64, 18.0 + HEIGHT - height);
        let _ = write!(
            svg,
            "<rect x={x:.1} y={y:.1} width={:.1} height={height:.1}><title>hour {hour}: {}</title></rect>",
            (width * 0.85).max(0.5),
            count(*users)
        );
        if hour.is_multiple_of(24) {
            let _ = write!(
                svg,
                "<line x1={x:.1} x2={x:.1} y1=18 y2={y2} /><text x={x:.1} y={y2}>day {}</text>",
                hour / 24 + 1,
                y2 = HEIGHT + 34.0
            );
        }
    }
    svg + "</svg>"
}

/// Days down, hours across, the fuller the darker.
fn heat(report: &Report) -> String {
    let hours = report.load.hours();
    let most = hours.iter().copied().max().unwrap_or(0).max(1);
    let mut table = "<table class=heat><tr><th scope=col>day</th>".to_owned();
    for hour in 0..24 {
        let _ = write!(table, "<th scope=col>{hour:02}</th>");
    }
    table += "</tr>";
    for (day, hours) in hours.chunks(24).enumerate() {
        let date = report.load.at(day * 1440).format("%a %d %b");
        let _ = write!(table, "<tr><th scope=row>{date}</th>");
        for users in hours {
            let share = 100.0 * (*users as f64 / most as f64).sqrt();
            let _ = write!(
                table,
                "<td class=cell style=\"background:color-mix(in srgb, var(--bar) {share:.0}%, var(--box))\" \
                 title=\"{0}\" aria-label=\"{0}\"></td>",
                count(*users)
            );
        }
        table += "</tr>";
    }
    table + "</table>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
