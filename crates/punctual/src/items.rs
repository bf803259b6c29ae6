//! The items that jobs list in Rust, beside those that are read from elsewhere.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use punctual_application::ports::{ItemSource, ItemSourceError, ItemSourceErrorKind, SourceItem};
use punctual_domain::{Location, Source, TenantId};
use serde_json::json;

/// Items by the name of their source; all other sources are read by `others`, if at all.
pub(crate) struct Items {
    pub(crate) listed: HashMap<String, Vec<TenantId>>,
    pub(crate) others: Option<Arc<dyn ItemSource>>,
}

impl Items {
    fn of(&self, source: &Source) -> Option<&[TenantId]> {
        match &source.location {
            Location::File(name) => self.listed.get(name).map(Vec::as_slice),
            Location::Http { .. } => None,
        }
    }
}

#[async_trait]
impl ItemSource for Items {
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        let mut items = BTreeMap::new();
        let mut others = BTreeMap::new();
        for (category, source) in sources {
            match self.of(source) {
                Some(ids) => _ = items.insert(category.clone(), records(ids)),
                None => _ = others.insert(category.clone(), source.clone()),
            }
        }
        match &self.others {
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

fn records(ids: &[TenantId]) -> Vec<SourceItem> {
    let record = |id: &TenantId| SourceItem {
        id: id.clone(),
        data: json!({ "id": id }),
    };
    ids.iter().map(record).collect()
}
