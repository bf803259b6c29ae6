//! What the schedule costs: holding users, changing one, and finding who is due; and what the same costs with one
//! entry a user in two well-known schedulers. Every row is measured in a process of its own.
//!
//! ```text
//! cargo run --release -p punctual-benchmarks --bin schedule
//! ```
#![expect(clippy::disallowed_methods, reason = "this program measures real time")]

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Parser, ValueEnum};
use punctual_benchmarks::{memory, python_peer};
use punctual_domain::{
    CatchUp, Change, ChangeKind, FeatureType, Mirror, Preference, PreferenceRecord, Reading,
    TenantId, Zone, plan_mirror,
};
use serde_json::{Map, Value, json};
use tokio_cron_scheduler::{JobBuilder, JobScheduler};

/// Measures the schedule.
#[derive(Parser)]
struct Options {
    /// How many users
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000, 10_000_000])]
    users: Vec<usize>,
    /// How many users for the peers
    #[arg(long, default_value_t = 100_000)]
    peer_users: usize,
    /// Measure one thing in this process
    #[arg(long, hide = true)]
    one: Option<Subject>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Subject {
    /// Slots and overrides as users choose them
    Usual,
    /// Every user a slot of their own
    Worst,
    TokioCronScheduler,
}

/// The seven figures of a row.
struct Row {
    load: Duration,
    bytes_a_user: f64,
    peak_mib: u64,
    change: Option<Duration>,
    idle_tick: Option<Duration>,
    due: Option<(usize, Duration)>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(subject) = options.one {
        let row = match subject {
            Subject::TokioCronScheduler => tokio_cron_scheduler(options.users[0])?,
            Subject::Usual => ours(options.users[0], &usual)?,
            Subject::Worst => ours(options.users[0], &worst)?,
        };
        print_row(&row);
        return Ok(());
    }
    println!(
        "{:<28}{:>12}{:>10}{:>12}{:>10}{:>12}{:>12}{:>22}",
        "",
        "users",
        "load s",
        "bytes/user",
        "peak MiB",
        "change µs",
        "idle tick µs",
        "due at the peak"
    );
    for users in &options.users {
        measure("Punctual", Subject::Usual, *users)?;
    }
    if let Some(most) = options.users.iter().max() {
        measure("Punctual, a slot a user", Subject::Worst, *most)?;
    }
    let peers = options.peer_users;
    measure("Punctual", Subject::Usual, peers)?;
    measure("tokio-cron-scheduler", Subject::TokioCronScheduler, peers)?;
    let output = python_peer("apscheduler==3.11.3", "apscheduler_register.py", peers)?;
    let (seconds, bytes) = output.trim().split_once(' ').context("no figures")?;
    println!(
        "{:<28}{peers:>12}{:>10.2}{:>12.0}",
        "APScheduler",
        seconds.parse::<f64>()?,
        bytes.parse::<f64>()?
    );
    Ok(())
}

fn measure(name: &str, subject: Subject, users: usize) -> anyhow::Result<()> {
    let subject = subject.to_possible_value().context("no such subject")?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--users", &users.to_string(), "--one", subject.get_name()])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{name:<28}{users:>12}{}", String::from_utf8(output.stdout)?);
    Ok(())
}

fn print_row(row: &Row) {
    let micros = |time: Option<Duration>| {
        time.map_or("-".to_owned(), |time| {
            format!("{:.2}", time.as_secs_f64() * 1e6)
        })
    };
    let due = row.due.map_or("-".to_owned(), |(users, time)| {
        format!("{users} in {:.0} ms", time.as_secs_f64() * 1e3)
    });
    println!(
        "{:>10.2}{:>12.0}{:>10}{:>12}{:>12}{due:>22}",
        row.load.as_secs_f64(),
        row.bytes_a_user,
        row.peak_mib,
        micros(row.change),
        micros(row.idle_tick),
    );
}

/// The n-th user's preference.
type Choice = dyn Fn(usize) -> Map<String, Value>;

/// A tenth wants 09:00 UTC; the others are spread over 30 zones, the hours of the day and a thousand different
/// overrides.
fn usual(n: usize) -> Map<String, Value> {
    const ZONES: [&str; 30] = [
        "UTC",
        "Europe/Berlin",
        "Europe/London",
        "Europe/Paris",
        "Europe/Madrid",
        "Europe/Kyiv",
        "America/New_York",
        "America/Chicago",
        "America/Denver",
        "America/Los_Angeles",
        "America/Sao_Paulo",
        "America/Bogota",
        "America/Mexico_City",
        "America/Toronto",
        "Asia/Tokyo",
        "Asia/Seoul",
        "Asia/Shanghai",
        "Asia/Singapore",
        "Asia/Kolkata",
        "Asia/Dubai",
        "Asia/Jakarta",
        "Asia/Manila",
        "Australia/Sydney",
        "Australia/Perth",
        "Pacific/Auckland",
        "Africa/Lagos",
        "Africa/Cairo",
        "Africa/Johannesburg",
        "Atlantic/Reykjavik",
        "Asia/Kathmandu",
    ];
    let overrides = json!({"tone": format!("tone {}", n % 50), "hashtags": [format!("#{}", n / 7 % 20), "#daily"],
        "length": 100});
    let mut preference = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00",
        "timezone": "UTC", "template_overrides": overrides});
    if !n.is_multiple_of(10) {
        let mixed = n.wrapping_mul(0x9e37_79b9) >> 7;
        preference["preferred_time"] = json!(format!(
            "{:02}:{:02}",
            mixed % 24,
            [0, 0, 0, 15, 30, 45][mixed / 24 % 6]
        ));
        preference["timezone"] = json!(ZONES[mixed / 144 % 30]);
        match mixed / 4320 % 20 {
            0 => {
                preference["frequency"] = json!("monthly");
                preference["preferred_day"] = json!(1 + mixed / 86_400 % 31);
            }
            1..4 => {
                preference["frequency"] = json!("weekly");
                preference["preferred_day"] = json!(["monday", "friday"][mixed / 86_400 % 2]);
            }
            _ => {}
        }
    }
    object(preference)
}

/// Every user another minute, day of the month or zone.
fn worst(n: usize) -> Map<String, Value> {
    thread_local! {
        static ZONES: Vec<String> = Zone::names().collect();
    }
    let zone = ZONES.with(|zones| zones[n / 1440 / 31 % zones.len()].clone());
    object(
        json!({"enabled": true, "frequency": "monthly", "preferred_day": 1 + n / 1440 % 31,
        "preferred_time": format!("{:02}:{:02}", n % 1440 / 60, n % 60), "timezone": zone}),
    )
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

const PAGE: usize = 100;

/// An id of 16 characters.
fn tenant(n: usize) -> anyhow::Result<TenantId> {
    Ok(TenantId::new(format!("tenant-{n:09}"))?)
}

fn ours(users: usize, choice: &Choice) -> anyhow::Result<Row> {
    let stored_at: DateTime<Utc> = "2026-01-01T00:00:00Z".parse()?;
    let record = |n| {
        Some(PreferenceRecord {
            tenant_id: tenant(n).ok()?,
            preference: Arc::new(choice(n)),
            updated_at: Some(stored_at),
            schedule_since: None,
            organization: None,
        })
    };
    let before = resident()?;
    let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
    let began = Instant::now();
    // A day on which nothing monthly is due, a minute before the peak.
    mirror.set_planned_until("2026-04-08T08:58:59Z".parse()?);
    // Users come in pages, as from the network; making them up and dropping them does not count.
    let (mut page, mut making_up) = (Vec::new(), Duration::ZERO);
    let records = (0..users).map(|n| {
        if n.is_multiple_of(PAGE) {
            let began = Instant::now();
            let all = n..users.min(n + PAGE);
            page = all.filter_map(record).map(Arc::new).collect();
            making_up += began.elapsed();
        }
        page[n % PAGE].clone()
    });
    mirror.replace(records, Reading::first(stored_at));
    let load = began.elapsed().saturating_sub(making_up);
    ensure!(mirror.len() == users, "{} users are held", mirror.len());
    let bytes_a_user = resident()?.saturating_sub(before) as f64 / users as f64;

    const CHANGES: usize = 100_000;
    let feature_type = FeatureType::new("f")?;
    let mut changes = Vec::with_capacity(CHANGES);
    for _ in 0..CHANGES {
        let (who, like) = (fastrand::usize(..users), fastrand::usize(..users));
        changes.push(Change {
            tenant_id: tenant(who)?,
            feature_type: feature_type.clone(),
            kind: ChangeKind::Upserted(Arc::new(choice(like))),
            changed_at: Some(stored_at),
            schedule_since: None,
            organization: None,
        });
    }
    let began = Instant::now();
    for change in &changes {
        mirror.apply(change, Reading::first(stored_at));
    }
    let change = began.elapsed() / CHANGES as u32;
    mirror.set_planned_until("2026-04-08T08:59:00Z".parse()?);

    const TICKS: u32 = 1_000;
    let began = Instant::now();
    for tick in 0..TICKS {
        let at =
            "2026-04-08T08:59:00Z".parse::<DateTime<Utc>>()? + TimeDelta::milliseconds(tick.into());
        ensure!(
            plan_mirror(&mirror, CatchUp::default(), at).is_empty(),
            "somebody is due too early"
        );
        mirror.set_planned_until(at);
    }
    let idle_tick = began.elapsed() / TICKS;

    let peak = "2026-04-08T09:00:00Z".parse()?;
    let began = Instant::now();
    let due: usize = plan_mirror(&mirror, CatchUp::default(), peak)
        .iter()
        .map(|group| group.tenants.len())
        .sum();
    let took = began.elapsed();
    mirror.set_planned_until(peak);
    Ok(Row {
        load,
        bytes_a_user,
        peak_mib: peak_memory()?,
        change: Some(change),
        idle_tick: Some(idle_tick),
        due: Some((due, took)),
    })
}

fn tokio_cron_scheduler(users: usize) -> anyhow::Result<Row> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let scheduler = JobScheduler::new().await?;
            let before = resident()?;
            let began = Instant::now();
            for n in 0..users {
                let schedule = format!("0 {} {} * * *", n / 24 % 60, n % 24);
                let job = JobBuilder::new()
                    .with_timezone(Utc)
                    .with_cron_job_type()
                    .with_schedule(schedule.as_str())?
                    .with_run_async(Box::new(move |_, _| {
                        Box::pin(async move { drop(tenant(n)) })
                    }))
                    .build()?;
                scheduler.add(job).await?;
            }
            Ok(Row {
                load: began.elapsed(),
                bytes_a_user: resident()?.saturating_sub(before) as f64 / users as f64,
                peak_mib: peak_memory()?,
                change: None,
                idle_tick: None,
                due: None,
            })
        })
}

/// Memory of its own that is resident now, in bytes.
fn resident() -> anyhow::Result<u64> {
    Ok(memory("self", "RssAnon")? * 1024)
}

/// The most memory there has been resident, in MiB.
fn peak_memory() -> anyhow::Result<u64> {
    Ok(memory("self", "VmHWM")? / 1024)
}
