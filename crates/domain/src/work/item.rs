//! Items: the work for one tenant in one occurrence, and the key under which its effect happens once.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    ids::{FeatureType, JobId, PurposeId, TenantId},
    time::occurrence::Occurrence,
};

/// What a handler is given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Whose work it is.
    pub tenant_id: TenantId,
    /// Which job.
    pub job_id: JobId,
    /// What to run.
    pub purpose_id: PurposeId,
    /// The feature, for preference-based jobs.
    pub feature_type: Option<FeatureType>,
    /// The batch that brought it.
    pub batch_id: Uuid,
    /// Which run of the job for this tenant.
    pub occurrence: Occurrence,
    /// When it fell due.
    pub scheduled_at: DateTime<Utc>,
    /// The tenant's merged preference, for preference-based jobs.
    pub preference: Option<Value>,
    /// The item as its source gave it, for plain jobs.
    pub data: Option<Value>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How its idempotency key is written.
    #[serde(skip)]
    pub key_form: KeyForm,
}

impl Item {
    /// The same on every attempt and after every crash, so that the remote endpoint can make its effect once.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.key_form
            .key(&self.job_id, &self.tenant_id, self.occurrence)
    }
}

/// How the idempotency key of a run is written. A batch keeps its form, so that a retry or a replay after an upgrade
/// has the key of the first attempt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum KeyForm {
    /// `job:tenant:occurrence`, of batches that earlier versions queued. Ids may contain `:`, so it is ambiguous.
    #[default]
    Colons,
    /// `job/tenant/occurrence`. No id contains `/`.
    Slashes,
}

impl KeyForm {
    /// The idempotency key of a run.
    #[must_use]
    pub fn key(self, job: &JobId, tenant: &TenantId, occurrence: Occurrence) -> String {
        match self {
            Self::Colons => format!("{job}:{tenant}:{occurrence}"),
            Self::Slashes => format!("{job}/{tenant}/{occurrence}"),
        }
    }

    /// The word in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Colons => "colons",
            Self::Slashes => "slashes",
        }
    }
}

impl std::str::FromStr for KeyForm {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Colons, Self::Slashes]
            .into_iter()
            .find(|form| form.as_str() == word)
            .ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runs_share_a_key_whatever_characters_ids_have() {
        let occurrence = "2026-03-02".parse().unwrap();
        let key = |form: KeyForm, job: &str, tenant: &str| {
            let (job, tenant) = (JobId::new(job).unwrap(), TenantId::new(tenant).unwrap());
            form.key(&job, &tenant, occurrence)
        };
        for (one, other) in [
            (("news", "eu:ann"), ("news:eu", "ann")),
            (("a", "b:c"), ("a:b", "c")),
            (("a", "b:2026-03-02"), ("a:b", "2026-03-02")),
            (("a", ":"), ("a:", ":")),
        ] {
            let slashes = |(job, tenant)| key(KeyForm::Slashes, job, tenant);
            assert_ne!(slashes(one), slashes(other));
        }
        assert_eq!(
            key(KeyForm::Colons, "news", "eu:ann"),
            "news:eu:ann:2026-03-02",
            "what is queued keeps its key"
        );
    }
}
