//! What the port [`RunHistory`] promises: the runs of one tenant for one feature that have ended, the newest first, each once.

use std::collections::BTreeSet;

use punctual_domain::{FeatureType, TenantId};

use super::{POLLS, cut_off};
use crate::ports::{PastRun, RunHistory};

/// Checks a history that knows the runs `known` of `tenant` for `feature`, at least two of them, the newest first, and none of
/// the tenant `none` or of the feature `none`.
///
/// # Panics
/// It breaks a promise.
pub async fn run_history(
    history: &dyn RunHistory,
    (tenant, feature): (&TenantId, &FeatureType),
    known: &[PastRun],
) {
    let works = "the history can be read";
    let listed = async |limit| {
        let listed = history.past_runs(tenant, feature, limit).await;
        listed.expect(works)
    };
    assert!(known.len() > 1, "the suite needs two runs to tell apart");
    let all = listed(100).await;
    assert_eq!(all, known);
    assert!(
        all.windows(2)
            .all(|pair| pair[0].scheduled_at >= pair[1].scheduled_at),
        "newest first"
    );
    let different: BTreeSet<_> = all
        .iter()
        .map(|run| (&run.job_id, run.occurrence))
        .collect();
    assert_eq!(different.len(), all.len(), "each once");
    assert_eq!(listed(1).await, known[..1], "the newest");

    let (no_tenant, no_feature) = (
        TenantId::new("none").expect("valid"),
        FeatureType::new("none").expect("valid"),
    );
    for (tenant, feature) in [(&no_tenant, feature), (tenant, &no_feature)] {
        let listed = history.past_runs(tenant, feature, 100).await;
        assert_eq!(listed.expect(works), [], "{tenant} {feature}");
    }

    // A call may be dropped at any point. The next one is whole.
    for polls in POLLS {
        cut_off(listed(100), polls).await;
        assert_eq!(listed(100).await, known);
    }
}
