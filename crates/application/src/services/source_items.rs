//! The items of a plain job, put together from its sources as its type says.

use std::collections::{BTreeMap, HashMap};

use punctual_domain::{JobKind, TenantId};
use serde_json::{Map, Value, json};

use crate::ports::SourceItem;

/// The records of each category of a job's sources.
pub type Categories = BTreeMap<String, Vec<SourceItem>>;

/// The id of the one item of an object or combined batch.
const WHOLE: &str = "all";

/// The ids of a plain job's items, in the order of its source: its records, or the whole and those who get its result.
/// A batch of nothing has none.
#[must_use]
pub fn item_ids(kind: JobKind, categories: &Categories, recipients: &[TenantId]) -> Vec<TenantId> {
    let mut ids = categories.values().flatten().map(|item| item.id.clone());
    match kind {
        JobKind::Individual => ids.collect(),
        JobKind::Object | JobKind::Combined => match ids.next() {
            Some(_) => [whole()]
                .into_iter()
                .chain(recipients.iter().filter(|id| **id != whole()).cloned())
                .collect(),
            None => Vec::new(),
        },
    }
}

/// How many items of a job a chunk takes: a whole and those who get its result stay together.
#[must_use]
pub fn chunk_size_of(kind: JobKind, usual: usize) -> usize {
    match kind {
        JobKind::Individual => usual,
        JobKind::Object | JobKind::Combined => usize::MAX,
    }
}

pub(crate) fn whole() -> TenantId {
    TenantId::new(WHOLE).expect("`all` is a valid id")
}

/// What a handler gets for each of them, by id: one record, `{"items": [records]}` of an object batch, or
/// `{category: [records], …}` of a combined one.
pub(crate) fn item_data(kind: JobKind, categories: Categories) -> HashMap<String, Value> {
    let list = |items: Vec<SourceItem>| items.into_iter().map(|item| item.data).collect::<Value>();
    match kind {
        JobKind::Individual => categories
            .into_values()
            .flatten()
            .map(|item| (item.id.as_str().to_owned(), item.data))
            .collect(),
        JobKind::Object => categories
            .into_values()
            .map(|items| (WHOLE.to_owned(), json!({ "items": list(items) })))
            .collect(),
        JobKind::Combined => {
            let combined: Map<String, Value> = categories
                .into_iter()
                .map(|(category, items)| (category, list(items)))
                .collect();
            HashMap::from([(WHOLE.to_owned(), Value::Object(combined))])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_of_job_puts_its_items_together_its_own_way() {
        let item = |id: &str| SourceItem {
            id: TenantId::new(id).unwrap(),
            data: json!({ "id": id }),
        };
        let categories = || {
            Categories::from([
                ("orders".to_owned(), vec![item("o1"), item("o2")]),
                ("posts".to_owned(), vec![item("p1")]),
            ])
        };
        let ids = |kind| -> Vec<String> {
            item_ids(kind, &categories(), &[TenantId::new("ann").unwrap()])
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(ids(JobKind::Individual), ["o1", "o2", "p1"]);
        assert_eq!(
            item_data(JobKind::Individual, categories())["o2"],
            json!({"id": "o2"})
        );
        assert_eq!(ids(JobKind::Combined), ["all", "ann"]);
        assert_eq!(
            item_data(JobKind::Combined, categories())["all"],
            json!({"orders": [{"id": "o1"}, {"id": "o2"}], "posts": [{"id": "p1"}]})
        );
        let one = Categories::from([("items".to_owned(), vec![item("a")])]);
        assert_eq!(
            item_data(JobKind::Object, one)["all"],
            json!({"items": [{"id": "a"}]})
        );
        assert!(item_ids(JobKind::Object, &Categories::new(), &[]).is_empty());
    }
}
