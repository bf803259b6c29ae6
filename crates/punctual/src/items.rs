//! The items that jobs list in Rust, beside those that are read from elsewhere.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use punctual_application::ports::{ItemSource, ItemSourceError, ItemSourceErrorKind, SourceItem};
use punctual_domain::{Location, Source, TenantId};
use serde_json::json;

/// Items by the name of their source; all other sources are read by `others`.
pub(crate) struct Items {
    pub(crate) listed: HashMap<String, Vec<String>>,
    pub(crate) others: Arc<dyn ItemSource>,
}

impl Items {
    fn of(&self, source: &Source) -> Option<&[String]> {
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
                Some(ids) => _ = items.insert(category.clone(), records(ids)?),
                None => _ = others.insert(category.clone(), source.clone()),
            }
        }
        if !others.is_empty() {
            items.extend(self.others.load(&others).await?);
        }
        Ok(items)
    }
}

fn records(ids: &[String]) -> Result<Vec<SourceItem>, ItemSourceError> {
    let record = |id: &String| {
        let data = json!({ "id": id });
        let id = TenantId::new(id).map_err(|error| {
            ItemSourceError::new(ItemSourceErrorKind::Invalid, error.to_string())
        })?;
        Ok(SourceItem { id, data })
    };
    ids.iter().map(record).collect()
}
