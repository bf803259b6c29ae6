//! What is said of runs that are prepared ahead.

use punctual_domain::{NewBatch, Priority};

use super::*;

/// An operator of a job that is prepared ahead, for `ann`, who has chosen nine o'clock.
fn prepared_ahead(store: &Arc<FakeStore>) -> Operator {
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
        "preference_based": true, "feature_type": "posts", "prepare_ahead": "12h"}]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    let mut operator = testing::operator(store, jobs, "2026-03-01T21:00:00Z");
    let stored = record("ann", json!({"enabled": true, "frequency": "daily"}));
    testing::schedule(&operator, &posts(), std::slice::from_ref(&stored));
    let database = FakeConfigDatabase::default();
    database.put(stored);
    operator.preferences = Arc::new(database);
    let mut handler = MockPurposeHandler::new();
    handler
        .expect_run()
        .times(1)
        .returning(|_| Ok(json!("text").into()));
    let purpose = PurposeId::new("p").unwrap();
    operator
        .handlers
        .bind(purpose, Arc::new(handler), Handlers::DEFAULT_TIMEOUT);
    testing::with_own_processor(operator, store)
}

#[tokio::test(start_paused = true)]
async fn an_explanation_says_how_far_a_run_has_been_prepared() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = prepared_ahead(&store);
    let tenant = TenantId::new("ann").unwrap();
    let tomorrow = Some("2026-03-02".parse().unwrap());
    let explain = async || {
        let explained = operator.explain(&tenant, &posts(), tomorrow).await;
        explained.unwrap().explanation
    };
    let will_run = "will run: due at 2026-03-02 09:00:00 UTC";
    assert_eq!(explain().await, will_run);

    let now = operator.clock.now();
    let due_at = at("2026-03-02T09:00:00Z");
    let batch = NewBatch::preparing(
        &posts(),
        Priority::Medium,
        "daily 09:00 UTC".to_owned(),
        due_at,
        "2026-03-02".parse().unwrap(),
        "p",
        now,
        &[ItemId::from(&tenant)],
        10,
    );
    let firing = Firing {
        batches: vec![batch],
        positions: vec![],
    };
    store.enqueue(firing, now).await.unwrap();
    assert_eq!(
        explain().await,
        format!("{will_run}; being prepared since 2026-03-01 21:00:00 UTC")
    );
    store.work(&operator.processor).await.unwrap();
    assert_eq!(
        explain().await,
        format!(
            "{will_run}; ready since 2026-03-01 21:00:00 UTC, goes out at 2026-03-02 09:00:00 UTC"
        )
    );
}
