//! What is remembered of every tenant of a feature, in a few bytes: who is on, and since when each schedule has been as
//! it is. Ten million take some 300 MB.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
};

use chrono::{DateTime, Utc};
use punctual_domain::{PreferenceRecord, TenantId, says_when, schedule_text};
use serde_json::{Map, Value};

use super::journal::JournalRecord;

/// Ways to write a schedule that are remembered; then all are forgotten.
const MAX_CACHED_SCHEDULES: usize = 8_192;

/// Bytes of a schedule that is remembered.
const MAX_CACHED_SCHEDULE_BYTES: usize = 512;

/// The tenants of a feature, by the hash of their id.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    by_hash: HashMap<u64, Tenant>,
    schedules: Schedules,
    on: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Tenant {
    /// The hash of their schedule; its lowest bit says whether they are on.
    schedule: u32,
    /// Whole seconds after 1970, rounded up; 0: long ago.
    since: u32,
}

impl Tenant {
    fn is_on(self) -> bool {
        self.schedule & 1 == 1
    }
}

impl Tenants {
    /// An empty list that can be compared with this one.
    pub(super) fn empty_like(&self) -> Self {
        Self {
            by_hash: HashMap::new(),
            schedules: self.schedules.clone(),
            on: 0,
        }
    }

    /// Number of tenants whose preference is switched on.
    pub(super) fn on(&self) -> usize {
        self.on
    }

    /// How many of those who are on here are on there as well.
    pub(super) fn still_on(&self, there: &Self) -> usize {
        let is_on = |hash| there.by_hash.get(hash).is_some_and(|tenant| tenant.is_on());
        let here = self.by_hash.iter().filter(|(_, tenant)| tenant.is_on());
        here.filter(|(hash, _)| is_on(*hash)).count()
    }

    /// Since when a record's schedule has been as it is: as the server says, or as was known when the schedule is the
    /// same, or since the record was stored. A clock that is ahead does not put it off.
    pub(super) fn since(
        &mut self,
        record: &PreferenceRecord,
        read_at: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let since = record.schedule_since.or_else(|| {
            let schedule = self.schedules.hash(&record.preference);
            let hash = self.schedules.hasher.hash_one(&record.tenant_id);
            match self.by_hash.get(&hash) {
                Some(known) if known.schedule == schedule => match known.since {
                    // Long ago; without a time of its own the record says the same.
                    0 => record.updated_at.map(|_| DateTime::UNIX_EPOCH),
                    seconds => DateTime::from_timestamp(seconds.into(), 0),
                },
                _ => record.updated_at,
            }
        });
        since.map(|since| since.min(read_at))
    }

    /// Takes a record in.
    pub(super) fn set(&mut self, record: &PreferenceRecord) {
        // A record of before there was such a time has that of its storing.
        let since = record
            .schedule_since
            .or(record.updated_at)
            .map_or(0, |since| {
                since.timestamp() + i64::from(since.timestamp_subsec_nanos() > 0)
            });
        let tenant = Tenant {
            schedule: self.schedules.hash(&record.preference),
            since: since.clamp(0, i64::from(u32::MAX)) as u32,
        };
        let hash = self.schedules.hasher.hash_one(&record.tenant_id);
        self.on += usize::from(tenant.is_on());
        let before = self.by_hash.insert(hash, tenant);
        self.on -= usize::from(before.is_some_and(Tenant::is_on));
    }

    /// Whether anything is known of a tenant.
    pub(super) fn has(&self, tenant: &TenantId) -> bool {
        let hash = self.schedules.hasher.hash_one(tenant);
        self.by_hash.contains_key(&hash)
    }

    /// Takes in what stands in a file.
    pub(super) fn take(&mut self, kept: &JournalRecord) {
        match kept {
            JournalRecord::Set(record) => self.set(record),
            JournalRecord::Remove(tenant) => self.remove(tenant),
        }
    }

    pub(super) fn remove(&mut self, tenant: &TenantId) {
        let before = self.by_hash.remove(&self.schedules.hasher.hash_one(tenant));
        self.on -= usize::from(before.is_some_and(Tenant::is_on));
    }
}

/// The hashes of schedules. Few of many tenants' differ, and reading one is slow.
#[derive(Debug, Clone, Default)]
struct Schedules {
    hasher: RandomState,
    known: HashMap<Vec<u8>, u32>,
}

impl Schedules {
    fn hash(&mut self, preference: &Map<String, Value>) -> u32 {
        let fields = || preference.iter().filter(|(name, _)| says_when(name));
        let mut written = Vec::new();
        for field in fields() {
            // Memory takes everything.
            let _ = serde_json::to_writer(&mut written, &field);
        }
        if let Some(known) = self.known.get(&written) {
            return *known;
        }
        let own: Map<String, Value> = fields()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let hash = self.hasher.hash_one(schedule_text(&own));
        let is_on = preference.get("enabled") == Some(&Value::Bool(true));
        let hash = (hash as u32) & !1 | u32::from(is_on);
        if written.len() <= MAX_CACHED_SCHEDULE_BYTES {
            if self.known.len() >= MAX_CACHED_SCHEDULES {
                self.known.clear();
            }
            self.known.insert(written, hash);
        }
        hash
    }
}
