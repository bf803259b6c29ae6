//! Previews, as operators ask for them.

use super::*;
use crate::{PreviewStatus, testing::FakeItemSource};

fn request(tenant: &str, call: bool) -> PreviewRequest {
    PreviewRequest {
        tenant_id: TenantId::new(tenant).unwrap(),
        call,
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_preview_that_calls_is_written_down_and_none_is_queued() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = testing::with_own_processor(serving(&store), &store);
    let preview = async |tenant: &str, call: bool| {
        let request = request(tenant, call);
        operator.preview(&actor(), &posts(), &request).await
    };
    // The purpose has no handler: what a run would find is not an error of the call.
    let failed = preview("unread", false).await.unwrap();
    assert_eq!(failed.status, PreviewStatus::Failed);
    assert!(failed.reason.unwrap().contains("has no handler"));
    assert_eq!(failed.stored, Some(true));
    let unknown = preview("never", false).await.unwrap();
    assert_eq!(unknown.stored, Some(false));
    preview("unread", true).await.unwrap();
    {
        let place = || operator.processor.preview_place().unwrap();
        let _full = (place(), place());
        let busy = preview("unread", true).await.unwrap_err();
        assert!(matches!(busy, OperatorError::Unavailable(_)), "{busy}");
    }

    let none = JobId::new("none").unwrap();
    let request = request("ann", true);
    let missing = operator.preview(&actor(), &none, &request).await;
    assert!(matches!(missing, Err(OperatorError::NotFound(_))));
    let (entries, _) = store
        .audit_log(&AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    let entry = &entries[0];
    assert_eq!(
        (entry.action.as_str(), entry.subject.as_str()),
        ("preview", "posts")
    );
    assert_eq!(
        (entry.by.as_str(), entry.detail.as_str()),
        ("a test", "a dry run for unread")
    );
    assert!(store.pending().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_item_of_a_plain_job_is_previewed_by_its_id() {
    let store: Arc<FakeStore> = Arc::default();
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
        "schedule": {"frequency": "daily", "preferred_time": "06:00"}, "source": {"file": "items.json"}}]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    let items = FakeItemSource::default();
    items.put("items.json", ["mug"]);
    let operator = Operator {
        item_source: Arc::new(items),
        ..testing::operator(&store, jobs, "2026-03-01T09:00:00Z")
    };
    let operator = testing::with_own_processor(operator, &store);
    let preview = async |item: &str| {
        let request = request(item, false);
        operator.preview(&actor(), &posts(), &request).await
    };
    let mug = preview("mug").await.unwrap();
    assert_eq!(
        (mug.stored, mug.enabled, mug.preference),
        (None, None, None)
    );
    assert!(mug.data.is_some());
    let cup = preview("cup").await.unwrap();
    assert_eq!(cup.status, PreviewStatus::Skipped);
    assert_eq!(cup.reason.as_deref(), Some("posts has no item `cup`"));
}
