//! Sources of items for plain jobs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use punctual_application::ports::{ItemSource, ItemSourceError, SourceItem};
use punctual_domain::{Source, TenantId};
use serde_json::Value;

/// Reads records from files: a JSON array, or one JSON object a line when the name ends in `.ndjson`. Every
/// record is an object with a unique `id` (text or a whole number).
#[derive(Debug, Clone)]
pub struct FileItemSource {
    folder: PathBuf,
}

impl FileItemSource {
    /// Paths of sources count from `folder`.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }
}

#[async_trait]
impl ItemSource for FileItemSource {
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        let mut categories = BTreeMap::new();
        for (category, source) in sources {
            let path = self.folder.join(&source.file);
            let fail = |problem: String| ItemSourceError(format!("{}: {problem}", path.display()));
            let text = tokio::fs::read_to_string(&path)
                .await
                .map_err(|error| fail(error.to_string()))?;
            let records = if source.file.ends_with(".ndjson") {
                lines(&text)
            } else {
                array(&text)
            };
            categories.insert(category.clone(), records.and_then(items).map_err(fail)?);
        }
        Ok(categories)
    }
}

fn array(text: &str) -> Result<Vec<Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("is not a JSON array of records: {error}"))
}

fn lines(text: &str) -> Result<Vec<Value>, String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line)
                .map_err(|error| format!("line {} is not JSON: {error}", index + 1))
        })
        .collect()
}

fn items(records: Vec<Value>) -> Result<Vec<SourceItem>, String> {
    let mut seen = std::collections::HashSet::new();
    let mut items = Vec::with_capacity(records.len());
    for (index, data) in records.into_iter().enumerate() {
        let record = index + 1;
        let id = match data.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) if id.is_u64() => id.to_string(),
            _ => {
                return Err(format!(
                    "record {record} has no `id`; give every record its own"
                ));
            }
        };
        let id = TenantId::new(&id).map_err(|error| format!("record {record}: {error}"))?;
        if !seen.insert(id.clone()) {
            return Err(format!(
                "record {record} has the id `{id}` of an earlier one; give every record its own"
            ));
        }
        items.push(SourceItem { id, data });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn load(name: &str, content: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        let sources = BTreeMap::from([(
            "items".to_owned(),
            Source {
                file: name.to_owned(),
            },
        )]);
        match FileItemSource::in_folder(folder.path())
            .load(&sources)
            .await
        {
            Ok(categories) => Ok(categories["items"]
                .iter()
                .map(|item| item.id.to_string())
                .collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn arrays_and_lines_are_read() {
        assert_eq!(
            load("a.json", r#"[{"id": "x"}, {"id": 7}]"#).await.unwrap(),
            ["x", "7"]
        );
        assert_eq!(
            load("a.ndjson", "{\"id\": \"x\"}\n\n{\"id\": 7}\n")
                .await
                .unwrap(),
            ["x", "7"]
        );
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_with_its_record() {
        for (name, content, expected) in [
            ("a.json", "{}", "is not a JSON array"),
            ("a.ndjson", "{\"id\": 1}\n{", "line 2 is not JSON"),
            ("a.json", "[{}]", "record 1 has no `id`"),
            (
                "a.json",
                r#"[{"id": "a b"}]"#,
                "record 1: `a b` is not a valid",
            ),
            (
                "a.json",
                r#"[{"id": 1}, {"id": "1"}]"#,
                "record 2 has the id `1` of an earlier one",
            ),
        ] {
            let error = load(name, content).await.unwrap_err();
            assert!(error.contains(expected) && error.contains(name), "{error}");
        }
    }
}
