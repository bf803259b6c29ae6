//! How the mirror is kept current: by a full read, by the changes after it, and by an edit of the job's spread.

use std::borrow::Borrow;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{
    Mirror, Row,
    groups::{GroupKey, NONE},
    since::Reported,
};
use crate::{
    ids::TenantId,
    input::errors::FieldErrors,
    planning::spread::spread_minute,
    preference::{
        change::{Change, ChangeKind, PreferenceRecord},
        effective::MergedPreference,
        stored::Preference,
    },
    time::slot::Slot,
};

/// When preferences were read, and what the reader had seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// When they were read. No preference has been stored later.
    pub at: DateTime<Utc>,
    /// Everything stored until then had been seen before: nothing from before it is planned late. `None`: nothing has
    /// been seen before, and nothing is late.
    pub seen_until: Option<DateTime<Utc>>,
    /// Until when the mirror has followed every single change.
    pub followed_until: Option<DateTime<Utc>>,
}

impl Reading {
    /// The first one, at `at`.
    #[must_use]
    pub const fn first(at: DateTime<Utc>) -> Self {
        Self {
            at,
            seen_until: None,
            followed_until: None,
        }
    }
}

/// What a full read found to be different from the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MirrorDifference {
    /// Tenants that were not there, or stood in another slot, or had stored their preference anew.
    pub changed: usize,
    /// Tenants that are no longer there.
    pub removed: usize,
}

/// What a preference changed about a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    How,
    When,
}

impl Mirror {
    /// Takes a full read of the feature's preferences: tenants not among `records` are gone.
    ///
    /// What differs in its schedule from what was known counts as late: its time may have been planned without it. Where
    /// nothing was known yet, that is what has been stored since [`Reading::seen_until`].
    pub fn replace<R: Borrow<PreferenceRecord>>(
        &mut self,
        records: impl IntoIterator<Item = R>,
        reading: Reading,
    ) -> MirrorDifference {
        let mut difference = MirrorDifference::default();
        let was_loaded = std::mem::replace(&mut self.loaded, true);
        let records = records.into_iter();
        let more = records.size_hint().0.saturating_sub(self.len());
        self.tenants.reserve(more);
        self.rows.0.reserve_exact(more);
        let mut present = vec![false; self.tenants.numbers()];
        let mut quarantined_before = std::mem::take(&mut self.quarantine);
        for record in records {
            let record = record.borrow();
            let was_quarantined = quarantined_before.remove(&record.tenant_id);
            let reported = Reported {
                schedule_since: record.schedule_since,
                stored_at: record.updated_at,
                read_at: reading.at,
                followed_until: reading.followed_until,
            };
            let mut changed = self.set(&record.tenant_id, &record.preference, reported);
            if was_quarantined.is_some()
                && was_quarantined.as_ref() == self.quarantine.get(&record.tenant_id)
            {
                changed = Changed::Nothing;
            }
            if let Some(number) = self.tenants.find(&record.tenant_id) {
                if present.len() <= number as usize {
                    present.resize(number as usize + 1, false);
                }
                present[number as usize] = true;
                if changed == Changed::When {
                    self.is_late(number, was_loaded, reading);
                }
            }
            difference.changed += usize::from(changed > Changed::Nothing);
        }
        let gone = self
            .tenants
            .all()
            .filter(|number| !present[*number as usize]);
        let gone: Vec<TenantId> = gone.map(|number| self.tenants.id(number)).collect();
        for tenant in &gone {
            self.remove(tenant);
        }
        difference.removed = gone.len() + quarantined_before.len();
        difference
    }

    /// Takes one change of the feed.
    pub fn apply(&mut self, change: &Change, reading: Reading) {
        self.quarantine.remove(&change.tenant_id);
        match &change.kind {
            ChangeKind::Deleted => {
                self.remove(&change.tenant_id);
            }
            ChangeKind::Upserted(preference) => {
                let reported = Reported {
                    schedule_since: change.schedule_since,
                    stored_at: Some(change.changed_at.unwrap_or(reading.at)),
                    read_at: reading.at,
                    followed_until: Some(DateTime::<Utc>::MAX_UTC),
                };
                let changed = self.set(&change.tenant_id, preference, reported);
                if let Some(number) = self.tenants.find(&change.tenant_id)
                    && changed == Changed::When
                {
                    self.is_late(number, true, reading);
                }
            }
        }
    }

    /// Plans what a tenant's new schedule asks for behind the position, from where it had not been seen on. Where nothing
    /// was known before, a schedule from before that is not new.
    fn is_late(&mut self, number: u32, was_known: bool, reading: Reading) {
        // What was to come before, the tenant no longer wants.
        self.late.remove(&number);
        let since = self.rows.0[number as usize].since.instant();
        let Some(seen_until) = reading.seen_until else {
            return;
        };
        if was_known || since.is_some_and(|since| since > seen_until) {
            let from = since.map_or(seen_until, |since| since.max(seen_until));
            self.late.entry(number).or_default().chosen = Some(from);
        }
    }

    /// Puts a tenant where their preference says.
    fn set(
        &mut self,
        tenant: &TenantId,
        preference: &Map<String, Value>,
        reported: Reported,
    ) -> Changed {
        // Parameters that somebody has have been found usable, and so have schedules that are remembered.
        let found = self.parameters.find(preference);
        let known = self.schedules.find(preference);
        let slot = match known.filter(|_| found.number.is_some()) {
            Some(slot) => slot,
            None => match self.slot_in(preference) {
                Ok(slot) => {
                    let slot = slot.map(|slot| self.groups.pack(&slot));
                    if known.is_none() {
                        self.schedules.remember(slot);
                    }
                    slot
                }
                Err(errors) => {
                    self.remove(tenant);
                    self.quarantine.insert(tenant.clone(), errors);
                    return Changed::When;
                }
            },
        };
        let Some(slot) = slot else {
            let was_on = self.remove(tenant);
            return if was_on {
                Changed::When
            } else {
                Changed::Nothing
            };
        };
        let number = self.tenants.number(tenant);
        if self.rows.0.len() <= number as usize {
            self.rows.0.resize(number as usize + 1, Row::EMPTY);
        }
        let old = self.rows.0[number as usize];
        let same_slot = old.link.group != NONE && self.groups.packed_slot(old.link.group) == slot;
        let since = reported.since(same_slot.then_some(old.since));
        let parameters = self.parameters.acquire(&found);
        let row = &mut self.rows.0[number as usize];
        (row.since, row.parameters) = (since, parameters);
        if old.parameters != NONE {
            self.parameters.release(old.parameters);
        }
        if !same_slot {
            let spread_minutes = spread_minute(tenant, self.spread_minutes);
            let key = GroupKey {
                slot,
                spread_minutes,
            };
            self.groups.remove(number, &mut self.rows);
            self.groups.add(key, number, &mut self.rows);
        }
        if !same_slot || old.since != since {
            Changed::When
        } else if old.parameters != parameters {
            Changed::How
        } else {
            Changed::Nothing
        }
    }

    /// The slot that a preference comes to; `None` when it is off.
    fn slot_in(&self, preference: &Map<String, Value>) -> Result<Option<Slot>, FieldErrors> {
        let stored = Preference::parse(preference)?;
        let merged = MergedPreference::merge(&stored, &self.defaults, &self.default_zone)?;
        Ok(merged.enabled.then_some(merged.slot))
    }

    /// Takes a tenant out. Returns whether they were scheduled.
    fn remove(&mut self, tenant: &TenantId) -> bool {
        let Some(number) = self.tenants.find(tenant) else {
            return false;
        };
        self.late.remove(&number);
        self.groups.remove(number, &mut self.rows);
        let row = std::mem::replace(&mut self.rows.0[number as usize], Row::EMPTY);
        self.parameters.release(row.parameters);
        self.tenants.remove(number);
        true
    }

    /// Spreads the tenants over so many minutes from now on.
    pub fn spread_over(&mut self, minutes: u32) {
        self.spread_minutes = minutes;
        let everybody: Vec<u32> = self.tenants.all().collect();
        for number in everybody {
            let group = self.rows.0[number as usize].link.group;
            let tenant = self.tenants.id(number);
            let key = self.groups.key_with(group, spread_minute(&tenant, minutes));
            if !self.groups.has_key(group, key) {
                self.groups.remove(number, &mut self.rows);
                self.groups.add(key, number, &mut self.rows);
            }
        }
    }
}
