//! What the port [`BatchReader`](crate::ports::BatchReader) promises of its lists.

use punctual_domain::BatchStatus;

use super::{Tested, job, tenants};
use crate::ports::{
    BatchFilter, BatchStore, Page, ResultFilter, StoreErrorKind, TenantRuns, WorkQueue,
};

pub(super) async fn lists_are_paged_without_losing_or_repeating<S: WorkQueue + BatchStore>(
    &Tested { reader, .. }: &Tested<'_, S>,
) {
    let filter = BatchFilter {
        job_id: Some(job()),
        status: None,
    };
    let (all, next) = reader
        .batches(&filter, &Page::default())
        .await
        .expect("works");
    assert_eq!((all.len(), next), (5, None));
    assert!(
        all.windows(2)
            .all(|pair| pair[0].scheduled_at >= pair[1].scheduled_at),
        "newest first"
    );
    let completed = BatchFilter {
        job_id: None,
        status: Some(BatchStatus::Completed),
    };
    assert_eq!(
        reader
            .batches(&completed, &Page::default())
            .await
            .expect("works")
            .0
            .len(),
        3
    );

    let mut paged = Vec::new();
    let mut page = Page {
        cursor: None,
        limit: 2,
    };
    loop {
        let (batches, next) = reader.batches(&filter, &page).await.expect("works");
        paged.extend(batches);
        let Some(next) = next else { break };
        page.cursor = Some(next);
    }
    assert_eq!(paged, all);

    let tenant = TenantRuns {
        item_id: tenants(0..1)[0].clone(),
        job_id: None,
        since: None,
    };
    let (runs, next) = reader
        .tenant_runs(
            &tenant,
            &Page {
                cursor: None,
                limit: 2,
            },
        )
        .await
        .expect("works");
    let dates: Vec<String> = runs.iter().map(|run| run.occurrence.to_string()).collect();
    assert_eq!(dates, ["2026-03-04", "2026-03-03"]);
    let (rest, next) = reader
        .tenant_runs(
            &tenant,
            &Page {
                cursor: next,
                limit: 2,
            },
        )
        .await
        .expect("works");
    let dates: Vec<String> = rest.iter().map(|run| run.occurrence.to_string()).collect();
    assert_eq!((dates, next), (vec!["2026-03-02".to_owned()], None));
    let lately = TenantRuns {
        since: Some(runs[1].scheduled_at),
        ..tenant.clone()
    };
    let lately = reader.tenant_runs(&lately, &Page::default()).await;
    assert_eq!(lately.expect("works"), (runs, None), "from an instant on");

    let filter = ResultFilter {
        batch_id: all[0].batch_id,
        status: None,
    };
    let nonsense = Page {
        cursor: Some("\0nonsense".into()),
        limit: 2,
    };
    let errors = [
        reader
            .batches(&BatchFilter::default(), &nonsense)
            .await
            .err(),
        reader.tenant_runs(&tenant, &nonsense).await.err(),
        reader.results(&filter, &nonsense).await.err(),
    ];
    for error in errors {
        let error = error.expect("a cursor that is none is refused");
        assert_eq!(error.kind(), StoreErrorKind::InvalidCursor);
    }
}
