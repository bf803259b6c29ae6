//! How code on these crates is unit-tested: the handler is a mock that says what it must be called with, the
//! store and the Config Database are the in-memory fakes. No network, no disk, no waiting.
//!
//! In your crate, ask for the mocks in the tests only:
//! `punctual-application = { version = "…", features = ["mocks"] }` under `[dev-dependencies]`.

use std::{sync::Arc, time::Duration};

use punctual_application::{
    BatchProcessor, ChunkReport, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{HandlerError, MockItemSource, MockPurposeHandler, WorkQueue},
    testing::{FakeConfigDatabase, FakeStore, ManualClock},
};
use punctual_domain::{
    BatchConfig, Firing, NewBatch, PreferenceRecord, PurposeId, TenantId, Trigger, Zone,
};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    a_tenants_tone_reaches_the_handler_and_one_failure_is_retried().await;
    println!("the test passes");
}

async fn a_tenants_tone_reaches_the_handler_and_one_failure_is_retried() {
    // Given a tenant with a tone of their own,
    let ann = TenantId::new("ann").expect("a valid id");
    let config_database = FakeConfigDatabase::default();
    let preference = json!({"enabled": true, "template_overrides": {"tone": "dry"}});
    config_database.put(PreferenceRecord {
        tenant_id: ann.clone(),
        preference: Arc::new(preference.as_object().expect("an object").clone()),
        updated_at: None,
        schedule_since: None,
    });

    // a handler that is busy at first,
    let mut handler = MockPurposeHandler::new();
    let mut sequence = mockall::Sequence::new();
    handler
        .expect_run()
        .once()
        .in_sequence(&mut sequence)
        .returning(|_| Err(HandlerError::retryable("busy")));
    handler
        .expect_run()
        .withf(|item| {
            let tone =
                &item.preference.as_ref().expect("preference-based")["template_overrides"]["tone"];
            tone == "dry" && item.attempt == 2
        })
        .once()
        .in_sequence(&mut sequence)
        .returning(|_| Ok(json!("posted")));

    // and a batch that fell due for the tenant,
    let config = Arc::new(
        BatchConfig::parse(
            &json!({"jobs": [{
                "job_id": "posts", "type": "individual_batch", "purpose_id": "post", "preference_based": true,
                "feature_type": "posts", "default_preferences": {"frequency": "daily"}
            }]}),
            &Zone::utc(),
        )
        .expect("no mistakes"),
    );
    let due = "2026-03-01T09:00:00Z".parse().expect("an instant");
    let job = &config.jobs[0];
    let batch = NewBatch::new(
        &job.job_id,
        job.priority,
        "daily 09:00 UTC".into(),
        due,
        "2026-03-01".parse().expect("an occurrence"),
        Trigger::Schedule,
        due,
        std::slice::from_ref(&ann),
        500,
    );
    let chunk = batch.chunks[0].clone();
    let store = Arc::new(FakeStore::default());
    store
        .enqueue(
            Firing {
                batches: vec![batch],
                progress: vec![],
            },
            due,
        )
        .await
        .expect("in memory");

    // when the processor runs the batch,
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("post").expect("a valid id"),
        Arc::new(handler),
        Duration::from_secs(1),
    );
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
    let (_stopping, stopped) = tokio::sync::watch::channel(false);
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, store, clock),
        Arc::new(config_database),
        Arc::new(MockItemSource::new()),
        config,
        Zone::utc(),
        Limits {
            max_concurrent_items: 1,
            retry: RetryPolicy::new(3, || 0.0),
        },
        stopped,
    );
    let report = processor.process(&chunk).await.expect("nothing fails");

    // then the tenant has one result; the mock has checked its calls when it is dropped.
    assert_eq!(
        report,
        ChunkReport {
            succeeded: 1,
            failed: 0,
            skipped: 0
        }
    );
}
