//! Each tenant's own data: where a job that follows preferences gets it, and what is asked for.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::Value;

use crate::{
    ids::{JobId, TenantId},
    input::{errors::Invalid, words::words},
    time::occurrence::Occurrence,
    work::item::Previous,
};

/// Where a job gets the data of its tenants, and what happens to tenants who have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataConfig {
    /// Where the data is.
    pub source: DataSource,
    /// What happens to the item of a tenant who has no data.
    pub on_empty: OnEmpty,
}

/// Where the data of tenants is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// A part of the program that embeds Punctual, by its name. It is asked for up to 500 tenants at a time.
    Provider(String),
    /// A URL.
    Http(HttpData),
}

/// Data at a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpData {
    /// Address, with placeholders.
    pub url: UrlTemplate,
    /// How many tenants one call is for.
    pub per: DataPer,
    /// Where in the answer the data stands, as a JSON pointer; empty: it is the answer.
    pub items: String,
    /// The environment variable that holds the key to send; `None`: none is sent.
    pub api_key_env: Option<String>,
    /// How long one call may take.
    pub timeout: Duration,
    /// Maximum number of calls of this job at one time; `None`: as many as items run.
    pub concurrency: Option<u32>,
    /// Calls of this job begun in a minute; `None`: any number.
    pub requests_per_minute: Option<u32>,
    /// Whether the URL may lead to this machine or into a private network.
    pub allow_private_addresses: bool,
}

/// How many tenants one call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataPer {
    /// One, by `GET`.
    #[default]
    Tenant,
    /// Up to 500 of one run, by `POST` of their ids.
    Chunk,
}

words!(
    DataPer,
    "unit of a data call",
    Tenant = "tenant",
    Chunk = "chunk",
);

/// What happens to the item of a tenant who has no data: `null`, an empty text, list or object, or no answer for the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnEmpty {
    /// There is nothing to do.
    #[default]
    Skip,
    /// It runs without data.
    Run,
}

words!(OnEmpty, "policy for empty data", Skip = "skip", Run = "run",);

impl DataConfig {
    /// Most tenants that are asked for at a time.
    pub const MAX_TENANTS: usize = 500;

    /// How many tenants one request is for at most.
    #[must_use]
    pub fn tenants_per_request(&self) -> usize {
        match &self.source {
            DataSource::Http(http) if http.per == DataPer::Tenant => 1,
            DataSource::Http(_) | DataSource::Provider(_) => Self::MAX_TENANTS,
        }
    }

    /// Whether the request says when a tenant's last successful run was.
    #[must_use]
    pub fn reads_previous(&self) -> bool {
        match &self.source {
            DataSource::Http(http) if http.per == DataPer::Tenant => http.url.reads_previous(),
            DataSource::Http(_) | DataSource::Provider(_) => true,
        }
    }
}

/// Whether a tenant has no data.
#[must_use]
pub fn is_empty_data(data: &Value) -> bool {
    match data {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What is asked for: the data of tenants for one run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRequest {
    /// The job.
    pub job_id: JobId,
    /// The run of the job.
    pub occurrence: Occurrence,
    /// Due time of the run.
    pub scheduled_at: DateTime<Utc>,
    /// Tenants whose data is asked for, at most 500.
    pub tenants: Vec<DataTenant>,
}

/// A tenant whose data is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataTenant {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Last successful run of the job for the tenant; `None`: there was none.
    pub previous: Option<Previous>,
}

/// As it is posted: `{"job", "tenants": [{"tenant_id", "occurrence", "scheduled_at", "previous"}]}`.
impl Serialize for DataRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Posted<'r> {
            tenant_id: &'r TenantId,
            occurrence: Occurrence,
            scheduled_at: DateTime<Utc>,
            previous: Option<Previous>,
        }
        let posted = self.tenants.iter().map(|tenant| Posted {
            tenant_id: &tenant.tenant_id,
            occurrence: self.occurrence,
            scheduled_at: self.scheduled_at,
            previous: tenant.previous,
        });
        let mut request = serializer.serialize_struct("DataRequest", 2)?;
        request.serialize_field("job", &self.job_id)?;
        request.serialize_field("tenants", &posted.collect::<Vec<_>>())?;
        request.end()
    }
}

/// A URL with placeholders in its path and query, such as
/// `https://shop.example/users/{tenant_id}/activity?since={previous.scheduled_at}&until={scheduled_at}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    TenantId,
    JobId,
    Occurrence,
    ScheduledAt,
    PreviousOccurrence,
    PreviousScheduledAt,
    PreviousFinishedAt,
}

impl Placeholder {
    const ALL: [(&str, Self); 7] = [
        ("tenant_id", Self::TenantId),
        ("job_id", Self::JobId),
        ("occurrence", Self::Occurrence),
        ("scheduled_at", Self::ScheduledAt),
        ("previous.occurrence", Self::PreviousOccurrence),
        ("previous.scheduled_at", Self::PreviousScheduledAt),
        ("previous.finished_at", Self::PreviousFinishedAt),
    ];

    fn is_of_tenant(self) -> bool {
        !matches!(self, Self::JobId | Self::Occurrence | Self::ScheduledAt)
    }

    fn is_of_previous(self) -> bool {
        self.is_of_tenant() && self != Self::TenantId
    }

    /// The names, in braces.
    fn names() -> String {
        let names = Self::ALL.map(|(name, _)| format!("{{{name}}}"));
        names.join(", ")
    }
}

impl UrlTemplate {
    /// Reads a URL with placeholders.
    ///
    /// # Errors
    /// A brace or a placeholder that has no meaning, or that stands before the path, with its place in the text.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let authority = text.find("://").map_or(0, |at| at + 3);
        let path = text[authority..].find(['/', '?', '#']);
        let path = path.map_or(text.len(), |at| authority + at);
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(brace) = text[at..].find(['{', '}']).map(|found| at + found) {
            let place = text[..brace].chars().count() + 1;
            let end = text[brace..].find('}').map(|found| brace + found);
            let (true, Some(end)) = (text[brace..].starts_with('{'), end) else {
                let problem = format!("has a brace at character {place} that is not a placeholder");
                return Err(Invalid::new(
                    problem,
                    "write %7B or %7D for a brace of the URL",
                ));
            };
            let name = &text[brace + 1..end];
            let known = Placeholder::ALL.iter().find(|(known, _)| *known == name);
            let Some((_, placeholder)) = known else {
                let problem =
                    format!("has the unknown placeholder {{{name}}} at character {place}");
                return Err(Invalid::new(
                    problem,
                    format!("use one of {}", Placeholder::names()),
                ));
            };
            if brace < path {
                let problem = format!("has a placeholder before its path, at character {place}");
                return Err(Invalid::new(
                    problem,
                    "name the host itself, and use placeholders in the path and the query",
                ));
            }
            if at < brace {
                parts.push(Part::Text(text[at..brace].to_owned()));
            }
            parts.push(Part::Placeholder(*placeholder));
            at = end + 1;
        }
        if at < text.len() {
            parts.push(Part::Text(text[at..].to_owned()));
        }
        let text = text.to_owned();
        Ok(Self { text, parts })
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL with `x` for every placeholder, to see whether it can be called.
    #[must_use]
    pub fn example(&self) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Placeholder(_) => "x",
        });
        parts.collect()
    }

    /// Whether a placeholder stands for something that each tenant has another value of.
    #[must_use]
    pub fn is_of_tenant(&self) -> bool {
        self.any(Placeholder::is_of_tenant)
    }

    /// Whether a placeholder stands for the tenant.
    #[must_use]
    pub fn names_tenant(&self) -> bool {
        self.any(|placeholder| placeholder == Placeholder::TenantId)
    }

    /// Whether a placeholder stands for the last successful run.
    #[must_use]
    pub fn reads_previous(&self) -> bool {
        self.any(Placeholder::is_of_previous)
    }

    fn any(&self, is_it: impl Fn(Placeholder) -> bool) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Text(_) => false,
            Part::Placeholder(placeholder) => is_it(*placeholder),
        })
    }

    /// The URL for a request; for its first tenant, where a placeholder stands for something of a tenant's. What replaces a
    /// placeholder is percent-encoded. Without an earlier run, nothing replaces those for it.
    #[must_use]
    pub fn fill(&self, request: &DataRequest) -> String {
        let tenant = request.tenants.first();
        let previous = tenant.and_then(|tenant| tenant.previous);
        let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let value = |placeholder| match placeholder {
            Placeholder::TenantId => tenant.map(|tenant| tenant.tenant_id.to_string()),
            Placeholder::JobId => Some(request.job_id.to_string()),
            Placeholder::Occurrence => Some(request.occurrence.to_string()),
            Placeholder::ScheduledAt => Some(instant(request.scheduled_at)),
            Placeholder::PreviousOccurrence => {
                previous.map(|previous| previous.occurrence.to_string())
            }
            Placeholder::PreviousScheduledAt => {
                previous.map(|previous| instant(previous.scheduled_at))
            }
            Placeholder::PreviousFinishedAt => {
                previous.map(|previous| instant(previous.finished_at))
            }
        };
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Placeholder(placeholder) => {
                percent_encoded(&value(*placeholder).unwrap_or_default())
            }
        });
        parts.collect()
    }
}

/// The text with all but the unreserved characters of RFC 3986 percent-encoded: it stays within its part of a URL.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(previous: Option<Previous>) -> DataRequest {
        DataRequest {
            job_id: JobId::new("digest").unwrap(),
            occurrence: "2026-03-02#2".parse().unwrap(),
            scheduled_at: "2026-03-02T17:00:00Z".parse().unwrap(),
            tenants: vec![DataTenant {
                tenant_id: TenantId::new("eu:ann@shop.example").unwrap(),
                previous,
            }],
        }
    }

    fn previous() -> Previous {
        Previous {
            occurrence: "2026-03-02".parse().unwrap(),
            scheduled_at: "2026-03-02T09:00:00Z".parse().unwrap(),
            finished_at: "2026-03-02T09:00:01.250Z".parse().unwrap(),
        }
    }

    #[test]
    fn placeholders_are_replaced_by_what_stays_within_its_part_of_the_url() {
        let template = "https://shop.example/users/{tenant_id}/{job_id}?run={occurrence}&at={scheduled_at}&since=\
             {previous.finished_at}&last={previous.occurrence}";
        let template = UrlTemplate::new(template).unwrap();
        assert_eq!(
            template.fill(&request(Some(previous()))),
            "https://shop.example/users/eu%3Aann%40shop.example/digest?run=2026-03-02%232&at=2026-03-02T17%3A00%3A00Z\
             &since=2026-03-02T09%3A00%3A01.250Z&last=2026-03-02"
        );
        assert!(template.fill(&request(None)).ends_with("&since=&last="));
        assert!(template.is_of_tenant() && template.names_tenant() && template.reads_previous());
        let plain = UrlTemplate::new("https://shop.example/activity?job={job_id}").unwrap();
        assert!(!plain.is_of_tenant() && !plain.names_tenant() && !plain.reads_previous());
        assert_eq!(
            percent_encoded("../ä?#{}&=+ "),
            "..%2F%C3%A4%3F%23%7B%7D%26%3D%2B%20"
        );
    }

    #[test]
    fn a_placeholder_without_a_meaning_is_refused_with_its_place() {
        for (url, expected) in [
            (
                "https://shop.example/{user}",
                "has the unknown placeholder {user} at character 22; use one of {tenant_id}, {job_id}",
            ),
            (
                "https://shop.example/{previous}",
                "unknown placeholder {previous}",
            ),
            (
                "https://shop.example/{}",
                "unknown placeholder {} at character 22",
            ),
            (
                "https://shop.example/{{tenant_id}}",
                "unknown placeholder {{tenant_id}",
            ),
            (
                "https://shop.example/ä/{tenant_id",
                "has a brace at character 24",
            ),
            (
                "https://shop.example/tenant_id}",
                "has a brace at character 31",
            ),
            (
                "https://{tenant_id}.example/",
                "has a placeholder before its path, at character 9",
            ),
            (
                "https://shop.example:{tenant_id}?a",
                "has a placeholder before its path",
            ),
        ] {
            let error = UrlTemplate::new(url).unwrap_err().at("/url", None);
            let error = error.to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }

    #[test]
    fn what_is_posted_names_every_tenant() {
        let posted = json!(request(Some(previous())));
        let expected = json!({"job": "digest", "tenants": [{
            "tenant_id": "eu:ann@shop.example", "occurrence": "2026-03-02#2", "scheduled_at": "2026-03-02T17:00:00Z",
            "previous": {"occurrence": "2026-03-02", "scheduled_at": "2026-03-02T09:00:00Z",
                "finished_at": "2026-03-02T09:00:01.250Z"}}]});
        assert_eq!(posted, expected);
        assert_eq!(json!(request(None))["tenants"][0]["previous"], Value::Null);
    }

    #[test]
    fn nothing_is_recognized_however_it_is_written() {
        for empty in [json!(null), json!(""), json!(" \n"), json!([]), json!({})] {
            assert!(is_empty_data(&empty), "{empty}");
        }
        for data in [
            json!(0),
            json!(false),
            json!("x"),
            json!([null]),
            json!({"new": []}),
        ] {
            assert!(!is_empty_data(&data), "{data}");
        }
    }
}
