//! How the mirror is kept current: by a full read, by the changes after it, and by an edit of the job's spread.

use std::borrow::Borrow;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{
    Mirror,
    full_read::FullRead,
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
        organization::Membership,
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
    /// Parameters, or the organization that the tenant belongs to.
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
        self.begin_full_read();
        self.take_page(records, reading);
        self.end_full_read()
    }

    /// Begins a full read that comes in [pages](Self::take_page). One that has begun before and not ended is given up:
    /// what its pages brought stays in effect, as if changes had brought it, and no tenant is gone.
    pub fn begin_full_read(&mut self) {
        if self.full_read.take().is_some() {
            self.tenants.take_marks();
        }
        self.tenants.is_loading = !self.loaded;
        self.full_read = Some(FullRead {
            quarantined: self.quarantine.keys().cloned().collect(),
            changed: 0,
        });
    }

    /// Takes a page of a full read that has begun: each preference is in effect at once. Of a tenant who comes twice,
    /// the last one holds.
    pub fn take_page<R: Borrow<PreferenceRecord>>(
        &mut self,
        records: impl IntoIterator<Item = R>,
        reading: Reading,
    ) {
        if self.full_read.is_none() {
            self.begin_full_read();
        }
        let mut full_read = self.full_read.take().unwrap_or_default();
        for record in records {
            let record = record.borrow();
            let was_quarantined = self.quarantine.remove(&record.tenant_id);
            if was_quarantined.is_some() {
                full_read.quarantined.remove(&record.tenant_id);
            }
            let reported = Reported {
                schedule_since: record.schedule_since,
                stored_at: record.updated_at,
                read_at: reading.at,
                followed_until: reading.followed_until,
            };
            let (number, mut changed) = self.set(
                &record.tenant_id,
                &record.preference,
                record.organization.as_deref(),
                reported,
            );
            if was_quarantined.is_some()
                && was_quarantined.as_ref() == self.quarantine.get(&record.tenant_id)
            {
                changed = Changed::Nothing;
            }
            if let Some(number) = number {
                self.tenants.mark(number);
                // What a first read has brought that was given up is as new as before it.
                if changed == Changed::When || !self.loaded {
                    self.is_late(number, self.loaded, reading);
                }
            }
            full_read.changed += usize::from(changed > Changed::Nothing);
        }
        self.full_read = Some(full_read);
        self.forget_slots();
    }

    /// Ends a full read all of whose pages have been taken: tenants in none of them are gone.
    pub fn end_full_read(&mut self) -> MirrorDifference {
        let Some(FullRead {
            quarantined,
            changed,
        }) = self.full_read.take()
        else {
            return MirrorDifference::default();
        };
        let gone = self.tenants.take_marks();
        for number in &gone {
            self.remove_number(*number);
        }
        let released = quarantined
            .iter()
            .filter(|tenant| self.quarantine.remove(*tenant).is_some());
        let removed = gone.len() + released.count();
        self.loaded = true;
        self.tenants.is_loading = false;
        MirrorDifference { changed, removed }
    }

    /// Takes one change of the feed.
    pub fn apply(&mut self, change: &Change, reading: Reading) {
        self.quarantine.remove(&change.tenant_id);
        match &change.kind {
            ChangeKind::Deleted | ChangeKind::Erased => {
                self.remove(&change.tenant_id);
            }
            ChangeKind::Upserted(preference) => {
                let reported = Reported {
                    schedule_since: change.schedule_since,
                    stored_at: Some(change.changed_at.unwrap_or(reading.at)),
                    read_at: reading.at,
                    followed_until: Some(DateTime::<Utc>::MAX_UTC),
                };
                let (number, changed) = self.set(
                    &change.tenant_id,
                    preference,
                    change.organization.as_deref(),
                    reported,
                );
                if let Some(number) = number
                    && changed == Changed::When
                {
                    self.is_late(number, true, reading);
                }
            }
        }
        self.forget_slots();
    }

    /// Takes a tenant out who is erased, with what is wrong with their preference.
    pub fn forget(&mut self, tenant: &TenantId) {
        self.quarantine.remove(tenant);
        self.remove(tenant);
        self.forget_slots();
    }

    /// Forgets slots in which no tenant stands, where there are many.
    pub(super) fn forget_slots(&mut self) {
        if self.groups.has_unused_slots() {
            self.groups.forget_slots();
            self.schedules.forget();
        }
    }

    /// Plans what a tenant's new schedule asks for behind the position, from where it had not been seen on. Where nothing
    /// was known before, a schedule from before that is not new.
    fn is_late(&mut self, number: u32, was_known: bool, reading: Reading) {
        // What was to come before, the tenant no longer wants.
        self.late.remove(&number);
        let since = self.tenants.since(number).instant();
        let Some(seen_until) = reading.seen_until else {
            return;
        };
        if was_known || since.is_some_and(|since| since > seen_until) {
            let from = since.map_or(seen_until, |since| since.max(seen_until));
            self.late.entry(number).or_default().chosen = Some(from);
        }
    }

    /// Puts a tenant where their preference says. Returns their number while they are scheduled.
    fn set(
        &mut self,
        tenant: &TenantId,
        preference: &Map<String, Value>,
        organization: Option<&Membership>,
        reported: Reported,
    ) -> (Option<u32>, Changed) {
        // Parameters that somebody has have been found usable, and so have schedules that are remembered.
        let found = self.parameters.find(preference, organization);
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
                    return (None, Changed::When);
                }
            },
        };
        let Some(slot) = slot else {
            let was_on = self.remove(tenant);
            let changed = if was_on {
                Changed::When
            } else {
                Changed::Nothing
            };
            return (None, changed);
        };
        let number = self.tenants.number(tenant);
        let old = self.tenants.row(number);
        let same_slot = old.link.group != NONE && self.groups.packed_slot(old.link.group) == slot;
        let since = reported.since(same_slot.then_some(old.since));
        let parameters = self.parameters.acquire(&found);
        self.tenants.set_since(number, since);
        self.tenants.set_parameters(number, parameters);
        if old.parameters != NONE {
            self.parameters.release(old.parameters);
        }
        if !same_slot {
            let spread_minutes = spread_minute(tenant, self.spread_minutes);
            let key = GroupKey {
                slot,
                spread_minutes,
            };
            self.groups.remove(number, &mut self.tenants);
            self.groups.add(key, number, &mut self.tenants);
        }
        let changed = if !same_slot || old.since != since {
            Changed::When
        } else if old.parameters != parameters {
            Changed::How
        } else {
            Changed::Nothing
        };
        (Some(number), changed)
    }

    /// The slot that a preference comes to; `None` when it is off.
    fn slot_in(&self, preference: &Map<String, Value>) -> Result<Option<Slot>, FieldErrors> {
        let stored = Preference::parse(preference)?;
        if !stored.is_on(&self.defaults) {
            // Whatever it leaves open.
            return Ok(None);
        }
        let merged = MergedPreference::merge(&stored, &self.defaults, &self.default_zone)?;
        Ok(Some(merged.slot))
    }

    /// Takes a tenant out. Returns whether they were scheduled.
    fn remove(&mut self, tenant: &TenantId) -> bool {
        let Some(number) = self.tenants.find(tenant) else {
            return false;
        };
        self.remove_number(number);
        true
    }

    fn remove_number(&mut self, number: u32) {
        self.late.remove(&number);
        self.groups.remove(number, &mut self.tenants);
        self.parameters.release(self.tenants.row(number).parameters);
        self.tenants.remove(number);
    }

    /// Spreads the tenants over so many minutes from now on.
    pub fn spread_over(&mut self, minutes: u32) {
        self.spread_minutes = minutes;
        let everybody: Vec<u32> = self.tenants.all().collect();
        for number in everybody {
            let group = self.tenants.group(number);
            let tenant = self.tenants.id(number);
            let key = self.groups.key_with(group, spread_minute(&tenant, minutes));
            if !self.groups.has_key(group, key) {
                self.groups.remove(number, &mut self.tenants);
                self.groups.add(key, number, &mut self.tenants);
            }
        }
    }
}
