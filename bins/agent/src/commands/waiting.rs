//! `waiting`: items whose work goes on elsewhere.

use punctual_application::amount;
use punctual_operations::model::{WaitingCall, WaitingCalls};

use super::{Failure, results::so_far};
use crate::{
    cli::WaitingOptions,
    client::Client,
    output::{Table, View, cell, minute, show},
    settings::Settings,
};

pub(crate) async fn waiting(settings: &Settings, options: WaitingOptions) -> Result<(), Failure> {
    let WaitingOptions {
        job,
        tenant,
        batch,
        limit,
        json,
    } = options;
    let mut query = vec![];
    query.extend(job.map(|job| ("job_id", job.to_string())));
    query.extend(tenant.map(|tenant| ("tenant_id", tenant.to_string())));
    query.extend(batch.map(|batch| ("batch_id", batch.to_string())));
    let entries = |page: WaitingCalls| (page.waiting, page.next_cursor);
    let client = Client::new(settings)?;
    let (waiting, more) = client.first("waiting", query, limit, entries).await?;
    let answer = WaitingCalls {
        waiting,
        next_cursor: None,
    };
    show(json, &answer, |answer| {
        if answer.waiting.is_empty() {
            return View::default().line("Nothing waits");
        }
        let mut table = Table::new(["job and tenant", "since", "waiting", "at the deadline"]);
        for call in &answer.waiting {
            table.row([
                cell(&call.job_id).below(items(call)),
                cell(minute(call.waiting.since)),
                so_far(&call.waiting),
                if call.cancelled {
                    cell("cancelled")
                } else {
                    cell(call.at_deadline)
                },
            ]);
        }
        let view = View::default().table(&table);
        if more {
            return view.prose(format!("There are more; --limit shows more than {limit}"));
        }
        view
    });
    Ok(())
}

/// What a call is for.
fn items(call: &WaitingCall) -> String {
    match call.tenant_ids.as_slice() {
        [item] => item.to_string(),
        items => amount(items.len() as u64, "item"),
    }
}
