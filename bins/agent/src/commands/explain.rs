//! `explain`: why a tenant ran, will run, or did not.

use punctual_application::Explanation;
use punctual_domain::visible;

use super::Failure;
use crate::{
    cli::ExplainOptions,
    client::Client,
    output::{View, show},
    settings::Settings,
};

pub(crate) async fn explain(settings: &Settings, options: ExplainOptions) -> Result<(), Failure> {
    let ExplainOptions {
        tenant,
        job,
        date,
        json,
    } = options;
    let mut query = vec![("job_id", job.to_string())];
    query.extend(date.map(|date| ("date", date.to_string())));
    let path = format!("tenants/{tenant}/explain");
    let explained: Explanation = Client::new(settings)?.get(&path, &query).await?;
    show(json, &explained, |explained| {
        let words = visible(&explained.explanation);
        let mut view = View::default().prose(format!("{tenant} in {job}: {words}"));
        for (name, value) in [
            (
                "organization",
                explained.organization.as_ref().map(ToString::to_string),
            ),
            ("slot", explained.slot.clone()),
            (
                "occurrence",
                explained.occurrence.map(|run| run.to_string()),
            ),
            ("batch", explained.batch_id.map(|id| id.to_string())),
        ] {
            if let Some(value) = value {
                view = view.line(format!("  {name:<13}{value}"));
            }
        }
        view
    });
    Ok(())
}
