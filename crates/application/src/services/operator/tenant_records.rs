//! Erases what is held of a tenant, and gives it out.

use std::collections::BTreeMap;

use punctual_domain::TenantId;
use tracing::info;

use super::{Actor, Operator, OperatorError, amount};
use crate::{
    ports::{ErasedRecords, TenantExport},
    tenant_hash,
};

/// What stands for a tenant in the audit log: the [hash](fn@tenant_hash) of the id.
fn subject_of(tenant_id: &TenantId) -> String {
    format!("tenant {}", tenant_hash(tenant_id))
}

impl Operator {
    /// Erases everything that this agent and its store hold of a tenant: runs and what they brought, what is queued, runs or waits,
    /// and the last known preferences. Keyed hashes of the runs stay, so that none runs again. It may be repeated. The Config Database
    /// holds the preferences themselves: erase the tenant there first, or they are read again.
    ///
    /// # Errors
    /// The last known preferences cannot be rewritten, or the store fails.
    pub async fn erase_tenant(
        &self,
        actor: &Actor,
        tenant_id: &TenantId,
    ) -> Result<ErasedRecords, OperatorError> {
        let hash = subject_of(tenant_id);
        self.record(actor, "erase_tenant", &hash, "").await?;
        // A disk that fails keeps nothing else from being erased.
        let now = self.clock.now();
        let tenant = BTreeMap::from([(tenant_id.clone(), now)]);
        let forgotten = self.preferences.forget(&tenant).await;
        for job in self.status.get().jobs.values() {
            job.mirror.write(|mirror| mirror.forget(tenant_id));
        }
        let erased = self.tenant_records.erase(tenant_id, now).await;
        let erased = self.noted(erased)?;
        let (runs, items) = (
            amount(erased.runs, "run"),
            amount(erased.items, "open item"),
        );
        info!("Operator erased {hash}, with {runs} and {items}");
        forgotten.map_err(|error| {
            OperatorError::Unavailable(format!(
                "{error}; all else is erased, so repeat the erasure"
            ))
        })?;
        Ok(erased)
    }

    /// Everything that the store holds of a tenant.
    ///
    /// # Errors
    /// The store fails, or it is too much for one document.
    pub async fn export_tenant(
        &self,
        actor: &Actor,
        tenant_id: &TenantId,
    ) -> Result<TenantExport, OperatorError> {
        self.record(actor, "export_tenant", &subject_of(tenant_id), "")
            .await?;
        Ok(self.noted(self.tenant_records.export(tenant_id).await)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use punctual_domain::{ItemStatus, JobId, Mirror, Zone};
    use serde_json::json;

    use super::*;
    use crate::{
        TriggerRequest,
        ports::{
            AuditEntry, AuditFilter, ConfigDatabaseError, ConfigErrorKind, MockConfigDatabase,
            OperatorStore, Page,
        },
        testing::{self, FakeStore, record},
    };

    const NOW: &str = "2026-03-01T09:00:00Z";

    fn operator(store: &Arc<FakeStore>) -> Operator {
        let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
            "preference_based": true, "feature_type": "posts"}]});
        let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
        testing::operator(store, jobs, NOW)
    }

    #[tokio::test]
    async fn an_erasure_leaves_the_mirror_without_the_tenant_and_the_log_without_the_id() {
        let store: Arc<FakeStore> = Arc::default();
        let operator = operator(&store);
        let (actor, posts) = (Actor::from("a test"), JobId::new("posts").unwrap());
        let [ann, bob] = ["ann", "bob"].map(|id| TenantId::new(id).unwrap());
        let daily = json!({"enabled": true, "frequency": "daily"});
        let records = [record("ann", daily.clone()), record("bob", daily)];
        testing::schedule(&operator, &posts, &records);
        let request = TriggerRequest {
            tenants: Some([ann.clone(), bob.clone()].into()),
            allow_unknown: true,
            ..TriggerRequest::default()
        };
        operator
            .trigger(&actor, None, &posts, &request)
            .await
            .unwrap();
        store
            .end_all(ItemStatus::Succeeded, NOW.parse().unwrap())
            .await;
        let held = operator.export_tenant(&actor, &ann).await.unwrap();
        assert_eq!(held.0["runs"].len(), 1);

        let because = actor.clone().because("asked by ann, as request 7");
        let erased = operator.erase_tenant(&because, &ann);
        assert_eq!(erased.await.unwrap().runs, 1);
        let held = operator.export_tenant(&actor, &ann).await.unwrap();
        assert!(held.0.values().all(Vec::is_empty), "{held:?}");
        let held = operator.export_tenant(&actor, &bob).await.unwrap();
        assert_eq!(held.0["runs"].len(), 1);
        let status = operator.status.get();
        assert_eq!(status.jobs[&posts].mirror.read(Mirror::tenants), [bob]);

        let all = Page::default();
        let (log, _) = store
            .audit_log(&AuditFilter::default(), &all)
            .await
            .unwrap();
        let entry = log
            .iter()
            .find(|entry| entry.action == "erase_tenant")
            .unwrap();
        assert_eq!(entry.subject, subject_of(&ann));
        let reason = entry.reason.as_deref();
        assert_eq!(reason, Some("asked by erased tenant, as request 7"));
        assert_eq!(entry.detail, "");
        let is_named = |entry: &AuditEntry| format!("{entry:?}").contains("ann");
        assert!(!log.iter().any(is_named), "{log:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_forgotten_on_disk_is_an_error_and_all_else_is_erased() {
        let store: Arc<FakeStore> = Arc::default();
        let (actor, ann) = (Actor::from("a test"), TenantId::new("ann").unwrap());
        let preview = AuditEntry {
            at: NOW.parse().unwrap(),
            by: "a test".into(),
            action: "preview".into(),
            subject: "ann".into(),
            detail: String::new(),
            reason: None,
        };
        store.record(&preview).await.unwrap();
        let mut preferences = MockConfigDatabase::new();
        preferences.expect_forget().returning(|_| {
            let kind = ConfigErrorKind::Unavailable;
            Err(ConfigDatabaseError::new(kind, "the disk is full"))
        });
        let operator = Operator {
            preferences: Arc::new(preferences),
            ..operator(&store)
        };
        let refused = operator.erase_tenant(&actor, &ann).await.unwrap_err();
        assert!(
            refused.to_string().contains("the disk is full"),
            "{refused}"
        );
        let (all, page) = (AuditFilter::default(), Page::default());
        let (log, _) = store.audit_log(&all, &page).await.unwrap();
        assert!(log.iter().all(|entry| entry.subject != "ann"), "{log:?}");
    }
}
