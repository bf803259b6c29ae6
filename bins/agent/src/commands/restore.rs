//! `restore`: the decision about a store that was restored from an older copy.

use punctual_application::{RestoreReport, RestoreRequest, amount};
use punctual_domain::RestoreChoice;
use punctual_operations::model;

use super::Failure;
use crate::{
    cli::RestoreOptions,
    client::{Client, LONG_TIMEOUT},
    output::{View, show},
    settings::Settings,
};

pub(crate) async fn restore(settings: &Settings, options: RestoreOptions) -> Result<(), Failure> {
    let client = Client::new(settings)?;
    let Some(choice) = options.choice else {
        let state: model::Restore = client.get("restore", &[]).await?;
        show(options.json, &state, |state| {
            match &state.restored {
            None => View::default().line("The store is not held: there is nothing to decide"),
            Some(restored) => View::default()
                .prose(format!(
                    "The store was restored from an older copy, and nothing is planned or run: {}",
                    restored.in_words()
                ))
                .line("Decide next:")
                .line("  punctual-agent restore skip    (it most likely ran before)")
                .line("  punctual-agent restore repeat  (it runs again, with the same idempotency keys)"),
        }
        });
        return Ok(());
    };
    let request = RestoreRequest { choice };
    let settled: RestoreReport = client
        .post_within("restore", &request, LONG_TIMEOUT)
        .await?;
    show(options.json, &settled, |settled| {
        let view = View::default();
        match settled.choice {
            RestoreChoice::Skip => view.prose(format!(
                "The store goes on. What fell due in the lost time is skipped, with {} and {} of the copy",
                amount(settled.cancelled_batches, "batch"),
                amount(settled.given_up_deliveries, "delivery")
            )),
            RestoreChoice::Repeat => view.line("The store goes on. What fell due in the lost time runs again"),
        }
    });
    Ok(())
}
