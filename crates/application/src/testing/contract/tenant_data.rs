//! What the port [`TenantData`] promises: the data of the tenants that are asked for and of no others, however often and
//! in whatever company.

use punctual_domain::{
    DataConfig, DataRequest, DataSource, DataTenant, OnEmpty, Previous, TenantId,
};
use serde_json::json;

use super::{POLLS, at, cut_off, job};
use crate::ports::{TenantAnswers, TenantData};

/// Tenants, and the text that is the data of each: what an implementation must hold for the suite. No other tenant of the
/// suite has data.
pub const DATA: [(&str, &str); 2] = [
    ("data-ann", "three new orders"),
    ("data:bob@shop.example", "{\"a\": 1} is text"),
];

/// Checks what fetches data of tenants from `source`. It must hold [`DATA`].
///
/// # Panics
/// It breaks a promise.
pub async fn tenant_data(data: &dyn TenantData, source: &DataSource) {
    let config = DataConfig {
        source: source.clone(),
        on_empty: OnEmpty::Skip,
    };
    let all = ["data-ann", "data-eve", "data:bob@shop.example"];
    // As many at a time as the source is asked for.
    for tenants in all.chunks(config.tenants_per_request()) {
        has_what_it_should(data, source, &request(tenants, None)).await;
        has_what_it_should(data, source, &request(tenants, Some(previous()))).await;
    }

    // Each has the same beside others, and again.
    let requests = all.map(|tenant| request(&[tenant], None));
    let calls = requests
        .iter()
        .chain(&requests)
        .map(|request| has_what_it_should(data, source, request));
    futures::future::join_all(calls).await;

    // A call may be dropped at any point.
    for polls in POLLS {
        cut_off(data.fetch(source, &requests[0]), polls).await;
        has_what_it_should(data, source, &requests[0]).await;
    }
}

async fn has_what_it_should(data: &dyn TenantData, source: &DataSource, request: &DataRequest) {
    let answers = data.fetch(source, request).await;
    let answers: TenantAnswers = answers.expect("it answers");
    for tenant in &request.tenants {
        let tenant = &tenant.tenant_id;
        let answer = answers.get(tenant);
        let answer = answer.map(|answer| answer.as_ref().expect("it can be read"));
        let answer = answer.filter(|answer| !punctual_domain::is_empty_data(answer));
        let expected = DATA.iter().find(|(id, _)| *id == tenant.as_str());
        let expected = expected.map(|(_, text)| json!(text));
        assert_eq!(answer, expected.as_ref(), "{tenant}");
    }
    let is_asked_for =
        |tenant: &TenantId| request.tenants.iter().any(|one| one.tenant_id == *tenant);
    assert!(answers.keys().all(is_asked_for), "{answers:?}");
}

fn request(tenants: &[&str], previous: Option<Previous>) -> DataRequest {
    let tenant = |id: &&str| DataTenant {
        tenant_id: TenantId::new(id).expect("valid"),
        previous,
    };
    DataRequest {
        job_id: job(),
        occurrence: "2026-03-02".parse().expect("an occurrence"),
        scheduled_at: at("2026-03-02T09:00:00Z"),
        tenants: tenants.iter().map(tenant).collect(),
    }
}

fn previous() -> Previous {
    Previous {
        occurrence: "2026-03-01".parse().expect("an occurrence"),
        scheduled_at: at("2026-03-01T09:00:00Z"),
        finished_at: at("2026-03-01T09:00:02Z"),
    }
}
