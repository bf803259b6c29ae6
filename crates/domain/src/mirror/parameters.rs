//! What tenants want to be different, beside when: merged template overrides and unknown fields. Equal ones are kept
//! once, however many tenants have them.

use std::{hash::BuildHasher, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable};
use serde_json::{Map, Value};

/// The part of a merged preference that does not say when.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Parameters {
    pub(super) template_overrides: Arc<Map<String, Value>>,
    pub(super) other: Arc<Map<String, Value>>,
}

/// Parameters by number, counted: the last to give one back removes it.
#[derive(Debug, Default)]
pub(super) struct ParameterTable {
    kept: Vec<(Parameters, u32)>,
    by_content: HashTable<u32>,
    hasher: DefaultHashBuilder,
    free: Vec<u32>,
}

impl ParameterTable {
    /// How many different ones there are.
    pub(super) fn len(&self) -> usize {
        self.by_content.len()
    }

    pub(super) fn get(&self, number: u32) -> &Parameters {
        &self.kept[number as usize].0
    }

    /// The number of these parameters, for one tenant more.
    pub(super) fn acquire(&mut self, parameters: Parameters) -> u32 {
        let hash = self.hasher.hash_one(&parameters);
        let known = self
            .by_content
            .find(hash, |number| self.kept[*number as usize].0 == parameters);
        if let Some(number) = known {
            self.kept[*number as usize].1 += 1;
            return *number;
        }
        let number = match self.free.pop() {
            Some(number) => {
                self.kept[number as usize] = (parameters, 1);
                number
            }
            None => {
                self.kept.push((parameters, 1));
                (self.kept.len() - 1) as u32
            }
        };
        let (kept, hasher) = (&self.kept, &self.hasher);
        self.by_content.insert_unique(hash, number, |number| {
            hasher.hash_one(&kept[*number as usize].0)
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
        let hash = self.hasher.hash_one(&*parameters);
        if let Ok(entry) = self.by_content.find_entry(hash, |known| *known == number) {
            entry.remove();
        }
        self.kept[number as usize].0 = Parameters::default();
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_parameters_are_one_and_gone_with_their_last_tenant() {
        let of = |tone: &str| {
            let overrides = json!({"tone": tone, "tags": ["a", {"b": 1}]});
            Parameters {
                template_overrides: Arc::new(overrides.as_object().unwrap().clone()),
                other: Arc::default(),
            }
        };
        let mut table = ParameterTable::default();
        let dry = table.acquire(of("dry"));
        assert_eq!(table.acquire(of("dry")), dry);
        let warm = table.acquire(of("warm"));
        assert_eq!((table.len(), table.get(warm)), (2, &of("warm")));
        table.release(dry);
        assert_eq!(table.len(), 2);
        table.release(dry);
        assert_eq!(table.len(), 1);
        assert_eq!(table.acquire(of("new")), dry, "the place is used again");
        assert_eq!(table.get(warm), &of("warm"));
    }
}
