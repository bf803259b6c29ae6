//! When: what the fields of a preference that say so come to, remembered for those met lately. Many tenants choose the
//! same, and reading it once is enough.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde_json::{Map, Value};

use super::{canonical::write_fields, packed::Packed};
use crate::preference::when::says_when;

/// Schedules remembered at most; then all are forgotten.
const REMEMBERED: usize = 8_192;

/// What schedules, as canonical JSON, come to.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    known: HashTable<(Box<[u8]>, Option<Packed>)>,
    hasher: DefaultHashBuilder,
    /// The schedule that was looked up last.
    looked_up: Vec<u8>,
}

impl Schedules {
    /// The slot of a preference with this schedule, `None` inside when it is off; `None` when it has not been met.
    #[expect(
        clippy::option_option,
        reason = "known, and known not to be a schedule, are two answers"
    )]
    pub(super) fn find(&mut self, preference: &Map<String, Value>) -> Option<Option<Packed>> {
        write_fields(&mut self.looked_up, preference, says_when);
        let hash = self.hasher.hash_one(&*self.looked_up);
        let same = |known: &(Box<[u8]>, _)| *known.0 == *self.looked_up;
        Some(self.known.find(hash, same)?.1)
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Remembers what the schedule that was looked up last, of a usable preference, comes to.
    pub(super) fn remember(&mut self, slot: Option<Packed>) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let (hash, hasher) = (self.hasher.hash_one(&*self.looked_up), &self.hasher);
        let new = (self.looked_up.as_slice().into(), slot);
        self.known
            .insert_unique(hash, new, |(known, _)| hasher.hash_one(&**known));
    }
}
