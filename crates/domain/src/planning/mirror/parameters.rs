//! What tenants want to be different, beside when: template overrides and unknown fields, as they were stored, and the
//! organization they belong to. Kept as canonical JSON, which is both their fingerprint and a tenth of the memory; equal ones
//! are kept once, however many tenants have them. The organization is an object behind the one of the fields, and nothing
//! where there is none.

use std::{hash::BuildHasher, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable};
use serde_json::{Deserializer, Map, Value};

use super::canonical::write_fields;
use crate::preference::{organization::Membership, when::says_when};

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

    /// The fields, and the organization.
    pub(super) fn get(&self, number: u32) -> (Map<String, Value>, Option<Arc<Membership>>) {
        let mut written = Deserializer::from_slice(&self.kept[number as usize].0)
            .into_iter::<Map<String, Value>>();
        let mut next = || {
            let object = written.next().transpose();
            object.expect("what was written from an object is one")
        };
        let fields = next().unwrap_or_default();
        let organization = next().map(|object| {
            let membership = serde_json::from_value(Value::Object(object));
            Arc::new(membership.expect("what was written from a membership is one"))
        });
        (fields, organization)
    }

    /// Looks the parameters of a tenant's preference up.
    pub(super) fn find(
        &mut self,
        preference: &Map<String, Value>,
        organization: Option<&Membership>,
    ) -> Found {
        write_fields(&mut self.looked_up, preference, |name| !says_when(name));
        if let Some(organization) = organization {
            serde_json::to_writer(&mut self.looked_up, organization)
                .expect("JSON can be written to memory");
        }
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
        let found = table.find(preference.as_object().unwrap(), None);
        table.acquire(&found)
    }

    #[test]
    fn an_organization_is_kept_with_the_parameters_once_and_costs_nothing_where_there_is_none() {
        let mut table = ParameterTable::default();
        let preference = json!({"enabled": true, "template_overrides": {"tone": "dry"}, "x": "}{"});
        let preference = preference.as_object().unwrap();
        let membership = |id: &str| {
            let membership = json!({"id": id, "fields": ["preferred_time"]});
            serde_json::from_value::<Membership>(membership).unwrap()
        };
        let mut acquire = |organization: Option<&str>| {
            let organization = organization.map(membership);
            let found = table.find(preference, organization.as_ref());
            table.acquire(&found)
        };
        let numbers = [None, Some("acme"), Some("umbrella"), Some("acme"), None].map(&mut acquire);
        assert_eq!(numbers[..2], [numbers[4], numbers[3]]);
        assert_eq!(table.len(), 3);
        for (number, organization) in
            numbers
                .into_iter()
                .zip([None, Some("acme"), Some("umbrella")])
        {
            let (fields, kept) = table.get(number);
            assert_eq!((fields.len(), &fields["x"]), (2, &json!("}{")));
            assert_eq!(kept.as_deref(), organization.map(membership).as_ref());
        }
        let written =
            serde_json::to_vec(&json!({"template_overrides": {"tone": "dry"}, "x": "}{"}));
        assert_eq!(*table.kept[numbers[0] as usize].0, *written.unwrap());
    }

    #[test]
    fn equal_parameters_are_one_and_gone_with_their_last_tenant() {
        let mut table = ParameterTable::default();
        let dry = acquire(&mut table, "dry", "09:00");
        assert_eq!(acquire(&mut table, "dry", "10:00"), dry);
        let warm = acquire(&mut table, "warm", "09:00");
        assert_eq!((table.len(), table.get(warm).0.len()), (2, 2));
        table.release(dry);
        assert_eq!(table.len(), 2);
        table.release(dry);
        assert_eq!(table.len(), 1);
        assert_eq!(
            acquire(&mut table, "new", "09:00"),
            dry,
            "the place is used again"
        );
        assert_eq!(table.get(warm).0["template_overrides"]["tone"], "warm");
    }
}
