//! The items of a plain job, put together from its sources as its type says.

use std::collections::{BTreeMap, HashMap};

use punctual_domain::{ItemId, ItemInput, JobKind, TenantId};
use serde_json::{Map, Value, json};

use crate::ports::SourceItem;

/// The records of each category of a job's sources.
pub type Categories = BTreeMap<String, Vec<SourceItem>>;

/// The ids of a plain job's items, in the order of its source: its records, or the aggregate and those who get its result.
/// A batch of nothing has none.
#[must_use]
pub fn item_ids(kind: JobKind, categories: &Categories, recipients: &[TenantId]) -> Vec<ItemId> {
    let mut ids = categories.values().flatten().map(|item| item.id.clone());
    match kind {
        JobKind::Individual => ids.collect(),
        JobKind::Object | JobKind::Combined if ids.next().is_none() => Vec::new(),
        JobKind::Object | JobKind::Combined => [ItemId::aggregate()]
            .into_iter()
            .chain(recipients.iter().map(ItemId::from))
            .collect(),
    }
}

/// How many items of a job a chunk takes: an aggregate and those who get its result stay together.
#[must_use]
pub fn chunk_size_of(kind: JobKind, usual: usize) -> usize {
    match kind {
        JobKind::Individual => usual,
        JobKind::Object | JobKind::Combined => usize::MAX,
    }
}

/// What each of them is run with: one record, or all of them in an object or combined batch.
pub(crate) fn item_inputs(kind: JobKind, categories: Categories) -> HashMap<ItemId, ItemInput> {
    let list = |items: Vec<SourceItem>| items.into_iter().map(|item| item.data).collect::<Value>();
    let aggregate = |data| HashMap::from([(ItemId::aggregate(), ItemInput::Aggregate(data))]);
    match kind {
        JobKind::Individual => categories
            .into_values()
            .flatten()
            .map(|item| (item.id, ItemInput::Record(item.data)))
            .collect(),
        JobKind::Object => {
            let items = categories.into_values().flatten().collect();
            aggregate(json!({ "items": list(items) }))
        }
        JobKind::Combined => {
            let lists = categories.into_iter();
            let lists: Map<String, Value> =
                lists.map(|(name, items)| (name, list(items))).collect();
            aggregate(Value::Object(lists))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_of_job_puts_its_items_together_its_own_way() {
        let item = |id: &str| SourceItem {
            id: ItemId::new(id).unwrap(),
            data: json!({ "id": id }),
        };
        let categories = || {
            Categories::from([
                ("orders".to_owned(), vec![item("o1"), item("o2")]),
                ("posts".to_owned(), vec![item("p1")]),
            ])
        };
        let ids = |kind| -> Vec<String> {
            item_ids(kind, &categories(), &[TenantId::new("all").unwrap()])
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(ids(JobKind::Individual), ["o1", "o2", "p1"]);
        let id = |id: &str| ItemId::new(id).unwrap();
        assert_eq!(
            item_inputs(JobKind::Individual, categories())[&id("o2")],
            ItemInput::Record(json!({"id": "o2"}))
        );
        assert_eq!(ids(JobKind::Combined), ["*", "all"]);
        assert_eq!(
            item_inputs(JobKind::Combined, categories())[&ItemId::aggregate()],
            ItemInput::Aggregate(
                json!({"orders": [{"id": "o1"}, {"id": "o2"}], "posts": [{"id": "p1"}]})
            )
        );
        let one = Categories::from([("items".to_owned(), vec![item("a")])]);
        assert_eq!(
            item_inputs(JobKind::Object, one)[&ItemId::aggregate()],
            ItemInput::Aggregate(json!({"items": [{"id": "a"}]}))
        );
        assert!(item_ids(JobKind::Object, &Categories::new(), &[]).is_empty());
    }
}
