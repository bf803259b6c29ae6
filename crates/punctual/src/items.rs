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
                Location::Listed(ids) => _ = items.insert(category.clone(), chosen(source, ids)),
                _ => _ = others.insert(category.clone(), source.clone()),
            }
        }
        match (&self.0, others.values().next()) {
            (_, None) => {}
            (Some(reader), _) => items.extend(reader.load(&others).await?),
            (None, Some(source)) => {
                let message =
                    "this program reads no files and no URLs; give the builder an `item_source`";
                let error = ItemSourceError::new(ItemSourceErrorKind::Invalid, message);
                return Err(error.at(source.place()));
            }
        }
        Ok(items)
    }
}

/// The items that a source wants of those that are listed.
fn chosen(source: &Source, ids: &[ItemId]) -> Vec<SourceItem> {
    let items = ids.iter().map(|id| SourceItem {
        id: id.clone(),
        data: json!({ "id": id }),
    });
    source.choose_by(items, |item| &item.data).collect()
}

#[cfg(test)]
mod tests {
    use punctual_application::testing::{
        FakeItemSource,
        contract::{self, ITEMS},
    };

    use super::*;

    fn source(location: Location) -> Source {
        Source {
            location,
            filters: vec![],
            limit: None,
        }
    }

    fn file(name: &str) -> Source {
        source(Location::File(name.to_owned()))
    }

    fn listed() -> Source {
        let ids = ITEMS.map(|id| ItemId::new(id).expect("valid"));
        source(Location::Listed(ids.to_vec()))
    }

    #[tokio::test]
    async fn listed_items_keep_the_contract() {
        let at_url = source(Location::Http {
            url: "https://shop.example/products?token=canary".to_owned(),
            items: String::new(),
            api_key_env: None,
            allow_private_addresses: false,
        });
        let unreadable = [file("none.json"), at_url];
        let unreadable = unreadable.map(|source| (source, ItemSourceErrorKind::Invalid));
        contract::item_source(&Items(None), &listed(), &unreadable).await;
    }

    #[tokio::test]
    async fn so_do_items_that_others_read_for_them() {
        let files = FakeItemSource::default();
        files.put("items.json", ITEMS);
        let items = Items(Some(Arc::new(files)));
        let unreadable = [(file("none.json"), ItemSourceErrorKind::Missing)];
        for source in [file("items.json"), listed()] {
            contract::item_source(&items, &source, &unreadable).await;
        }
    }
}
