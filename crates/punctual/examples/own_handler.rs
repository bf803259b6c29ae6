//! Work of your own for each user, when that user wants it. The users' preferences are kept by the reference Config
//! Database in this process; a real service would leave them there, and its users would change them.
//!
//! `cargo run -p punctual --example own_handler`

use std::time::Duration;

use async_trait::async_trait;
use punctual::{
    FeatureType, HandlerError, Item, Job, JobId, Outcome, Punctual, PurposeHandler, TriggerRequest,
};
use punctual_config_database::ConfigStore;
use serde_json::json;
use tokio::sync::mpsc;

/// What your product does for one user.
struct Greeter(mpsc::Sender<String>);

#[async_trait]
impl PurposeHandler for Greeter {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let word = item
            .overrides()
            .and_then(|overrides| overrides.get("word")?.as_str());
        let text = format!("{}, {}!", word.unwrap_or("Hello"), item.item_id);
        // Hand `item.idempotency_key()` on to whatever has an effect outside. Any error is retried.
        self.0.send(text.clone()).await?;
        Ok(json!({ "text": text }).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());

    let preferences = ConfigStore::open(&file("config.db")).await?;
    let greetings = FeatureType::new("greetings")?;
    for (tenant, word) in [("ann", "Good morning"), ("bob", "Moin")] {
        let preference = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00",
            "timezone": "Europe/Berlin", "template_overrides": {"word": word}});
        let preference = preference.as_object().cloned().unwrap_or_default();
        preferences
            .put(&tenant.parse()?, &greetings, preference)
            .await?;
    }

    let (texts, mut greeted) = mpsc::channel(16);
    let punctual = Punctual::builder()
        .store(file("punctual.db"))
        .preferences(preferences)
        .handler("greet", Greeter(texts))
        .job(Job::following("greetings").runs("greet"))
        .start()
        .await?;

    // It falls due at nine in Berlin. An operator runs it now.
    punctual.ready().await;
    let (operator, everybody) = (punctual.operator(), TriggerRequest::default());
    operator
        .trigger(
            &"example".into(),
            None,
            &JobId::new("greetings")?,
            &everybody,
        )
        .await?;
    let mut texts = [greeted.recv().await, greeted.recv().await];
    texts.sort();
    for text in texts.into_iter().flatten() {
        println!("{text}");
    }
    punctual.shut_down(Duration::from_secs(20)).await;
    Ok(())
}
