//! `trigger` and `backfill`: runs that somebody asks for.

use std::collections::BTreeSet;

use punctual_application::{BackfillReport, BackfillRequest, TriggerRequest, TriggeredBatch};
use punctual_domain::TenantId;

use super::{Failure, batches::wait, jobs::of_job};
use crate::{
    cli::{BackfillOptions, TriggerOptions},
    client::{Client, LONG_TIMEOUT, TIMEOUT},
    output::{View, confirm, show},
    settings::Settings,
};

pub(crate) async fn trigger(settings: &Settings, options: TriggerOptions) -> Result<(), Failure> {
    let client = Client::new(settings)?.because(options.reason.as_deref())?;
    let job = options.job;
    let (tenants, all) = recipients(options.tenant);
    if all && !options.yes {
        let view = of_job(&client, &job).await?;
        let whom = match view.preferences() {
            Some(follows) => format!("all {} tenants", follows.tenants),
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
        let (total, id) = (queued.total, queued.batch_id);
        View::default()
            .prose(format!("{job} is queued for {total} items"))
            .line("Look next:")
            .line(format!("  punctual-agent batches {id} --watch"))
            .line(format!("  punctual-agent results --batch {id}"))
    });
    Ok(())
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
            let (from, to) = (options.from, options.to);
            confirm(format!("Run {to_run} items of {job} from {from} to {to}?"))?;
        }
    }
    let key = options.idempotency_key;
    let report: BackfillReport = client.post_once(&path, &body, key, LONG_TIMEOUT).await?;
    if options.wait {
        return wait(&client, &report.count.batch_ids, options.json).await;
    }
    show(options.json, &report, counted);
    Ok(())
}

/// How many items a backfill runs, by date, and what to look at next.
fn counted(report: &BackfillReport) -> View {
    let (job, count) = (&report.job_id, &report.count);
    let verb = if report.preview {
        "would run"
    } else {
        "are queued"
    };
    let mut view = View::default().prose(format!(
        "{job}: {} items fell due, {} have not run and {verb}",
        count.due, count.to_run
    ));
    for (date, items) in &count.dates {
        view = view.line(format!("  {date}  {items}"));
    }
    if count.batch_ids.is_empty() {
        return view;
    }
    view.line("Look next:")
        .line(format!("  punctual-agent batches --job {job} --watch"))
}
