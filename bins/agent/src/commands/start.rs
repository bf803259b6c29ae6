//! `trigger` and `backfill`: runs that somebody asks for.

use std::collections::BTreeSet;

use punctual_application::{
    BackfillReport, BackfillRequest, TriggerRequest, TriggeredBatch, amount,
};
use punctual_domain::{JobId, TenantId};

use super::{
    Failure,
    batches::{held_back, wait},
    jobs::of_job,
};
use crate::{
    cli::{BackfillOptions, TriggerOptions},
    client::{Client, LONG_TIMEOUT, TIMEOUT},
    output::{View, confirm, print_error, show},
    settings::Settings,
};

pub(crate) async fn trigger(settings: &Settings, options: TriggerOptions) -> Result<(), Failure> {
    let client = Client::new(settings)?.because(options.reason.as_deref())?;
    let job = options.job;
    let (tenants, all) = recipients(options.tenant);
    if all && !options.yes {
        let view = of_job(&client, &job).await?;
        let whom = match view.preferences() {
            Some(follows) => match follows.tenants {
                1 => "its only tenant".to_owned(),
                tenants => format!("all {}", amount(tenants as u64, "tenant")),
            },
            None => "all its items".to_owned(),
        };
        confirm(format!("Run {job} now for {whom}?"))?;
    }
    let body = TriggerRequest {
        tenants,
        all,
        allow_unknown: options.allow_unknown,
    };
    let (path, key) = (format!("jobs/{job}/trigger"), options.idempotency_key);
    let queued: TriggeredBatch = client.post_once(&path, &body, key, TIMEOUT).await?;
    if options.wait {
        return wait(&client, &[queued.batch_id], options.json).await;
    }
    show(options.json, &queued, |queued| {
        let (items, id) = (amount(queued.total as u64, "item"), queued.batch_id);
        View::default()
            .prose(format!("{job} is queued for {items}"))
            .line("Look next:")
            .line(format!("  punctual-agent batches {id} --watch"))
            .line(format!("  punctual-agent results --batch {id}"))
    });
    say_if_held_back(&client, &job).await;
    Ok(())
}

/// Says on standard error what keeps that which was queued from beginning.
async fn say_if_held_back(client: &Client, job: &JobId) {
    if let Some(why) = held_back(client, job).await {
        print_error(why);
    }
}

/// These tenants, or all when none is named.
fn recipients(tenants: Vec<TenantId>) -> (Option<BTreeSet<TenantId>>, bool) {
    let all = tenants.is_empty();
    ((!all).then(|| tenants.into_iter().collect()), all)
}

pub(crate) async fn backfill(settings: &Settings, options: BackfillOptions) -> Result<(), Failure> {
    let client = Client::new(settings)?.because(options.reason.as_deref())?;
    let job = options.job;
    let (tenants, all) = recipients(options.tenant);
    let mut body = BackfillRequest {
        from: options.from,
        to: options.to,
        tenants,
        all,
        allow_unknown: options.allow_unknown,
        preview: options.preview,
    };
    let path = format!("jobs/{job}/backfill");
    if all && !options.yes && !options.preview {
        body.preview = true;
        let counted: BackfillReport = client.post_once(&path, &body, None, LONG_TIMEOUT).await?;
        body.preview = false;
        let to_run = counted.count.to_run;
        if to_run > 0 {
            let (items, from, to) = (amount(to_run as u64, "item"), options.from, options.to);
            confirm(format!("Run {items} of {job} from {from} to {to}?"))?;
        }
    }
    let key = options.idempotency_key;
    let report: BackfillReport = client.post_once(&path, &body, key, LONG_TIMEOUT).await?;
    let batches = &report.count.batch_ids;
    if options.wait {
        if !options.json {
            counts(&report).print();
            if batches.is_empty() {
                return Ok(());
            }
        }
        return wait(&client, batches, options.json).await;
    }
    show(options.json, &report, counted);
    if !batches.is_empty() {
        say_if_held_back(&client, &job).await;
    }
    Ok(())
}

/// How many items a backfill runs, by date, and what to look at next.
fn counted(report: &BackfillReport) -> View {
    let view = counts(report);
    if report.count.batch_ids.is_empty() {
        return view;
    }
    let job = &report.job_id;
    view.line("Look next:")
        .line(format!("  punctual-agent batches --job {job} --watch"))
}

/// How many items a backfill runs, by date.
fn counts(report: &BackfillReport) -> View {
    let (job, count) = (&report.job_id, &report.count);
    let (due, left) = (amount(count.due as u64, "item"), count.to_run);
    let have = match (left, report.preview) {
        (0, _) => "have not run",
        (1, true) => "has not run and would run",
        (1, false) => "has not run and is queued",
        (_, true) => "have not run and would run",
        (_, false) => "have not run and are queued",
    };
    let mut view = View::default().prose(format!("{job}: {due} fell due, {left} {have}"));
    for (date, items) in &count.dates {
        view = view.line(format!("  {date}  {items}"));
    }
    view
}
