//! Members of organizations within a write: who belongs where, as the `profile` of each tenant says, and the preferences that
//! follow from it. It all happens under the one lock of writers, so that a member never has a layer that has gone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, FieldErrors, OrganizationId, Preference, TenantId};
use serde_json::{Map, Value, json};
use sqlx::Row;

use super::{
    ConfigId, ConfigStore, StoreError, instant,
    stored::ConfigRow,
    writing::{Edit, Edited, Placed, Wanted, Write},
};
use crate::{
    json::cut,
    layers::Layer,
    validate::{FEATURE_PREFERENCES, PROFILE, organization_of, too_many_members},
};

/// Members of an organization at most: a change of its preferences writes those of all of them while every other writer waits.
const MAX_MEMBERS: i64 = 10_000;
/// Members whose preferences are held at once; then they are written, so that a write needs little memory whatever its size.
pub(super) const MEMBERS_AT_ONCE: u16 = 500;
/// Characters of what is wrong with a preference.
const MAX_PROBLEM: usize = 1_000;

/// Since when each preference of a tenant says when as it does.
pub(super) type Schedules = BTreeMap<String, DateTime<Utc>>;

/// Who belongs where, as far as a write has to do with it.
#[derive(Debug, Default)]
pub(super) struct Members {
    of: HashMap<TenantId, OrganizationId>,
    counts: HashMap<OrganizationId, i64>,
    /// The organizations of those who move, before the write.
    moved: HashMap<TenantId, Option<OrganizationId>>,
}

impl Members {
    pub(super) fn have_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    fn now(&self, tenant: &TenantId) -> Option<&OrganizationId> {
        self.of.get(tenant)
    }

    fn before(&self, tenant: &TenantId) -> Option<&OrganizationId> {
        match self.moved.get(tenant) {
            Some(before) => before.as_ref(),
            None => self.of.get(tenant),
        }
    }
}

/// A member, or one who was before, whose preferences are to be placed.
struct Affected {
    tenant_id: TenantId,
    before: Option<Arc<Layer>>,
    after: Option<Arc<Layer>>,
    edited: Edited,
}

impl Affected {
    /// The features of which something may be different.
    fn features(&self) -> BTreeSet<&String> {
        let layers = [&self.before, &self.after].into_iter().flatten();
        let own = [self.edited.before.value.as_ref(), self.edited.value()];
        let own = own.into_iter().flatten().flat_map(Map::keys);
        let all = layers.flat_map(|layer| layer.preferences.keys()).chain(own);
        all.filter(|name| FeatureType::new(name).is_ok()).collect()
    }
}

impl Write {
    /// Reads where the tenants of `edits` belong, and how many members the organizations have that they are to belong to.
    pub(super) async fn load_members(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        let concerned = edits
            .iter()
            .filter(|edit| [FEATURE_PREFERENCES, PROFILE].contains(&edit.id.config_key.as_str()));
        let tenants: Vec<Value> = concerned.map(|edit| json!([edit.id.tenant_id])).collect();
        let dialect = self.dialect();
        let rows = sqlx::query(dialect.rows(
            "SELECT members.tenant_id, members.organization_id FROM ROWS
             CROSS JOIN members WHERE members.tenant_id = rows.value ->> 0",
        ))
        .bind(Value::from(tenants).to_string())
        .fetch_all(self.connection())
        .await?;
        for row in &rows {
            let (tenant, organization): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            let tenant = TenantId::new(tenant).map_err(StoreError::new)?;
            let organization = OrganizationId::new(organization).map_err(StoreError::new)?;
            self.members().of.insert(tenant, organization);
        }
        let named: BTreeSet<OrganizationId> = edits.iter().filter_map(organization_named).collect();
        if named.is_empty() {
            return Ok(());
        }
        let named: Vec<Value> = named
            .iter()
            .map(|organization| json!([organization]))
            .collect();
        let rows = sqlx::query(dialect.rows(
            "SELECT organization_id, count(*) FROM ROWS
             CROSS JOIN members WHERE organization_id = rows.value ->> 0 GROUP BY organization_id",
        ))
        .bind(Value::from(named).to_string())
        .fetch_all(self.connection())
        .await?;
        for row in &rows {
            let organization: &str = row.try_get(0)?;
            let organization = OrganizationId::new(organization).map_err(StoreError::new)?;
            let count: i64 = row.try_get(1)?;
            self.members().counts.insert(organization, count);
        }
        Ok(())
    }

    /// Lets the tenant of a profile into the organization that it names, and out of the one before.
    ///
    /// # Errors
    /// The organization has no room.
    pub(super) fn admit(&mut self, edit: &Edit) -> Result<(), FieldErrors> {
        if edit.id.config_key != PROFILE {
            return Ok(());
        }
        let tenant = &edit.id.tenant_id;
        let named = organization_named(edit);
        let members = self.members();
        let before = members.of.get(tenant).cloned();
        if named == before {
            return Ok(());
        }
        if let Some(organization) = &named {
            let count = members.counts.entry(organization.clone()).or_default();
            if *count >= MAX_MEMBERS {
                return Err(too_many_members(organization, MAX_MEMBERS));
            }
            *count += 1;
        }
        if let Some(count) = before
            .as_ref()
            .and_then(|left| members.counts.get_mut(left))
        {
            *count -= 1;
        }
        match named {
            Some(organization) => members.of.insert(tenant.clone(), organization),
            None => members.of.remove(tenant),
        };
        members.moved.entry(tenant.clone()).or_insert(before);
        Ok(())
    }

    /// Places the preferences of all whose own, or whose organization, this write changes. Returns the schedules of those whose own
    /// it changes.
    pub(super) async fn settle(
        &mut self,
        store: &ConfigStore,
    ) -> Result<BTreeMap<TenantId, Schedules>, StoreError> {
        let mut schedules = BTreeMap::new();
        let mut of_members = BTreeMap::new();
        for edited in self.take_edited() {
            let tenant = &edited.tenant_id;
            let members = self.members();
            if members.now(tenant).or(members.before(tenant)).is_some() {
                of_members.insert(tenant.clone(), edited);
            } else {
                let tenant = tenant.clone();
                schedules.insert(tenant, self.compare(&edited));
            }
        }
        if of_members.is_empty() && !self.members().have_moved() {
            return Ok(schedules);
        }
        self.note_moved().await?;
        let moved = self.members().moved.keys();
        let tenants: BTreeSet<TenantId> = of_members.keys().chain(moved).cloned().collect();
        let tenants: Vec<TenantId> = tenants.into_iter().collect();
        for tenants in tenants.chunks(MEMBERS_AT_ONCE.into()) {
            let affected = self.affected(tenants, &mut of_members).await?;
            let placed = self.placed(&affected).await?;
            for one in &affected {
                let since = self.place_member(one, &placed);
                if one.edited.is_edit {
                    schedules.insert(one.tenant_id.clone(), since);
                }
            }
            self.flush(store).await?;
        }
        Ok(schedules)
    }

    /// Writes who has moved.
    async fn note_moved(&mut self) -> Result<(), StoreError> {
        let members = self.members();
        if !members.have_moved() {
            return Ok(());
        }
        let moved = members.moved.keys();
        let moved = moved.map(|tenant| json!([tenant, members.of.get(tenant)]));
        let moved = Value::Array(moved.collect()).to_string();
        let dialect = self.dialect();
        sqlx::query(
            dialect.rows("DELETE FROM members WHERE tenant_id IN (SELECT value ->> 0 FROM ROWS)"),
        )
        .bind(moved.as_str())
        .execute(self.connection())
        .await?;
        sqlx::query(dialect.rows(
            "INSERT INTO members (tenant_id, organization_id)
             SELECT value ->> 0, value ->> 1 FROM ROWS WHERE value ->> 1 IS NOT NULL",
        ))
        .bind(moved)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// These tenants with their layers. Those that are not `edited` keep what they have stored.
    async fn affected(
        &mut self,
        tenants: &[TenantId],
        edited: &mut BTreeMap<TenantId, Edited>,
    ) -> Result<Vec<Affected>, StoreError> {
        let kept = tenants
            .iter()
            .filter(|tenant| !edited.contains_key(*tenant));
        let kept: Vec<ConfigId> = kept.map(ConfigId::of_preferences).collect();
        let dialect = self.dialect();
        let rows = {
            let wanted: Vec<&ConfigId> = kept.iter().collect();
            ConfigRow::read_many(self.connection(), dialect, &wanted).await?
        };
        for (id, row) in kept.into_iter().zip(rows) {
            let kept = Edited::kept(id.tenant_id.clone(), row, self.now());
            edited.insert(id.tenant_id, kept);
        }
        let members = &*self.members();
        let involved = tenants
            .iter()
            .flat_map(|tenant| [members.before(tenant), members.now(tenant)]);
        let involved: BTreeSet<OrganizationId> = involved.flatten().cloned().collect();
        let layers = self.layers(&involved).await?;
        let members = &*self.members();
        let layer = |organization: Option<&OrganizationId>| layers.get(organization?).cloned();
        let affected = tenants.iter().filter_map(|tenant| {
            Some(Affected {
                before: layer(members.before(tenant)),
                after: layer(members.now(tenant)),
                edited: edited.remove(tenant)?,
                tenant_id: tenant.clone(),
            })
        });
        Ok(affected.collect())
    }

    /// The layers of organizations; empty where one has stored nothing.
    async fn layers(
        &mut self,
        organizations: &BTreeSet<OrganizationId>,
    ) -> Result<BTreeMap<OrganizationId, Arc<Layer>>, StoreError> {
        let ids: Vec<Value> = organizations.iter().map(|id| json!([id])).collect();
        let dialect = self.dialect();
        let rows = sqlx::query(dialect.rows(
            "SELECT organization_id, config_value FROM ROWS
             CROSS JOIN organization_configs WHERE organization_id = rows.value ->> 0 AND config_key = $2",
        ))
        .bind(Value::from(ids).to_string())
        .bind(FEATURE_PREFERENCES)
        .fetch_all(self.connection())
        .await?;
        let mut stored: HashMap<String, Map<String, Value>> = HashMap::new();
        for row in &rows {
            let value: Option<&str> = row.try_get(1)?;
            if let Some(value) = value {
                let preferences = serde_json::from_str(value).map_err(StoreError::new)?;
                stored.insert(row.try_get(0)?, preferences);
            }
        }
        let mut layer = |organization: &OrganizationId| Layer {
            preferences: stored.remove(organization.as_str()).unwrap_or_default(),
            organization: organization.clone(),
        };
        let layers = organizations
            .iter()
            .map(|id| (id.clone(), Arc::new(layer(id))));
        Ok(layers.collect())
    }

    /// What is in the table for the features of these.
    async fn placed(
        &mut self,
        affected: &[Affected],
    ) -> Result<HashMap<(String, String), Placed>, StoreError> {
        let pairs = affected.iter().flat_map(|one| {
            let tenant = &one.tenant_id;
            let features = one.features().into_iter();
            features.map(move |feature| json!([feature, tenant]))
        });
        let pairs = Value::Array(pairs.collect()).to_string();
        let dialect = self.dialect();
        let rows = sqlx::query(dialect.rows(
            "SELECT preferences.feature_type, preferences.tenant_id, preferences.preference, preferences.schedule_since,
                 preferences.organization
             FROM ROWS CROSS JOIN preferences
             WHERE preferences.feature_type = rows.value ->> 0 AND preferences.tenant_id = rows.value ->> 1",
        ))
        .bind(pairs)
        .fetch_all(self.connection())
        .await?;
        let found = rows.iter().map(|row| {
            let key: (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let preference: &str = row.try_get(2)?;
            let organization: Option<&str> = row.try_get(4)?;
            Ok((
                key,
                Placed::read(preference, row.try_get(3)?, organization)?,
            ))
        });
        found.collect()
    }

    /// Brings the preferences of one up to date. Returns the schedules of those that are the tenant's own.
    fn place_member(
        &mut self,
        one: &Affected,
        placed: &HashMap<(String, String), Placed>,
    ) -> Schedules {
        let edited = &one.edited;
        let mut schedules = Schedules::new();
        for feature in one.features() {
            let own = edited.value().and_then(|value| value.get(feature));
            let preference = own.and_then(Value::as_object);
            let (wanted, organization) = match &one.after {
                Some(layer) => match layer.merge(feature, preference) {
                    Some((merged, membership)) => (Some(merged), Some(json!(membership))),
                    None => (None, None),
                },
                None => (preference.cloned(), None),
            };
            let known = edited.problem(feature).map(str::to_owned);
            let problem = known.or_else(|| wanted.as_ref().and_then(unreadable));
            let wanted = wanted.map(Value::Object);
            let wanted = wanted.as_ref().map(|preference| Wanted {
                preference,
                organization: organization.as_ref(),
                problem: problem.as_deref(),
            });
            let key = (feature.clone(), one.tenant_id.to_string());
            let before = placed.get(&key);
            let times = (edited.at, edited.new_since);
            let since = self.place(one.tenant_id.as_str(), feature, before, wanted, times);
            if let Some(since) = since.filter(|_| own.is_some()) {
                schedules.insert(feature.clone(), since);
            }
        }
        schedules
    }
}

/// The organization that an edit of a profile names.
fn organization_named(edit: &Edit) -> Option<OrganizationId> {
    let config = edit.config.as_ref();
    let profile = config.filter(|_| edit.id.config_key == PROFILE)?;
    organization_of(&profile.value)
}

/// Why a merged preference cannot be read: each of its layers can.
pub(super) fn unreadable(preference: &Map<String, Value>) -> Option<String> {
    let errors = Preference::parse(preference).err()?;
    Some(cut(&errors.to_string(), MAX_PROBLEM))
}

impl Placed {
    /// What columns of the table hold.
    pub(super) fn read(
        preference: &str,
        since: i64,
        organization: Option<&str>,
    ) -> Result<Self, StoreError> {
        let organization = organization.map(serde_json::from_str).transpose();
        Ok(Self {
            preference: serde_json::from_str(preference).map_err(StoreError::new)?,
            since: instant(since)?,
            organization: organization.map_err(StoreError::new)?,
        })
    }
}
