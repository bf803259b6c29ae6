//! Sources of items for plain jobs.
//!
//! To read another format of a file, add its ending to `Sources::records`, beside [`table`] and [`lines`]. For another place,
//! add a variant to [`Location`], read it in `source.rs` of `punctual-project`, describe it in `batch_config.schema.json`, and
//! take its records in `Sources::records`. An embedding program has records of its own through the port [`ItemSource`].

use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use punctual_application::ports::{ItemSource, ItemSourceError, ItemSourceErrorKind, SourceItem};
use punctual_domain::{ItemId, Location, Source};
use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    environment::secret,
    handlers::endpoint::{body, host_of, no_answer},
    outbound::{EndpointError, endpoint_client, outgoing},
    strict_json,
};

/// How long a source at a URL may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// The byte order mark, with which some programs begin a text.
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// Deepest nesting of a document.
const MAX_DEPTH: usize = 100;
/// Largest source at a URL, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Reads records from files and from URLs: a JSON array, one JSON object per line, or CSV with a header. Every record has
/// a unique `id`, text or a whole number; a record that is text alone is its id.
#[derive(Debug, Clone)]
pub struct Sources {
    folder: PathBuf,
    /// For URLs that may lead to private addresses, and for all others.
    private: Client,
    public: Client,
}

impl Sources {
    /// Paths of files count from `folder`.
    ///
    /// # Errors
    /// When no client for URLs can be made.
    pub fn in_folder(folder: &Path) -> Result<Self, ItemSourceError> {
        let client = |private| endpoint_client(HTTP_TIMEOUT, private).map_err(unusable);
        Ok(Self {
            folder: folder.to_owned(),
            private: client(true)?,
            public: client(false)?,
        })
    }

    async fn records(&self, source: &Source) -> Result<Vec<Value>, ItemSourceError> {
        match &source.location {
            Location::Listed(ids) => Ok(ids.iter().map(|id| json!({ "id": id })).collect()),
            Location::File(file) => {
                let text = tokio::fs::read_to_string(self.folder.join(file)).await;
                let text = text.map_err(unreadable)?;
                let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
                match file.rsplit('.').next() {
                    Some("ndjson" | "jsonl") => lines(text),
                    Some("csv") => table(text),
                    _ => array(text),
                }
            }
            Location::Http {
                url,
                items,
                api_key_env,
                allow_private_addresses: private,
            } => {
                let client = if *private {
                    &self.private
                } else {
                    &self.public
                };
                let url = outgoing(url, *private).map_err(unusable)?;
                let host = host_of(&url);
                let mut request = client.get(url);
                if let Some(name) = api_key_env {
                    let key = secret(name)
                        .ok_or_else(|| invalid(format!("{name} is not set in the environment")))?;
                    request = request.bearer_auth(key.expose_secret());
                }
                let response = request.send().await;
                let response = response.map_err(|error| unavailable(&host, error))?;
                let status = response.status();
                let body = body(response, MAX_BYTES).await;
                let (body, longer) = body.map_err(|error| unavailable(&host, error))?;
                if !status.is_success() {
                    let message = format!("{host} answered {status}");
                    return Err(ItemSourceError::new(kind_of(status), message));
                }
                if longer {
                    let limit = MAX_BYTES / 1024 / 1024;
                    return Err(invalid(format!("is larger than {limit} MiB")));
                }
                let document = parse(&body).map_err(|error| wrong("is not valid JSON", error))?;
                let list = document.pointer(items).and_then(Value::as_array).cloned();
                list.ok_or_else(|| {
                    invalid(format!(
                        "has no array of records at {items:?}; set \"items\" to its JSON pointer"
                    ))
                })
            }
        }
    }
}

#[async_trait]
impl ItemSource for Sources {
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        let mut categories = BTreeMap::new();
        for (category, source) in sources {
            let place = match &source.location {
                Location::File(file) => self.folder.join(file).display().to_string(),
                Location::Listed(_) | Location::Http { .. } => source.place().to_owned(),
            };
            let records = self
                .records(source)
                .await
                .map(|records| source.choose(records));
            let items = records.and_then(items);
            let items = items.map_err(|error| error.at(&place))?;
            categories.insert(category.clone(), items);
        }
        Ok(categories)
    }
}

fn invalid(message: impl Into<String>) -> ItemSourceError {
    ItemSourceError::new(ItemSourceErrorKind::Invalid, message)
}

/// What is there is not what it should be.
fn wrong(what: &str, error: impl Error + Send + Sync + 'static) -> ItemSourceError {
    invalid(format!("{what}: {error}")).with_source(error)
}

fn unusable(error: EndpointError) -> ItemSourceError {
    invalid(error.to_string()).with_source(error)
}

fn unreadable(error: io::Error) -> ItemSourceError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ItemSourceErrorKind::Missing,
        io::ErrorKind::InvalidData => ItemSourceErrorKind::Invalid,
        _ => ItemSourceErrorKind::Unavailable,
    };
    ItemSourceError::new(kind, error.to_string()).with_source(error)
}

fn unavailable(host: &str, error: reqwest::Error) -> ItemSourceError {
    let (message, error) = no_answer(host, error);
    ItemSourceError::new(ItemSourceErrorKind::Unavailable, message).with_source(error)
}

fn kind_of(status: StatusCode) -> ItemSourceErrorKind {
    match status.as_u16() {
        404 | 410 => ItemSourceErrorKind::Missing,
        408 | 425 | 429 | 500.. => ItemSourceErrorKind::Unavailable,
        _ => ItemSourceErrorKind::Invalid,
    }
}

/// CSV with a header; every field is text.
fn table(text: &str) -> Result<Vec<Value>, ItemSourceError> {
    let wrong = |error: csv::Error| wrong("is not CSV with a header", error);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut names = HashSet::new();
    for name in reader.headers().map_err(wrong)? {
        if !names.insert(name.to_owned()) {
            return Err(invalid(format!(
                "has two columns `{name}`; give every column its own name"
            )));
        }
    }
    let rows = reader.deserialize::<BTreeMap<String, String>>();
    rows.map(|row| row.map(|row| serde_json::json!(row)).map_err(wrong))
        .collect()
}

fn array(text: &str) -> Result<Vec<Value>, ItemSourceError> {
    let what = "is not a JSON array of records";
    match parse(text.as_bytes()) {
        Ok(Value::Array(records)) => Ok(records),
        Ok(_) => Err(invalid(what)),
        Err(error) => Err(wrong(what, error)),
    }
}

fn lines(text: &str) -> Result<Vec<Value>, ItemSourceError> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            parse(line.as_bytes())
                .map_err(|error| wrong(&format!("line {} is not JSON", index + 1), error))
        })
        .collect()
}

/// JSON in which no name comes twice.
fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    strict_json::read(
        text.strip_prefix(BYTE_ORDER_MARK.as_bytes())
            .unwrap_or(text),
        MAX_DEPTH,
    )
}

fn items(records: Vec<Value>) -> Result<Vec<SourceItem>, ItemSourceError> {
    let mut seen = HashSet::new();
    let mut items = Vec::with_capacity(records.len());
    for (index, data) in records.into_iter().enumerate() {
        let record = index + 1;
        let id = match data.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) if id.is_u64() => id.to_string(),
            None if data.is_string() => data.as_str().unwrap_or_default().to_owned(),
            _ => {
                return Err(invalid(format!(
                    "record {record} has no `id`; give every record its own"
                )));
            }
        };
        let id = ItemId::record(&id).map_err(|error| wrong(&format!("record {record}"), error))?;
        if !seen.insert(id.clone()) {
            return Err(invalid(format!(
                "record {record} has the id `{id}` of an earlier one; give every record its own"
            )));
        }
        items.push(SourceItem { id, data });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Source {
        Source {
            location: Location::File(name.to_owned()),
            filters: vec![],
            limit: None,
        }
    }

    async fn load(name: &str, content: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        let sources = BTreeMap::from([("items".to_owned(), file(name))]);
        match Sources::in_folder(folder.path())
            .unwrap()
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
        let csv = "id, name\nx,\"Mug, blue\"\n7, Cup\n";
        assert_eq!(load("a.csv", csv).await.unwrap(), ["x", "7"]);
        assert_eq!(load("a.json", r#"["x", "y"]"#).await.unwrap(), ["x", "y"]);
        for (name, content) in [
            ("a.csv", "\u{feff}id,name\nx,Mug\n"),
            ("a.json", "\u{feff}[{\"id\": \"x\"}]"),
            ("a.ndjson", "\u{feff}{\"id\": \"x\"}\r\n"),
            ("a.jsonl", "\u{feff}\r\n{\"id\": \"x\"}"),
        ] {
            assert_eq!(
                load(name, content).await.unwrap(),
                ["x"],
                "{name}: a byte order mark"
            );
        }
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
            ("a.csv", "id,name\nx\n", "is not CSV with a header"),
            ("a.csv", "id,name, id\nx,Mug,y\n", "has two columns `id`"),
            (
                "a.json",
                r#"[{"id": "x", "a": {"b": 1, "b": 2}}]"#,
                "the name \"b\" comes twice",
            ),
            (
                "a.ndjson",
                "{\"id\": \"x\", \"id\": \"y\"}",
                "line 1 is not JSON: the name \"id\" comes twice",
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
