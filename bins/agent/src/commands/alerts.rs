//! `alerts`: the channels that alerts go out by.

use punctual_application::AlertTestReport;

use super::Failure;
use crate::{
    cli::Alerts,
    client::{Client, NO_BODY},
    output::{Table, Tone, View, cell, show},
    settings::Settings,
};

pub(crate) async fn alerts(settings: &Settings, what: Alerts) -> Result<(), Failure> {
    let Alerts::Test { json } = what;
    let client = Client::new(settings)?;
    let report: AlertTestReport = client.post("alerts/test", NO_BODY).await?;
    let all_sent = report.answers.iter().all(|answer| answer.sent);
    show(json, &report, |report| {
        let mut table = Table::new(["channel", "sent", "answer"]);
        for answer in &report.answers {
            table.row([
                cell(&answer.channel),
                cell(if answer.sent { "yes" } else { "no" }),
                cell(&answer.answer),
            ]);
        }
        let view = View::default().table(&table);
        if all_sent {
            view.toned(Tone::Good, "Check that the test has arrived")
        } else {
            view.toned(Tone::Bad, "Not every channel has taken the test")
        }
    });
    if all_sent {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}
