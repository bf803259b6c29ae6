//! The items that jobs list themselves, beside those that are read from elsewhere.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use punctual_application::ports::{ItemSource, ItemSourceError, ItemSourceErrorKind, SourceItem};
use punctual_domain::{ItemId, Location, Source};
use serde_json::json;

/// Listed items; all other sources are read by the reader, if there is one.
pub(crate) struct Items(pub(crate) Option<Arc<dyn ItemSource>>);

#[async_trait]
impl ItemSource for Items {
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        let (mut items, mut others) = (BTreeMap::new(), BTreeMap::new());
        for (category, source) in sources {
            match &source.location {
                Location::Listed(ids) => _ = items.insert(category.clone(), records(ids)),
                _ => _ = others.insert(category.clone(), source.clone()),
            }
        }
        match &self.0 {
            _ if others.is_empty() => {}
            Some(reader) => items.extend(reader.load(&others).await?),
            None => {
                return Err(ItemSourceError::new(
                    ItemSourceErrorKind::Invalid,
                    "this program reads no files and no URLs; give the builder an `item_source`",
                ));
            }
        }
        Ok(items)
    }
}

fn records(ids: &[ItemId]) -> Vec<SourceItem> {
    let record = |id: &ItemId| SourceItem {
        id: id.clone(),
        data: json!({ "id": id }),
    };
    ids.iter().map(record).collect()
}
