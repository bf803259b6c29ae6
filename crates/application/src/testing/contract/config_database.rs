//! What the port [`ConfigDatabase`] promises: a snapshot and the changes after it, taken together, are what is stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use punctual_domain::{ChangeKind, FeatureType, PreferenceRecord, TenantId};
use serde_json::{Map, Value, json};

use crate::{
    ports::{ConfigDatabase, ConfigErrorKind, Cursor},
    testing,
};

/// How the suite stores preferences in the Config Database under test.
#[async_trait]
pub trait Writable: Sync {
    /// Stores a preference for the feature [`FEATURE`]. Its times may be replaced by the server's own.
    async fn put(&self, record: PreferenceRecord);

    /// Removes what the tenant has stored.
    async fn remove(&self, tenant_id: &TenantId);

    /// Erases everything that is held of the tenant; `false`: the Config Database erases no tenant.
    async fn erase(&self, tenant_id: &TenantId) -> bool {
        let _ = tenant_id;
        false
    }
}

/// The feature of the suite.
pub const FEATURE: &str = "contract_posts";

/// Longest wait for one change.
const WAIT: Duration = Duration::from_secs(1);
/// Calls after which changes that have not come are missing.
const CALLS: usize = 20;

/// Checks a Config Database that has nothing stored for [`FEATURE`].
///
/// # Panics
/// It breaks a promise.
pub async fn config_database(database: &dyn ConfigDatabase, writer: &dyn Writable) {
    let feature = FeatureType::new(FEATURE).expect("valid");
    let mut known = Known::snapshot(database, &feature).await;
    assert_eq!(known.tones, BTreeMap::new(), "nothing is stored");
    let everyone = ["ann", "bob", "eve", "joe"].map(tenant);
    let none_stored = database.preferences(&feature, &everyone).await;
    assert!(
        none_stored.expect("works").is_empty(),
        "having none is not an error"
    );

    // A feed brings what is stored after the snapshot, of each tenant the newest last.
    for (id, tone) in [
        ("ann", "dry"),
        ("bob", "warm"),
        ("ann", "bold"),
        ("eve", "calm"),
    ] {
        writer.put(record(id, tone)).await;
    }
    let stored = tones(&[("ann", "bold"), ("bob", "warm"), ("eve", "calm")]);
    known.follow_until(database, &feature, &stored).await;
    writer.remove(&tenant("bob")).await;
    writer.put(record("joe", "loud")).await;
    writer.remove(&tenant("joe")).await;
    writer.put(record("eve", "glad")).await;
    let stored = tones(&[("ann", "bold"), ("eve", "glad")]);
    known.follow_until(database, &feature, &stored).await;

    // A snapshot is all of it, with the place from which nothing is missing.
    let mut anew = Known::snapshot(database, &feature).await;
    assert_eq!(anew.tones, stored);
    let single = database.preferences(&feature, &everyone).await;
    let single = single.expect("works").into_iter();
    let single: BTreeMap<_, _> = single
        .map(|(id, record)| (id, tone(&record.preference)))
        .collect();
    assert_eq!(single, stored, "single tenants as in the snapshot");
    let page = database
        .changes(&feature, &anew.cursor, Duration::ZERO)
        .await;
    assert!(!page.expect("works").has_more, "the snapshot is the end");

    writer.put(record("bob", "back")).await;
    let stored = tones(&[("ann", "bold"), ("bob", "back"), ("eve", "glad")]);
    anew.follow_until(database, &feature, &stored).await;
    known.follow_until(database, &feature, &stored).await;
    let of_one = database.preferences(&feature, &everyone[..1]).await;
    let of_one = BTreeSet::from_iter(of_one.expect("works").into_keys());
    assert_eq!(of_one, [tenant("ann")].into(), "those who are asked for");

    // An erasure is more than a removal, and found until the tenant is there again.
    if writer.erase(&tenant("bob")).await {
        let erased = async || {
            let erased = database.erased(&feature).await.expect("works");
            BTreeSet::from_iter(erased.into_iter().map(|erased| erased.tenant_id))
        };
        let stored = tones(&[("ann", "bold"), ("eve", "glad")]);
        anew.follow_until(database, &feature, &stored).await;
        assert_eq!(anew.erased, [tenant("bob")].into());
        assert_eq!(erased().await, anew.erased);
        writer.put(record("bob", "anew")).await;
        let stored = tones(&[("ann", "bold"), ("bob", "anew"), ("eve", "glad")]);
        known.follow_until(database, &feature, &stored).await;
        assert_eq!(erased().await, BTreeSet::new());
    }

    // The feed of another database is not followed.
    let other = Cursor {
        since_id: 1,
        epoch: Some("of another database".into()),
    };
    let lost = database.changes(&feature, &other, Duration::ZERO).await;
    let lost = lost.expect_err("the cursor is of another database");
    assert_eq!(lost.kind, ConfigErrorKind::CursorLost, "{lost}");
    let unreadable = database.unreadable(&feature);
    assert_eq!(unreadable.count(), 0, "{unreadable:?}");
}

fn tenant(id: &str) -> TenantId {
    TenantId::new(id).expect("valid")
}

fn record(id: &str, tone: &str) -> PreferenceRecord {
    let preference = json!({
        "enabled": true, "frequency": "daily", "preferred_time": "09:00", "timezone": "Europe/Berlin",
        "template_overrides": {"tone": tone},
    });
    testing::record(id, preference)
}

fn tones(of: &[(&str, &str)]) -> BTreeMap<TenantId, String> {
    let tone = |(id, tone): &(&str, &str)| (tenant(id), (*tone).to_owned());
    of.iter().map(tone).collect()
}

/// What tells one preference of this suite from another; the other fields must be as they were stored.
fn tone(preference: &Map<String, Value>) -> String {
    for (field, value) in [
        ("enabled", json!(true)),
        ("frequency", json!("daily")),
        ("preferred_time", json!("09:00")),
        ("timezone", json!("Europe/Berlin")),
    ] {
        assert_eq!(preference.get(field), Some(&value), "{field}");
    }
    let tone = preference["template_overrides"]["tone"].as_str();
    tone.expect("a text").to_owned()
}

/// What a follower knows.
struct Known {
    tones: BTreeMap<TenantId, String>,
    /// The tenants that the feed says were erased.
    erased: BTreeSet<TenantId>,
    cursor: Cursor,
}

impl Known {
    async fn snapshot(database: &dyn ConfigDatabase, feature: &FeatureType) -> Self {
        let snapshot = database.snapshot(feature).await.expect("works");
        let snapshot = snapshot.collect().await.expect("works to its end");
        assert_eq!(snapshot.known_at, None, "it was read just now");
        let tones: BTreeMap<_, _> = snapshot
            .records
            .iter()
            .map(|record| (record.tenant_id.clone(), tone(&record.preference)))
            .collect();
        assert_eq!(tones.len(), snapshot.records.len(), "one per tenant");
        Self {
            tones,
            erased: BTreeSet::new(),
            cursor: snapshot.cursor,
        }
    }

    async fn follow_until(
        &mut self,
        database: &dyn ConfigDatabase,
        feature: &FeatureType,
        stored: &BTreeMap<TenantId, String>,
    ) {
        for _ in 0..CALLS {
            let page = database.changes(feature, &self.cursor, WAIT).await;
            let page = page.expect("works");
            for change in page.changes {
                assert_eq!(change.feature_type, *feature);
                match change.kind {
                    ChangeKind::Upserted(preference) => {
                        self.tones.insert(change.tenant_id, tone(&preference));
                    }
                    ChangeKind::Deleted => {
                        self.tones.remove(&change.tenant_id);
                    }
                    ChangeKind::Erased => {
                        self.tones.remove(&change.tenant_id);
                        self.erased.insert(change.tenant_id);
                    }
                }
            }
            self.cursor = page.cursor;
            if !page.has_more && self.tones == *stored {
                return;
            }
        }
        assert_eq!(self.tones, *stored, "the feed does not bring it");
    }
}
