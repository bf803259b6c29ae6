//! `suppressions`: addresses that no e-mail is sent to.

use punctual_application::{SuppressReport, SuppressRequest, amount};
use punctual_operations::model;

use super::Failure;
use crate::{
    cli::Suppressions,
    client::Client,
    output::{Table, View, cell, instant, show},
    settings::Settings,
};

pub(crate) async fn suppressions(settings: &Settings, what: Suppressions) -> Result<(), Failure> {
    let client = Client::new(settings)?;
    match what {
        Suppressions::List { limit, json } => list(&client, limit, json).await,
        Suppressions::Add {
            addresses,
            reason,
            json,
        } => {
            let count = addresses.len() as u64;
            let request = SuppressRequest { addresses, reason };
            let report: SuppressReport = client.post("suppressions", Some(&request)).await?;
            show(json, &report, |report| {
                let added = amount(report.added, "address");
                View::default().line(match count - report.added.min(count) {
                    0 => format!("Added {added}: no e-mail is sent there"),
                    known => format!("Added {added}; {known} on the list already"),
                })
            });
            Ok(())
        }
        Suppressions::Remove { address, json } => {
            let removed: model::Unsuppressed =
                client.delete("suppressions", address.as_str()).await?;
            show(json, &removed, |removed| {
                let address = &removed.address;
                View::default().line(format!("Removed {address}: e-mails are sent there again"))
            });
            Ok(())
        }
    }
}

async fn list(client: &Client, limit: usize, json: bool) -> Result<(), Failure> {
    let entries = |page: model::Suppressions| (page.suppressions, page.next_cursor);
    let (suppressions, more) = client.first("suppressions", vec![], limit, entries).await?;
    let answer = model::Suppressions {
        suppressions,
        next_cursor: None,
    };
    show(json, &answer, |answer| {
        if answer.suppressions.is_empty() {
            return View::default().line("No address is suppressed");
        }
        let mut table = Table::new(["address", "since", "reason"]);
        for entry in &answer.suppressions {
            table.row([
                cell(&entry.address),
                cell(instant(entry.at)),
                cell(&entry.reason).below(&entry.by),
            ]);
        }
        let view = View::default().table(&table);
        if more {
            return view.prose(format!(
                "There are older ones; --limit shows more than {limit}"
            ));
        }
        view
    });
    Ok(())
}
