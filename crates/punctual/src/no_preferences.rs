//! Stands where a Config Database would, in a program whose jobs all have schedules of their own.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use punctual_application::ports::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, SnapshotPages,
};
use punctual_domain::{FeatureType, PreferenceRecord, TenantId};

/// Has no preferences, and says so to who asks for some.
pub(crate) struct NoPreferences;

fn none() -> ConfigDatabaseError {
    ConfigDatabaseError::new(
        ConfigErrorKind::Unavailable,
        "there are no preferences; give the builder some with `preferences`",
    )
}

#[async_trait]
impl ConfigDatabase for NoPreferences {
    async fn snapshot(&self, _: &FeatureType) -> Result<SnapshotPages, ConfigDatabaseError> {
        Err(none())
    }

    async fn changes(
        &self,
        _: &FeatureType,
        _: &Cursor,
        _: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        Err(none())
    }

    async fn preferences(
        &self,
        _: &FeatureType,
        _: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        Err(none())
    }
}
