//! The Config Database's JSON, read tolerantly and entry by entry: what is not needed may be missing, what is unknown is
//! passed on, and an entry that does not fit is left out with its reason while all others are read.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use punctual_application::ports::ErasedTenant;
use punctual_domain::{
    FeatureType, FieldError, FieldErrorKind, MAX_DEPTH, MAX_PREFERENCE_BYTES, Membership,
    PreferenceRecord, TenantId,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::strict_json::{Members, elements, members, read};

/// Largest entry that is read, in bytes. A preference is at most half as large; what is between is quarantined later.
const MAX_ENTRY_BYTES: usize = 2 * MAX_PREFERENCE_BYTES;
/// Deepest nesting of an entry. A preference nests at most half as deep.
const MAX_ENTRY_DEPTH: usize = 2 * MAX_DEPTH;
/// Entries of one read that are kept with their reasons; more are counted.
const MAX_REJECTED_ENTRIES: usize = 10_000;
/// Preferences that are remembered, so that tenants with equal ones share them; then all are forgotten.
const MAX_SHARED_PREFERENCES: usize = 10_000;
/// Where the reference server puts the fields of a preference that it does not know.
const OWN_FIELDS: &str = "own_fields";
/// The members of a tenant in a group that are no fields of the preference.
const BESIDE_PREFERENCE: [&str; 4] = ["tenant_id", "updated_at", "schedule_since", ORGANIZATION];
/// Where an entry says which organization the tenant belongs to.
const ORGANIZATION: &str = "organization";
/// What it says there.
const MEMBERSHIP: &str =
    "an object such as {\"id\": \"acme\", \"fields\": [\"timezone\"]}, or null";

type Object = Map<String, Value>;

/// An entry that is left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RejectedEntry {
    /// Whose it is, if that can be read.
    pub(super) tenant: Option<TenantId>,
    /// Where it stands, and what is wrong with it.
    pub(super) error: Box<FieldError>,
}

/// An object of an answer: its members, not yet read, and where it stands.
struct Entry<'a> {
    place: String,
    members: BTreeMap<String, &'a [u8]>,
    /// What is wrong with one of the members.
    problem: Option<FieldError>,
}

impl<'a> Entry<'a> {
    fn new(place: &str, json: &'a [u8]) -> Result<Self, FieldError> {
        let wrong = |problem: &str| {
            rejected_entry(
                place,
                Some(json),
                problem,
                "send an object with every name once",
            )
        };
        let Members { by_name, problem } = members(json).map_err(|problem| wrong(&problem))?;
        Ok(Self {
            place: place.to_owned(),
            members: by_name,
            problem: problem.map(|problem| wrong(&problem)),
        })
    }

    /// The entry, if every member has a name of its own.
    fn whole(self) -> Result<Self, FieldError> {
        match self.problem {
            None => Ok(self),
            Some(problem) => Err(problem),
        }
    }

    /// A member that may be missing or null.
    fn optional<T: DeserializeOwned>(
        &self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, FieldError> {
        let Some(json) = self.members.get(name) else {
            return Ok(None);
        };
        let value = read(json, MAX_ENTRY_DEPTH).and_then(serde_json::from_value);
        value.map_err(|error| {
            let remedy = format!("send {expected}");
            rejected_entry(&self.pointer(name), Some(json), &broken(&error), &remedy)
        })
    }

    fn required<T: DeserializeOwned>(&self, name: &str, expected: &str) -> Result<T, FieldError> {
        self.optional(name, expected)?.ok_or_else(|| {
            rejected_entry(
                &self.pointer(name),
                None,
                "is missing",
                &format!("send {expected}"),
            )
        })
    }

    fn instant(&self, name: &str) -> Result<Option<DateTime<Utc>>, FieldError> {
        self.optional(name, "an instant such as 2026-03-01T09:00:00Z, or null")
    }

    /// The organization of a tenant with this preference.
    fn organization(&self, preference: &Object) -> Result<Option<Membership>, FieldError> {
        let organization: Option<Membership> = self.optional(ORGANIZATION, MEMBERSHIP)?;
        Ok(organization.map(|organization| organization.of(preference)))
    }

    fn tenant(&self) -> Result<TenantId, FieldError> {
        let id = self.required("tenant_id", "the tenant's id as text");
        let id: String = id.map_err(|error| self.problem.clone().unwrap_or(error))?;
        tenant(&self.pointer("tenant_id"), self.members["tenant_id"], &id)
    }

    /// The members but for those of these names, as a whole.
    fn object(&self, without: &[&str]) -> Result<Object, FieldError> {
        let remedy = format!(
            "send at most {MAX_ENTRY_DEPTH} levels and {MAX_ENTRY_BYTES} bytes of valid JSON"
        );
        let members = self
            .members
            .iter()
            .filter(|(name, _)| !without.contains(&name.as_str()));
        let mut object = Object::new();
        let mut left = MAX_ENTRY_BYTES;
        for (name, json) in members {
            let wrong =
                |problem: &str| rejected_entry(&self.pointer(name), Some(json), problem, &remedy);
            left = left
                .checked_sub(name.len() + json.len())
                .ok_or_else(|| wrong("is too large"))?;
            let value = read(json, MAX_ENTRY_DEPTH).map_err(|error| wrong(&broken(&error)))?;
            object.insert(name.clone(), value);
        }
        Ok(object)
    }

    fn list(&self, name: &str) -> Result<Vec<&'a [u8]>, FieldError> {
        let json = self.members.get(name).copied().unwrap_or(b"null");
        elements(json).map_err(|problem| {
            rejected_entry(&self.pointer(name), Some(json), &problem, "send a list")
        })
    }

    fn pointer(&self, name: &str) -> String {
        format!(
            "{}/{}",
            self.place,
            name.replace('~', "~0").replace('/', "~1")
        )
    }
}

fn tenant(place: &str, json: &[u8], id: &str) -> Result<TenantId, FieldError> {
    let remedy = "use 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -";
    TenantId::new(id)
        .map_err(|_| rejected_entry(place, Some(json), "is not a valid tenant_id", remedy))
}

fn rejected_entry(place: &str, json: Option<&[u8]>, problem: &str, remedy: &str) -> FieldError {
    FieldError {
        pointer: plain(place, 200),
        value: json.map(|json| plain(&String::from_utf8_lossy(&json[..json.len().min(240)]), 60)),
        problem: plain(problem, 200),
        remedy: remedy.to_owned(),
        kind: FieldErrorKind::Other,
    }
}

/// The beginning of a text, with nothing in it that a log or a terminal would obey.
fn plain(text: &str, most: usize) -> String {
    let mut letters = text.chars();
    let clean = |letter: char| {
        if letter.is_control() {
            '\u{fffd}'
        } else {
            letter
        }
    };
    let mut plain: String = letters.by_ref().take(most).map(clean).collect();
    if letters.next().is_some() {
        plain.push('…');
    }
    plain
}

fn broken(error: &serde_json::Error) -> String {
    let error = error.to_string();
    let reason = error.split(" at line ").next().unwrap_or_default();
    format!("cannot be read: {reason}")
}

/// One page of `GET preferences/groups`.
pub(super) struct GroupsPage<'a> {
    groups: Vec<&'a [u8]>,
    epoch: Option<String>,
    as_of_id: Option<u64>,
    pub(super) next_cursor: Option<String>,
}

impl<'a> GroupsPage<'a> {
    /// What tells it from other pages.
    pub(super) fn content(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        self.groups.iter().for_each(|group| {
            hasher.update(group);
        });
        hasher.finalize()
    }

    /// # Errors
    /// What makes the page as a whole unreadable.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, FieldError> {
        let page = Entry::new("", body)?.whole()?;
        let next_cursor: Option<String> = page.optional("next_cursor", "text")?;
        Ok(Self {
            groups: page.list("groups")?,
            epoch: page.optional("epoch", "text")?,
            as_of_id: page.optional("as_of_id", "a whole number")?,
            next_cursor: next_cursor.filter(|cursor| !cursor.is_empty()),
        })
    }
}

/// All pages so far. The first says where the snapshot stands in the feed: what changed while the others
/// were read comes again as a change.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Those that have not been taken yet.
    pub(super) records: Vec<PreferenceRecord>,
    /// Number of records that have been taken.
    taken: usize,
    pub(super) rejected: Vec<RejectedEntry>,
    /// Number of misfits beyond those.
    pub(super) more_rejected: usize,
    /// The preferences met lately, each once: few of many tenants' differ.
    preferences: HashSet<Arc<Object>>,
    /// The same of the organizations.
    organizations: HashSet<Arc<Membership>>,
    groups: usize,
    pub(super) epoch: Option<String>,
    pub(super) as_of_id: Option<u64>,
}

impl Groups {
    /// Adds a page. Returns whether it is of the same database as those before.
    pub(super) fn add(&mut self, page: GroupsPage<'_>) -> bool {
        if self.epoch.is_some() && self.epoch != page.epoch {
            return false;
        }
        self.epoch = page.epoch;
        self.as_of_id = self.as_of_id.or(page.as_of_id);
        for json in page.groups {
            let place = format!("/groups/{}", self.groups);
            self.groups += 1;
            if let Err(error) = self.add_group(&place, json) {
                self.leave_out(RejectedEntry {
                    tenant: None,
                    error: Box::new(error),
                });
            }
        }
        true
    }

    /// Number of entries so far, those that do not fit included.
    pub(super) fn len(&self) -> usize {
        self.taken + self.records.len() + self.rejected.len() + self.more_rejected
    }

    /// The records of the pages added since the last call.
    pub(super) fn take_records(&mut self) -> Vec<PreferenceRecord> {
        self.taken += self.records.len();
        std::mem::take(&mut self.records)
    }

    fn leave_out(&mut self, rejected_entry: RejectedEntry) {
        if self.rejected.len() < MAX_REJECTED_ENTRIES {
            self.rejected.push(rejected_entry);
        } else {
            self.more_rejected += 1;
        }
    }

    fn add_group(&mut self, place: &str, json: &[u8]) -> Result<(), FieldError> {
        let group = Entry::new(place, json)?;
        let tenants = group.list("tenants")?;
        let group = group.whole();
        let shared = group.and_then(|group| group.object(&["tenants", "count"]));
        let shared = shared.map(|mut shared| {
            // Groups hold those who are switched on, and need not say so.
            shared.entry("enabled").or_insert(Value::Bool(true));
            shared
        });
        for (index, json) in tenants.into_iter().enumerate() {
            match self.tenant(&format!("{place}/tenants/{index}"), json, &shared) {
                Ok(record) => self.records.push(record),
                Err(rejected_entry) => self.leave_out(rejected_entry),
            }
        }
        Ok(())
    }

    fn tenant(
        &mut self,
        place: &str,
        json: &[u8],
        shared: &Result<Object, FieldError>,
    ) -> Result<PreferenceRecord, RejectedEntry> {
        let nameless = |error| RejectedEntry {
            tenant: None,
            error: Box::new(error),
        };
        let (tenant_id, entry) = if let Ok(Value::String(id)) = read(json, 0) {
            (tenant(place, json, &id).map_err(nameless)?, None)
        } else {
            let entry = Entry::new(place, json).map_err(nameless)?;
            (entry.tenant().map_err(nameless)?, Some(entry))
        };
        let fields = move || -> Result<_, FieldError> {
            let mut preference = shared.clone()?;
            let Some(entry) = entry else {
                return Ok((preference, None, None, None));
            };
            let entry = entry.whole()?;
            let mut own = entry.object(&BESIDE_PREFERENCE)?;
            if let Some(Value::Object(other)) = own.remove(OWN_FIELDS) {
                other.into_iter().for_each(|(name, value)| {
                    preference.entry(name).or_insert(value);
                });
            }
            preference.extend(own);
            let organization = entry.organization(&preference)?;
            Ok((
                preference,
                entry.instant("updated_at")?,
                entry.instant("schedule_since")?,
                organization,
            ))
        };
        match fields() {
            Ok((preference, updated_at, schedule_since, organization)) => Ok(PreferenceRecord {
                tenant_id,
                preference: intern(&mut self.preferences, preference),
                updated_at,
                schedule_since,
                organization: organization
                    .map(|organization| intern(&mut self.organizations, organization)),
            }),
            Err(error) => Err(RejectedEntry {
                tenant: Some(tenant_id),
                error: Box::new(error),
            }),
        }
    }
}

/// The value that is equal to this one and was met before, or else this one.
fn intern<T: Eq + Hash>(met: &mut HashSet<Arc<T>>, value: T) -> Arc<T> {
    if let Some(known) = met.get(&value) {
        return Arc::clone(known);
    }
    if met.len() >= MAX_SHARED_PREFERENCES {
        met.clear();
    }
    let value = Arc::new(value);
    met.insert(Arc::clone(&value));
    value
}

/// `GET preferences/changes`.
pub(super) struct Changes {
    pub(super) changes: Vec<RawChange>,
    pub(super) epoch: Option<String>,
    pub(super) last_id: Option<u64>,
    pub(super) has_more: bool,
}

/// One entry of the feed.
pub(super) struct RawChange {
    pub(super) id: Option<u64>,
    pub(super) what: FeedEntry,
}

/// What an entry of the feed says.
pub(super) enum FeedEntry {
    /// Something about another feature or another configuration.
    Other,
    /// A tenant's preference changed.
    Change {
        tenant_id: TenantId,
        news: PreferenceChange,
        changed_at: Option<DateTime<Utc>>,
        schedule_since: Option<DateTime<Utc>>,
        organization: Option<Arc<Membership>>,
    },
    /// Nothing that can be read.
    Rejected(RejectedEntry),
}

/// State of a preference after a change, as far as the feed includes it.
pub(super) enum PreferenceChange {
    Deleted,
    /// Deleted, with everything that the Config Database held of the tenant.
    Erased,
    Preference(Arc<Object>),
    /// The server must be asked.
    NotIncluded,
}

impl Changes {
    /// # Errors
    /// What makes the page as a whole unreadable.
    pub(super) fn read(body: &[u8], feature: &FeatureType) -> Result<Self, FieldError> {
        let page = Entry::new("", body)?.whole()?;
        let changes = page.list("changes")?.into_iter().enumerate();
        Ok(Self {
            changes: changes
                .map(|(index, json)| RawChange::read(&format!("/changes/{index}"), json, feature))
                .collect(),
            epoch: page.optional("epoch", "text")?,
            last_id: page.optional("last_id", "a whole number")?,
            has_more: page.optional("has_more", "true or false")?.unwrap_or(false),
        })
    }

    /// The id to go on from.
    pub(super) fn newest(&self) -> Option<u64> {
        let seen = self.changes.iter().filter_map(|change| change.id);
        seen.chain(self.last_id).max()
    }
}

impl RawChange {
    fn read(place: &str, json: &[u8], feature: &FeatureType) -> Self {
        let entry = match Entry::new(place, json) {
            Ok(entry) => entry,
            Err(error) => {
                let what = FeedEntry::Rejected(RejectedEntry {
                    tenant: None,
                    error: Box::new(error),
                });
                return Self { id: None, what };
            }
        };
        let id: Result<u64, _> = entry.required("id", "the change's number");
        let mut what = match entry.tenant() {
            _ if is_about_another(&entry, feature) => FeedEntry::Other,
            Err(error) => FeedEntry::Rejected(RejectedEntry {
                tenant: None,
                error: Box::new(error),
            }),
            Ok(tenant_id) => match id
                .as_ref()
                .map_err(FieldError::clone)
                .and_then(|_| PreferenceChange::read(&entry))
            {
                Ok((news, changed_at, schedule_since, organization)) => FeedEntry::Change {
                    tenant_id,
                    news,
                    changed_at,
                    schedule_since,
                    organization: organization.map(Arc::new),
                },
                Err(error) => FeedEntry::Rejected(RejectedEntry {
                    tenant: Some(tenant_id),
                    error: Box::new(error),
                }),
            },
        };
        let id = id.ok();
        if let (FeedEntry::Rejected(rejected_entry), Some(id)) = (&mut what, id) {
            rejected_entry.error.problem += &format!(" (change {id})");
        }
        Self { id, what }
    }
}

/// A change that does not say what it is about may be about anything.
fn is_about_another(entry: &Entry<'_>, feature: &FeatureType) -> bool {
    let names_another = |name, own: &str| {
        let named: Result<Option<String>, _> = entry.optional(name, "text");
        matches!(named, Ok(Some(named)) if named != own)
    };
    names_another("feature_type", feature.as_str())
        || names_another("config_key", "feature_preferences")
}

type Instant = Option<DateTime<Utc>>;

impl PreferenceChange {
    fn read(entry: &Entry<'_>) -> Result<(Self, Instant, Instant, Option<Membership>), FieldError> {
        if let Some(problem) = &entry.problem {
            return Err(problem.clone());
        }
        for name in ["feature_type", "config_key"] {
            let _: Option<String> = entry.optional(name, "text")?;
        }
        let change: Option<String> =
            entry.optional("change", "\"upserted\", \"deleted\" or \"erased\"")?;
        let preference = entry
            .members
            .get("preference")
            .filter(|json| **json != b"null");
        let news = match preference {
            _ if change.as_deref() == Some("deleted") => Self::Deleted,
            _ if change.as_deref() == Some("erased") => Self::Erased,
            Some(json) => {
                let preference = Entry::new(&entry.pointer("preference"), json)?.whole()?;
                Self::Preference(Arc::new(preference.object(&[])?))
            }
            None => Self::NotIncluded,
        };
        let organization = match &news {
            Self::Preference(preference) => entry.organization(preference)?,
            Self::Deleted | Self::Erased | Self::NotIncluded => None,
        };
        Ok((
            news,
            entry.instant("changed_at")?,
            entry.instant("schedule_since")?,
            organization,
        ))
    }
}

/// `GET preferences/erased`.
pub(super) struct ErasedPage {
    pub(super) erased: Vec<ErasedTenant>,
    pub(super) last_id: u64,
    pub(super) has_more: bool,
}

impl ErasedPage {
    /// A tenant that cannot be read is left out: a later erasure of it comes again.
    ///
    /// # Errors
    /// What makes the page as a whole unreadable.
    pub(super) fn read(body: &[u8]) -> Result<Self, FieldError> {
        let page = Entry::new("", body)?.whole()?;
        let tenants = page.list("tenants")?.into_iter().enumerate();
        let tenant = |(index, json): (usize, &[u8])| -> Result<ErasedTenant, FieldError> {
            let entry = Entry::new(&format!("/tenants/{index}"), json)?.whole()?;
            Ok(ErasedTenant {
                tenant_id: entry.tenant()?,
                erased_at: entry
                    .required("erased_at", "an instant such as 2026-03-01T09:00:00Z")?,
            })
        };
        Ok(Self {
            erased: tenants.filter_map(|entry| tenant(entry).ok()).collect(),
            last_id: page.optional("last_id", "a whole number")?.unwrap_or(0),
            has_more: page.optional("has_more", "true or false")?.unwrap_or(false),
        })
    }
}

/// The preference for `feature` in `GET tenants/{tenant_id}/configs/feature_preferences?effective=true`; `None` if there is
/// none.
///
/// # Errors
/// What makes the answer as a whole unreadable. What is wrong with the tenant's preference alone is inside.
pub(super) fn tenant_config(
    body: &[u8],
    feature: &FeatureType,
    tenant: &TenantId,
) -> Result<Result<Option<PreferenceRecord>, RejectedEntry>, FieldError> {
    let config = Entry::new("", body)?;
    let Some(values) = config
        .members
        .get("config_value")
        .filter(|json| json.starts_with(b"{"))
    else {
        return Err(rejected_entry(
            "/config_value",
            None,
            "is missing",
            "send an object",
        ));
    };
    let record = || -> Result<_, FieldError> {
        if let Some(problem) = &config.problem {
            return Err(problem.clone());
        }
        let values = Entry::new("/config_value", values)?;
        let Some(json) = values
            .members
            .get(feature.as_str())
            .filter(|json| **json != b"null")
        else {
            return Ok(None);
        };
        let preference = Entry::new(&values.pointer(feature.as_str()), json)?;
        let preference = preference.whole()?.object(&[])?;
        let since: Option<BTreeMap<String, Value>> = config.optional(
            "schedule_since",
            "an object with an instant for each feature",
        )?;
        let since = since.and_then(|mut since| since.remove(feature.as_str()));
        let organization: Option<BTreeMap<String, Option<Membership>>> = config.optional(
            ORGANIZATION,
            "an object with the tenant's organization for each feature, or null",
        )?;
        let organization = organization.and_then(|mut of| of.remove(feature.as_str())?);
        let organization = organization.map(|organization| organization.of(&preference));
        Ok(Some(PreferenceRecord {
            tenant_id: tenant.clone(),
            preference: Arc::new(preference),
            updated_at: config.instant("updated_at")?,
            schedule_since: since.and_then(|since| serde_json::from_value(since).ok()),
            organization: organization.map(Arc::new),
        }))
    };
    Ok(record().map_err(|error| RejectedEntry {
        tenant: Some(tenant.clone()),
        error: Box::new(error),
    }))
}

#[cfg(test)]
mod tests;
