//! The port `ItemSource`, in memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use punctual_domain::{ItemId, Source};
use serde_json::{Value, json};

use crate::ports::{ItemSource, ItemSourceError, ItemSourceErrorKind, SourceItem};

/// Items in memory, by the file or URL that a job names.
#[derive(Debug, Default)]
pub struct FakeItemSource(Mutex<BTreeMap<String, Vec<Value>>>);

impl FakeItemSource {
    fn records(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Value>>> {
        let records = self.0.lock();
        records.expect("nothing panics while it holds the lock")
    }

    /// Puts items with these ids, and no further fields, in place of what is at `place`: a file, or a URL without its
    /// query.
    pub fn put<I: Into<String>>(&self, place: &str, ids: impl IntoIterator<Item = I>) {
        let record = |id: I| json!({ "id": id.into() });
        let records = ids.into_iter().map(record).collect();
        self.records().insert(place.to_owned(), records);
    }

    fn load_one(&self, source: &Source) -> Result<Vec<SourceItem>, ItemSourceError> {
        let error = |kind, message: &str| ItemSourceError::new(kind, message).at(source.place());
        let records = self.records().get(source.place()).cloned();
        let records = records.ok_or_else(|| {
            let message = "a test has put no items there";
            error(ItemSourceErrorKind::Missing, message)
        })?;
        let item = |data: Value| {
            let id = ItemId::record(data["id"].as_str().unwrap_or_default());
            let id = id.map_err(|invalid| {
                error(ItemSourceErrorKind::Invalid, &invalid.to_string()).with_source(invalid)
            })?;
            Ok(SourceItem { id, data })
        };
        source.choose(records).into_iter().map(item).collect()
    }
}

#[async_trait]
impl ItemSource for FakeItemSource {
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        let load = |(category, source): (&String, &Source)| {
            let items = self.load_one(source)?;
            Ok((category.clone(), items))
        };
        sources.iter().map(load).collect()
    }
}

#[cfg(test)]
mod tests {
    use punctual_domain::Location;

    use super::*;
    use crate::testing::contract::{self, ITEMS};

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let file = |name: &str| Source {
            location: Location::File(name.to_owned()),
            filters: vec![],
            limit: None,
        };
        let fake = FakeItemSource::default();
        fake.put("items.json", ITEMS);
        fake.put("invalid.json", ["*"]);
        let unreadable = [
            (file("none.json"), ItemSourceErrorKind::Missing),
            (file("invalid.json"), ItemSourceErrorKind::Invalid),
        ];
        contract::item_source(&fake, &file("items.json"), &unreadable).await;
    }
}
