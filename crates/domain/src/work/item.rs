//! Items: the work for one tenant in one occurrence, and the key under which its effect happens once.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    ids::{FeatureType, ItemId, JobId, OrganizationId, PurposeId},
    input::words::words,
    preference::effective::{MergedPreference, SharedPreference},
    time::occurrence::Occurrence,
    work::fingerprint::Fingerprint,
};

/// Unit of work that a handler is called with.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Tenant that the work is for, or the item of a plain job.
    pub item_id: ItemId,
    /// Job that the item belongs to.
    pub job_id: JobId,
    /// Purpose that is run.
    pub purpose_id: PurposeId,
    /// Batch that the item belongs to.
    pub batch_id: Uuid,
    /// Which run of the job for this tenant.
    pub occurrence: Occurrence,
    /// Due time.
    pub scheduled_at: DateTime<Utc>,
    /// The fingerprint of its parameters, where the call only prepares the run; `None`: the call is the run. It is not part of
    /// the item's JSON.
    pub prepares: Option<Fingerprint>,
    /// Input of the run.
    pub input: ItemInput,
    /// The tenant's own data, fetched for the item as the job's `data` says; `null`: the tenant has none. `None`: it has not
    /// been fetched.
    pub fetched: Option<Value>,
    /// The last run of the job for this tenant that succeeded and was due before this one, as far as it is known when the
    /// item's chunk begins; `None`: there was none, its result has been removed, or the purpose does without
    /// (`Binding::reads_previous`).
    pub previous: Option<Previous>,
    /// The result of the job's first purpose, where the job has a second one and this is its call; `None`: this is the call of
    /// the first purpose, or of the only one.
    pub written: Option<Value>,
    /// Number of this attempt at the purpose, from 1.
    pub attempt: u32,
    /// How its idempotency key is written.
    pub key_form: KeyForm,
    /// How work that goes on after this call is completed; `None`: the call is a preview, or a test makes it. It is not a part
    /// of the item's JSON.
    pub completion: Option<Completion>,
}

/// How the work of a call is completed after the call has ended.
#[derive(Clone, PartialEq, Eq)]
pub struct Completion {
    /// Id of the call, which is another one on each attempt.
    pub call_id: Uuid,
    /// The address below which `complete`, `fail` and `extend` are posted to; who knows it may complete the item, so it
    /// goes to the worker alone. `None`: the process has no address.
    pub url: Option<Arc<str>>,
}

/// Without the address, which is a secret.
impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion")
            .field("call_id", &self.call_id)
            .finish_non_exhaustive()
    }
}

/// An earlier run of a job for a tenant, that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Previous {
    /// The run of the job.
    pub occurrence: Occurrence,
    /// Due time of the run.
    pub scheduled_at: DateTime<Utc>,
    /// When the handler of the run had ended.
    pub finished_at: DateTime<Utc>,
}

/// Input of an item's run.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemInput {
    /// The effective preference of a tenant.
    Preference {
        /// The feature that the preference is about.
        feature_type: FeatureType,
        /// What the tenant chose, over the job's defaults.
        effective: SharedPreference,
    },
    /// A record as the job's source has it.
    Record(Value),
    /// All records: `{"items": [records]}` of an object batch, `{category: [records], …}` of a combined one.
    Aggregate(Value),
}

impl Item {
    /// The tenant's effective preference, in a job that follows preferences.
    #[must_use]
    pub fn preference(&self) -> Option<&MergedPreference> {
        match &self.input {
            ItemInput::Preference { effective, .. } => Some(effective),
            ItemInput::Record(_) | ItemInput::Aggregate(_) => None,
        }
    }

    /// That preference as JSON, made once for all items that have the same.
    #[must_use]
    pub fn preference_json(&self) -> Option<Arc<Value>> {
        match &self.input {
            ItemInput::Preference { effective, .. } => Some(effective.json()),
            ItemInput::Record(_) | ItemInput::Aggregate(_) => None,
        }
    }

    /// The organization that the tenant belongs to; `None`: to none, or the job follows no preferences.
    #[must_use]
    pub fn organization(&self) -> Option<&OrganizationId> {
        let membership = self.preference()?.organization.as_ref()?;
        Some(&membership.id)
    }

    /// The feature of that preference.
    #[must_use]
    pub fn feature_type(&self) -> Option<&FeatureType> {
        match &self.input {
            ItemInput::Preference { feature_type, .. } => Some(feature_type),
            ItemInput::Record(_) | ItemInput::Aggregate(_) => None,
        }
    }

    /// The tenant's template overrides over the job's; `None` in a job that follows no preferences.
    #[must_use]
    pub fn overrides(&self) -> Option<&Map<String, Value>> {
        self.preference()
            .map(|effective| &*effective.template_overrides)
    }

    /// The tenant's own data, in a job that fetches it; the record, or all records, of a job with a schedule of its own.
    #[must_use]
    pub fn data(&self) -> Option<&Value> {
        match &self.input {
            ItemInput::Preference { .. } => self.fetched.as_ref().filter(|data| !data.is_null()),
            ItemInput::Record(data) | ItemInput::Aggregate(data) => Some(data),
        }
    }

    /// The same on every attempt and after every crash, so that the remote endpoint can make its effect once. The second
    /// purpose of a job has another one than the first, and each purpose that delivers a result has its own. A call that
    /// prepares a run has one for its parameters.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let key = self
            .key_form
            .key(&self.job_id, &self.item_id, self.occurrence);
        // No occurrence contains `/`, so this is the key of no other run.
        if let Some(fingerprint) = self.prepares {
            return format!("{key}/prepare/{}", fingerprint.short());
        }
        match (&self.written, &self.input) {
            (None, _) => key,
            // The result of all records goes to several places, and jobs of all records have no second purpose.
            (Some(_), ItemInput::Aggregate(_)) => format!("{key}/deliver/{}", self.purpose_id),
            (Some(_), _) => format!("{key}/then"),
        }
    }
}

/// As webhooks post it and templates see it. What it does not have is `null`: `organization`, `preference`, `data`,
/// `previous` or `written`.
impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut item = serializer.serialize_struct("Item", 13)?;
        item.serialize_field("tenant_id", &self.item_id)?;
        item.serialize_field("organization", &self.organization())?;
        item.serialize_field("job_id", &self.job_id)?;
        item.serialize_field("purpose_id", &self.purpose_id)?;
        item.serialize_field("feature_type", &self.feature_type())?;
        item.serialize_field("batch_id", &self.batch_id)?;
        item.serialize_field("occurrence", &self.occurrence)?;
        item.serialize_field("scheduled_at", &self.scheduled_at)?;
        item.serialize_field("preference", &self.preference_json())?;
        item.serialize_field("data", &self.data())?;
        item.serialize_field("previous", &self.previous)?;
        item.serialize_field("written", &self.written)?;
        item.serialize_field("attempt", &self.attempt)?;
        item.end()
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
    pub fn key(self, job: &JobId, item: &ItemId, occurrence: Occurrence) -> String {
        match self {
            Self::Colons => format!("{job}:{item}:{occurrence}"),
            Self::Slashes => format!("{job}/{item}/{occurrence}"),
        }
    }
}

words!(KeyForm, "key form", Colons = "colons", Slashes = "slashes",);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        preference::{organization::Membership, stored::Preference},
        time::zone::Zone,
    };

    fn item(input: ItemInput) -> Item {
        Item {
            item_id: ItemId::new("ann").unwrap(),
            job_id: JobId::new("digest").unwrap(),
            purpose_id: PurposeId::new("write").unwrap(),
            batch_id: Uuid::nil(),
            occurrence: "2026-03-02".parse().unwrap(),
            scheduled_at: "2026-03-02T09:00:00Z".parse().unwrap(),
            prepares: None,
            input,
            fetched: None,
            previous: None,
            written: None,
            attempt: 1,
            key_form: KeyForm::Slashes,
            completion: None,
        }
    }

    #[test]
    fn an_item_says_its_organization_which_is_no_part_of_its_key() {
        let stored = json!({"enabled": true, "frequency": "daily"});
        let stored = Preference::parse(stored.as_object().unwrap()).unwrap();
        let merged = MergedPreference::merge(&stored, &Preference::default(), &Zone::utc());
        let merged = merged.unwrap();
        let preferring = |organization: Option<&str>| {
            let organization = organization.map(|id| {
                Arc::new(Membership {
                    id: OrganizationId::new(id).unwrap(),
                    fields: vec!["frequency".to_owned()],
                })
            });
            item(ItemInput::Preference {
                feature_type: FeatureType::new("posts").unwrap(),
                effective: merged.clone().of_organization(organization).into(),
            })
        };
        let (of_acme, alone) = (preferring(Some("acme")), preferring(None));
        assert_eq!(json!(of_acme)["organization"], "acme");
        assert_eq!(json!(alone)["organization"], Value::Null);
        assert_eq!(json!(of_acme)["preference"], json!(alone)["preference"]);
        assert_eq!(of_acme.idempotency_key(), alone.idempotency_key());
        let record = json!(item(ItemInput::Record(json!({"organization": "umbrella"}))));
        assert_eq!(record["organization"], Value::Null);
    }

    #[test]
    fn the_second_purpose_has_a_key_of_its_own_and_keeps_it() {
        let mut item = item(ItemInput::Record(Value::Null));
        assert_eq!(item.idempotency_key(), "digest/ann/2026-03-02");
        assert_eq!(json!(item)["written"], Value::Null);
        for (output, attempt) in [(json!({"text": "Hello"}), 1), (Value::Null, 4)] {
            item.purpose_id = PurposeId::new("send").unwrap();
            (item.written, item.attempt) = (Some(output.clone()), attempt);
            assert_eq!(item.idempotency_key(), "digest/ann/2026-03-02/then");
            assert_eq!(json!(item)["written"], output);
        }
        item.input = ItemInput::Aggregate(Value::Null);
        let mut keys = Vec::new();
        for purpose in ["to_sales", "to_buying"] {
            item.purpose_id = PurposeId::new(purpose).unwrap();
            keys.push(item.idempotency_key());
        }
        let expected = ["to_sales", "to_buying"]
            .map(|purpose| format!("digest/ann/2026-03-02/deliver/{purpose}"));
        assert_eq!(keys, expected, "one result, two e-mails");
    }

    #[test]
    fn a_preparation_has_a_key_for_its_parameters() {
        let mut item = item(ItemInput::Record(Value::Null));
        let keys = [1, 2].map(|byte| {
            item.prepares = Some(Fingerprint::new([byte; 16]));
            item.idempotency_key()
        });
        assert_eq!(keys[0], "digest/ann/2026-03-02/prepare/0101010101010101");
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn no_two_runs_share_a_key_whatever_characters_ids_have() {
        let occurrence = "2026-03-02".parse().unwrap();
        let key = |form: KeyForm, job: &str, tenant: &str| {
            let (job, tenant) = (JobId::new(job).unwrap(), ItemId::new(tenant).unwrap());
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
