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
    ConfigId, StoreError, instant,
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
        for organization in named {
            let count: i64 =
                sqlx::query_scalar("SELECT count(*) FROM members WHERE organization_id = $1")
                    .bind(organization.as_str())
                    .fetch_one(self.connection())
                    .await?;
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
    pub(super) async fn settle(&mut self) -> Result<BTreeMap<TenantId, Schedules>, StoreError> {
        let mut schedules = BTreeMap::new();
        let mut of_members = Vec::new();
        for edited in self.take_edited() {
            let tenant = &edited.tenant_id;
            let members = self.members();
            if members.now(tenant).or(members.before(tenant)).is_some() {
                of_members.push(edited);
            } else {
                let tenant = tenant.clone();
                schedules.insert(tenant, self.compare(&edited));
            }
        }
        if of_members.is_empty() && !self.members().have_moved() {
            return Ok(schedules);
        }
        self.note_moved().await?;
        let affected = self.affected(of_members).await?;
        let placed = self.placed(&affected).await?;
        for one in &affected {
            let since = self.place_member(one, &placed);
            if one.edited.is_edit {
                schedules.insert(one.tenant_id.clone(), since);
            }
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

    /// The members among those whose preferences are edited, and those who move, with their layers.
    async fn affected(&mut self, edited: Vec<Edited>) -> Result<Vec<Affected>, StoreError> {
        let mut by_tenant: BTreeMap<TenantId, Edited> = BTreeMap::new();
        for edited in edited {
            by_tenant.insert(edited.tenant_id.clone(), edited);
        }
        let moved = self.members().moved.keys();
        let moved = moved.filter(|tenant| !by_tenant.contains_key(*tenant));
        let ids: Vec<ConfigId> = moved.map(ConfigId::of_preferences).collect();
        let dialect = self.dialect();
        let rows = {
            let wanted: Vec<&ConfigId> = ids.iter().collect();
            ConfigRow::read_many(self.connection(), dialect, &wanted).await?
        };
        for (id, row) in ids.into_iter().zip(rows) {
            let kept = Edited::kept(id.tenant_id.clone(), row, self.now());
            by_tenant.insert(id.tenant_id, kept);
        }
        let members = &*self.members();
        let involved = by_tenant
            .keys()
            .flat_map(|tenant| [members.before(tenant), members.now(tenant)]);
        let involved: BTreeSet<OrganizationId> = involved.flatten().cloned().collect();
        let layers = self.layers(&involved).await?;
        let members = &*self.members();
        let layer = |organization: Option<&OrganizationId>| layers.get(organization?).cloned();
        let affected = by_tenant.into_iter().map(|(tenant_id, edited)| Affected {
            before: layer(members.before(&tenant_id)),
            after: layer(members.now(&tenant_id)),
            tenant_id,
            edited,
        });
        Ok(affected.collect())
    }

    /// The layers of organizations; empty where one has stored nothing.
    async fn layers(
        &mut self,
        organizations: &BTreeSet<OrganizationId>,
    ) -> Result<BTreeMap<OrganizationId, Arc<Layer>>, StoreError> {
        let mut layers = BTreeMap::new();
        for organization in organizations {
            let preferences = Layer::read(self.connection(), organization).await?;
            let layer = Layer {
                organization: organization.clone(),
                preferences: preferences.unwrap_or_default(),
            };
            layers.insert(organization.clone(), Arc::new(layer));
        }
        Ok(layers)
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
