//! What tenants want to be different, beside when: template overrides and unknown fields, as they were stored. Kept as
//! canonical JSON, which is both their fingerprint and a tenth of the memory; equal ones are kept once, however many
//! tenants have them.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde_json::{Map, Value};

use super::canonical::write_fields;
use crate::preference::when::says_when;

/// Parameters by number, counted: the last to give one back removes it.
#[derive(Debug, Default)]
pub(super) struct ParameterTable {
    kept: Vec<(Box<[u8]>, u32)>,
    by_content: HashTable<u32>,
    hasher: DefaultHashBuilder,
    free: Vec<u32>,
    /// The parameters that were looked up last.
    looked_up: Vec<u8>,
}

/// The outcome of a look-up, good until the next one.
pub(super) struct Found {
    hash: u64,
    /// Their number, if anybody has them.
    pub(super) number: Option<u32>,
}

impl ParameterTable {
    /// How many different ones there are.
    pub(super) fn len(&self) -> usize {
        self.by_content.len()
    }

    pub(super) fn get(&self, number: u32) -> Map<String, Value> {
        serde_json::from_slice(&self.kept[number as usize].0)
            .expect("what was written from an object is one")
    }

    /// Looks a preference's parameters up.
    pub(super) fn find(&mut self, preference: &Map<String, Value>) -> Found {
        write_fields(&mut self.looked_up, preference, |name| !says_when(name));
        let hash = self.hasher.hash_one(&*self.looked_up);
        let same = |number: &u32| *self.kept[*number as usize].0 == *self.looked_up;
        Found {
            hash,
            number: self.by_content.find(hash, same).copied(),
        }
    }

    /// The number of what was looked up last, for one tenant more.
    pub(super) fn acquire(&mut self, found: &Found) -> u32 {
        if let Some(number) = found.number {
            self.kept[number as usize].1 += 1;
            return number;
        }
        let new = (self.looked_up.as_slice().into(), 1);
        let number = if let Some(number) = self.free.pop() {
            self.kept[number as usize] = new;
            number
        } else {
            self.kept.push(new);
            (self.kept.len() - 1) as u32
        };
        let (kept, hasher) = (&self.kept, &self.hasher);
        self.by_content.insert_unique(found.hash, number, |number| {
            hasher.hash_one(&*kept[*number as usize].0)
        });
        number
    }

    /// One tenant no longer has them.
    pub(super) fn release(&mut self, number: u32) {
        let (parameters, count) = &mut self.kept[number as usize];
        *count -= 1;
        if *count > 0 {
            return;
        }
        let hash = self.hasher.hash_one(&**parameters);
        if let Ok(entry) = self.by_content.find_entry(hash, |known| *known == number) {
            entry.remove();
        }
        self.kept[number as usize].0 = Box::default();
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn acquire(table: &mut ParameterTable, tone: &str, time: &str) -> u32 {
        let overrides = json!({"tone": tone, "tags": ["a", {"b": 1}]});
        let preference = json!({"enabled": true, "preferred_time": time, "template_overrides": overrides, "x": 1});
        let found = table.find(preference.as_object().unwrap());
        table.acquire(&found)
    }

    #[test]
    fn equal_parameters_are_one_and_gone_with_their_last_tenant() {
        let mut table = ParameterTable::default();
        let dry = acquire(&mut table, "dry", "09:00");
        assert_eq!(acquire(&mut table, "dry", "10:00"), dry);
        let warm = acquire(&mut table, "warm", "09:00");
        assert_eq!((table.len(), table.get(warm).len()), (2, 2));
        table.release(dry);
        assert_eq!(table.len(), 2);
        table.release(dry);
        assert_eq!(table.len(), 1);
        assert_eq!(
            acquire(&mut table, "new", "09:00"),
            dry,
            "the place is used again"
        );
        assert_eq!(table.get(warm)["template_overrides"]["tone"], "warm");
    }
}
