//! Organizations on the pages of a tenant and of a job.

use punctual_application::{Binding, PurposeLimits, ports::MockPurposeHandler};
use punctual_domain::{PreferenceRecord, PurposeId};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_page_of_a_tenant_says_what_the_organization_gave() {
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = operator(&store);
    let given = json!({"id": "acme", "fields": ["frequency"]});
    let database = testing::FakeConfigDatabase::default();
    database.put(PreferenceRecord {
        organization: Some(Arc::new(serde_json::from_value(given).unwrap())),
        ..record("ann", json!({"enabled": true, "frequency": "daily"}))
    });
    operator.preferences = Arc::new(database);
    let page = Visit::of(operator, store).open("/tenants/ann").await;
    page.has("<th scope=\"row\">frequency</th><td>daily</td><td>organization acme</td>")
        .has("<th scope=\"row\">enabled</th><td>true</td><td>the tenant</td>");
}

#[tokio::test(start_paused = true)]
async fn the_page_of_a_job_says_its_limits_of_each_organization() {
    let label = "Limits per organization";
    Visit::new().open("/jobs/posts").await.lacks(label);
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = operator(&store);
    let limits = PurposeLimits {
        requests_per_minute_per_organization: Some(60),
        tokens_per_minute_per_organization: Some(1),
        ..PurposeLimits::default()
    };
    let binding = Binding {
        limits,
        ..Binding::default()
    };
    let purpose = PurposeId::new("post").unwrap();
    let handler = Arc::new(MockPurposeHandler::new());
    operator.handlers.bind(purpose, handler, binding);
    let job = Visit::of(operator, store).open("/jobs/posts").await;
    job.has(label)
        .has("60 calls per minute, 1 token per minute, in each process");
}
