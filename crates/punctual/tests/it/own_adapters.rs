//! Adapters of an embedding program, held to the contracts of their ports: here those of the examples.

#[path = "../../examples/axum_service/preferences.rs"]
mod preferences;

use async_trait::async_trait;
use punctual::{
    Clock, FeatureType, PreferenceRecord, SystemClock, TenantId,
    testing::contract::{self, FEATURE, Writable},
};

use self::preferences::Preferences;

#[async_trait]
impl Writable for Preferences {
    async fn put(&self, record: PreferenceRecord) {
        let preference = (*record.preference).clone();
        let feature = FeatureType::new(FEATURE).unwrap();
        self.store(
            &feature,
            record.tenant_id,
            Some(preference),
            SystemClock.now(),
        );
    }

    async fn remove(&self, tenant_id: &TenantId) {
        let feature = FeatureType::new(FEATURE).unwrap();
        self.store(&feature, tenant_id.clone(), None, SystemClock.now());
    }
}

#[tokio::test(start_paused = true)]
async fn own_preferences_keep_the_contract() {
    let preferences = Preferences::default();
    contract::config_database(&preferences, &preferences).await;
}
