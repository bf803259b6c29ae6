//! Whose preferences a page shows: a tenant's, or those that an organization has for its members. Both are read, changed, and brought
//! back from their history in the same way.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use punctual_domain::{FeatureType, OrganizationId, TenantId};
use punctual_web::Problem;
use serde_json::{Map, Value};

use super::visitor::Visitor;
use crate::{
    http::App,
    layers::Layer,
    plan::Plan,
    store::{ChangeError, ConfigId, ConfigStore, Expected, KnownFeature, PastConfig, StoreError},
};

/// Whose page an address names, a tenant's or an organization's, and of which feature; empty where it names none.
#[derive(Debug, Clone)]
pub(super) struct PageAddress {
    tenant: String,
    organization: Option<String>,
    pub(super) feature: String,
}

impl FromRequestParts<App> for PageAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let parameters = RawPathParams::from_request_parts(parts, app).await;
        let parameters = parameters.map_err(|error| Problem::bad_request(error.to_string()))?;
        let named = |name: &str| {
            let found = parameters.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| value.to_owned())
        };
        Ok(Self {
            tenant: named("tenant_id").unwrap_or_default(),
            organization: named("organization_id"),
            feature: named("feature_type").unwrap_or_default(),
        })
    }
}

impl PageAddress {
    /// Whose preferences they are, if the visitor may see them.
    pub(super) fn owner(&self, visitor: &Visitor) -> Result<Owner, Problem> {
        match &self.organization {
            Some(organization) => visitor
                .may_see_organization(organization)
                .map(Owner::Organization),
            None => visitor.may_see(&self.tenant).map(Owner::Tenant),
        }
    }
}

/// Whose preferences they are.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    Tenant(TenantId),
    Organization(OrganizationId),
}

impl Owner {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant.as_str(),
            Self::Organization(organization) => organization.as_str(),
        }
    }

    pub(super) fn is_organization(&self) -> bool {
        matches!(self, Self::Organization(_))
    }

    /// The list of all features, below the address of the service.
    pub(super) fn pages(&self) -> String {
        match self {
            Self::Tenant(tenant) => format!("/tenants/{tenant}"),
            Self::Organization(organization) => format!("/organizations/{organization}"),
        }
    }

    /// What a preference comes to. What an organization leaves open, its members say.
    pub(super) fn plan_of(&self, preference: &Map<String, Value>, known: &KnownFeature) -> Plan {
        let plan = Plan::of(preference, known);
        let is_open = matches!(plan, Plan::Known(_)) && plan.problem().is_some();
        if self.is_organization() && is_open {
            return Plan::LeftOpen;
        }
        plan
    }

    /// What is stored, by feature.
    pub(super) async fn preferences(
        &self,
        store: &ConfigStore,
    ) -> Result<Map<String, Value>, StoreError> {
        let value = match self {
            Self::Tenant(tenant) => {
                let config = store.config(&ConfigId::of_preferences(tenant)).await?;
                config.map(|config| config.config_value)
            }
            Self::Organization(organization) => {
                let config = store.config(organization).await?;
                config.map(|config| config.config_value)
            }
        };
        Ok(value.unwrap_or_default())
    }

    /// What is below its preferences: a tenant's organization, with its own.
    pub(super) async fn layer(&self, store: &ConfigStore) -> Result<Option<Layer>, StoreError> {
        match self {
            Self::Tenant(tenant) => store.layer_of(tenant).await,
            Self::Organization(_) => Ok(None),
        }
    }

    /// The versions before `before`, newest first, and whether there are more.
    pub(super) async fn history(
        &self,
        store: &ConfigStore,
        before: i64,
        limit: u32,
    ) -> Result<(Vec<PastConfig>, bool), StoreError> {
        match self {
            Self::Tenant(tenant) => {
                let id = ConfigId::of_preferences(tenant);
                store.history(&id, before, limit).await
            }
            Self::Organization(organization) => store.history(organization, before, limit).await,
        }
    }

    /// What was stored at a version, `Some(None)` where nothing was; `None`: the version is not kept.
    pub(super) async fn past(
        &self,
        store: &ConfigStore,
        version: i64,
    ) -> Result<Option<Option<Map<String, Value>>>, StoreError> {
        match self {
            Self::Tenant(tenant) => {
                let id = ConfigId::of_preferences(tenant);
                store.past(&id, version).await
            }
            Self::Organization(organization) => store.past(organization, version).await,
        }
    }

    /// Changes the preference for a feature to what `change` makes of the one that is stored; `None` removes it. Returns the version
    /// before, where it can be brought back from there, and the change.
    pub(super) async fn edit(
        &self,
        store: &ConfigStore,
        visitor: &Visitor,
        feature: &FeatureType,
        change: impl Fn(Option<&Map<String, Value>>) -> Result<Option<Map<String, Value>>, ChangeError>,
    ) -> Result<(i64, i64), ChangeError> {
        let was_stored = AtomicBool::new(false);
        let edited = |stored: Option<&Map<String, Value>>| -> Result<Value, ChangeError> {
            was_stored.store(stored.is_some(), Relaxed);
            let mut value = stored.cloned().unwrap_or_default();
            match change(own(&value, feature))? {
                Some(preference) => value.insert(feature.to_string(), Value::Object(preference)),
                None => value.remove(feature.as_str()),
            };
            Ok(Value::Object(value))
        };
        let (anything, actor) = (Expected::default(), visitor.name());
        let (version, change) = match self {
            Self::Tenant(tenant) => {
                let id = ConfigId::of_preferences(tenant);
                let (config, change) = store.edit(&id, &anything, actor, edited).await?;
                (config.map(|config| config.version), change)
            }
            Self::Organization(organization) => {
                let stored = store.edit(organization, &anything, actor, edited);
                let (config, change) = stored.await?;
                (config.map(|config| config.version), change)
            }
        };
        // Nothing was stored before version 0, and before the first one after an erasure, whatever its number.
        let version = version.filter(|_| was_stored.load(Relaxed));
        Ok((version.map_or(0, |version| version - 1), change))
    }
}

/// The preference for a feature among all.
pub(super) fn own<'a>(
    value: &'a Map<String, Value>,
    feature: &FeatureType,
) -> Option<&'a Map<String, Value>> {
    value.get(feature.as_str()).and_then(Value::as_object)
}
