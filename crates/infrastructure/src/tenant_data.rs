//! Tenants' own data at URLs: one `GET` for a tenant, or one `POST` of up to 500 ids whose answer is an object by tenant.

mod large;

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use punctual_application::ports::{HandlerError, TenantAnswers, TenantData};
use punctual_domain::{
    DataPer, DataRequest, DataSource, FieldError, FieldErrorKind, HttpData, below,
};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::{task::spawn_blocking, time::Instant};

use self::large::LargeAnswers;
use crate::{
    environment::{secret, secret_in},
    handlers::endpoint::{Read, asked_to_wait, host_of, read_on, refused, unanswered, without_key},
    outbound::{EndpointError, endpoint_client, outgoing},
    spans, strict_json,
};

/// The longest that a job may wait for an answer.
const MAX_TIMEOUT: Duration = Duration::from_mins(10);
/// Data of one tenant, in bytes.
const MAX_BYTES_PER_TENANT: usize = 256 * 1024;
/// One answer, in bytes, however many tenants it is for.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// From so many bytes on, an answer is large: few are in memory at one time, and it is parsed where it holds up nothing else.
const LARGE: usize = 1024 * 1024;
/// Deepest nesting of the data.
const MAX_DEPTH: usize = 64;

/// Fetches data from the URLs that jobs name.
#[derive(Debug, Clone)]
pub struct HttpTenantData {
    /// For URLs that may lead to private addresses, and for all others.
    private: Client,
    public: Client,
    /// Clones share it.
    large: LargeAnswers,
}

impl HttpTenantData {
    /// Fetches with connections of its own.
    ///
    /// # Errors
    /// [`EndpointError`]: no client can be built.
    pub fn new() -> Result<Self, EndpointError> {
        let client = |private| endpoint_client(MAX_TIMEOUT, private);
        Ok(Self {
            private: client(true)?,
            public: client(false)?,
            large: LargeAnswers::default(),
        })
    }
}

#[async_trait]
impl TenantData for HttpTenantData {
    async fn fetch(
        &self,
        source: &DataSource,
        request: &DataRequest,
    ) -> Result<TenantAnswers, HandlerError> {
        let http = match source {
            DataSource::Http(http) => http,
            DataSource::Provider(name) => {
                let message = format!("this program has no provider `{name}`");
                return Err(HandlerError::permanent(message));
            }
        };
        let private = http.allow_private_addresses;
        let url = outgoing(&http.url.fill(request), private)
            .map_err(|error| HandlerError::permanent(format!("the URL {error}")))?;
        let host = host_of(&url);
        let client = if private { &self.private } else { &self.public };
        let call = match http.per {
            DataPer::Tenant => client.get(url),
            DataPer::Chunk => client.post(url).json(request),
        };
        let deadline = Instant::now() + http.timeout;
        let mut call = call.timeout(http.timeout);
        let key = match &http.api_key_env {
            None => None,
            Some(name) => Some(secret(name).ok_or_else(|| {
                HandlerError::permanent(format!("{name} is not set in the environment"))
            })?),
        };
        if let Some(key) = &key {
            call = call.bearer_auth(key.expose_secret());
        }
        let unanswered = |error| unanswered(&host, error);
        let mut response = spans::call(call).await.map_err(unanswered)?;
        let (status, wait) = (response.status(), asked_to_wait(response.headers()));
        let limit = MAX_BYTES.min(request.tenants.len().max(1) * MAX_BYTES_PER_TENANT);
        let mut answer = Vec::new();
        let begun = read_on(&mut response, &mut answer, LARGE, limit).await;
        let mut read = begun.map_err(unanswered)?;
        let mut permit = None;
        // Of what is refused, the beginning is enough.
        if read == Read::Paused && status.is_success() {
            permit = Some(self.large.permit(&host, deadline).await?);
            let rest = read_on(&mut response, &mut answer, usize::MAX, limit);
            let rest = self.large.in_time(&host, rest).await?;
            read = rest.map_err(unanswered)?;
        }
        if !status.is_success() {
            let answer = without_key(answer, key.as_ref());
            let detail = String::from_utf8_lossy(&answer);
            return Err(refused(&host, status, wait, &detail));
        }
        if read == Read::Cut {
            let limit = limit / 1024;
            let message = format!("{host} answered more than {limit} KiB");
            return Err(HandlerError::permanent(message));
        }
        let answers = if answer.len() > LARGE {
            let (http, request) = (http.clone(), request.clone());
            spawn_blocking(move || parsed(answer, key.as_ref(), &http, &request)).await?
        } else {
            parsed(answer, key.as_ref(), http, request)
        };
        drop(permit);
        answers
            .map_err(|problem| HandlerError::retryable(format!("the answer of {host} {problem}")))
    }
}

/// The data of each tenant in an answer, without the key that was sent.
fn parsed(
    answer: Vec<u8>,
    key: Option<&SecretString>,
    http: &HttpData,
    request: &DataRequest,
) -> Result<TenantAnswers, String> {
    let answer = without_key(answer, key);
    match http.per {
        _ if answer.trim_ascii().is_empty() => Ok(TenantAnswers::new()),
        DataPer::Tenant => of_one(&answer, http, request),
        DataPer::Chunk => of_many(&answer, http, request),
    }
}

/// The answer for one tenant. What is not there is not data.
fn of_one(answer: &[u8], http: &HttpData, request: &DataRequest) -> Result<TenantAnswers, String> {
    let mut document = read(answer)?;
    let data = document.pointer_mut(&http.items).map(Value::take);
    let tenant = request.tenants.first();
    let answered = tenant.zip(data);
    let answered = answered.map(|(tenant, data)| (tenant.tenant_id.clone(), Ok(data)));
    Ok(answered.into_iter().collect())
}

/// The answer for many tenants: what is wrong with the data of one is that tenant's failure alone.
fn of_many(answer: &[u8], http: &HttpData, request: &DataRequest) -> Result<TenantAnswers, String> {
    let of_tenants = at_pointer(answer, &http.items)?;
    // So some write an object without members.
    if [&b"null"[..], b"[]"].contains(&of_tenants) {
        return Ok(HashMap::new());
    }
    let place = &http.items;
    let members = strict_json::members(of_tenants)
        .map_err(|problem| format!("has no object by tenant at {place:?}: it {problem}"))?;
    let answers = request.tenants.iter().filter_map(|tenant| {
        let tenant = &tenant.tenant_id;
        let data = *members.by_name.get(tenant.as_str())?;
        let data = if data.len() > MAX_BYTES_PER_TENANT {
            let limit = MAX_BYTES_PER_TENANT / 1024;
            let message = format!("the data of the tenant is longer than {limit} KiB");
            Err(HandlerError::permanent(message))
        } else {
            read(data).map_err(|problem| {
                HandlerError::retryable(format!("the data of the tenant {problem}"))
            })
        };
        Some((tenant.clone(), data))
    });
    Ok(answers.collect())
}

/// The part of a document at a JSON pointer that names members of objects, as it stands there.
fn at_pointer<'j>(document: &'j [u8], pointer: &str) -> Result<&'j [u8], String> {
    let mut part = document.trim_ascii();
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        let members = strict_json::members(part)?;
        part = *members.by_name.get(&name).ok_or_else(|| {
            format!(
                "has nothing at {pointer:?}; set \"items\" to the pointer of the object by tenant"
            )
        })?;
    }
    Ok(part)
}

fn read(json: &[u8]) -> Result<Value, String> {
    strict_json::read(json, MAX_DEPTH).map_err(|error| format!("is not valid JSON: {error}"))
}

/// What cannot be used of the `data` at `pointer`, as far as is known without a call.
pub(crate) fn mistakes(source: &DataSource, pointer: &str) -> Vec<FieldError> {
    let error = |field: &str, value: &str, problem: String, remedy: &str| FieldError {
        pointer: below(pointer, field),
        value: Some(format!("{value:?}")),
        problem,
        remedy: remedy.to_owned(),
        kind: FieldErrorKind::Other,
    };
    let http = match source {
        DataSource::Http(http) => http,
        DataSource::Provider(name) => {
            let problem = "is a provider, and only programs that embed Punctual have providers";
            let remedy = "give the \"url\" of the data";
            return vec![error("provider", name, problem.to_owned(), remedy)];
        }
    };
    let url = outgoing(&http.url.example(), http.allow_private_addresses).err();
    let url = url.map(|problem| {
        let remedy = "give the URL that the service with the data documents";
        error("url", http.url.as_str(), problem.to_string(), remedy)
    });
    let name = http.api_key_env.as_deref().map(Value::from);
    let key = name.as_ref().and_then(|name| secret_in(name).err());
    let key = key.map(|invalid| invalid.at(below(pointer, "api_key_env"), name.as_ref()));
    url.into_iter().chain(key).collect()
}

#[cfg(test)]
mod tests {
    mod hostile;

    use punctual_domain::{DataTenant, TenantId, UrlTemplate};
    use serde_json::json;

    use super::*;

    fn http(items: &str) -> HttpData {
        HttpData {
            url: UrlTemplate::new("https://shop.example/").unwrap(),
            per: DataPer::Chunk,
            items: items.to_owned(),
            api_key_env: None,
            timeout: Duration::from_secs(1),
            concurrency: None,
            requests_per_minute: None,
            allow_private_addresses: false,
        }
    }

    fn request(tenants: &[&str]) -> DataRequest {
        let tenant = |id: &&str| DataTenant {
            tenant_id: TenantId::new(id).unwrap(),
            previous: None,
        };
        DataRequest {
            job_id: punctual_domain::JobId::new("digest").unwrap(),
            occurrence: "2026-03-02".parse().unwrap(),
            scheduled_at: "2026-03-02T09:00:00Z".parse().unwrap(),
            tenants: tenants.iter().map(tenant).collect(),
        }
    }

    #[test]
    fn what_is_wrong_with_one_tenants_data_is_that_tenants_failure() {
        let long = "x".repeat(MAX_BYTES_PER_TENANT);
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        let answer = format!(
            r#"{{"a~/b": {{"ann": {{"n": 1}}, "long": "{long}", "deep": {deep}, "twice": 1, "twice": 2, "broken": tru,
                "same": {{"a": 1, "a": 2}}, "stranger": 1}}}}"#
        );
        let tenants = ["ann", "long", "deep", "twice", "broken", "same", "missing"];
        let request = request(&tenants);
        let answers = of_many(answer.as_bytes(), &http("/a~0~1b"), &request).unwrap();
        let of = |tenant: &str| answers.get(&TenantId::new(tenant).unwrap());
        assert_eq!(*of("ann").unwrap().as_ref().unwrap(), json!({"n": 1}));
        assert!(of("missing").is_none() && of("stranger").is_none());
        for tenant in &tenants[1..6] {
            let error = of(tenant).unwrap().as_ref().unwrap_err();
            assert!(
                error.message.starts_with("the data of the tenant "),
                "{error}"
            );
        }
        for nothing in [r#"{"data": null}"#, r#"{"data": []}"#, r#"{"data": {}}"#] {
            let answers = of_many(nothing.as_bytes(), &http("/data"), &request).unwrap();
            assert!(answers.is_empty(), "{nothing}");
        }
        for wrong in [
            "[]",
            "7",
            r#"{"data": 7}"#,
            r#"{"data": {"ann": 1}"#,
            r#"{"date": {}}"#,
        ] {
            assert!(
                of_many(wrong.as_bytes(), &http("/data"), &request).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_data_of_one_tenant_stands_where_the_job_says() {
        let request = request(&["ann"]);
        let ann = &request.tenants[0].tenant_id;
        let data = |answer: &str, items: &str| {
            let answers = of_one(answer.as_bytes(), &http(items), &request);
            answers.map(|answers| answers.get(ann).map(|data| data.clone().unwrap()))
        };
        assert_eq!(data(r#"{"data": [1]}"#, "/data"), Ok(Some(json!([1]))));
        assert_eq!(data(r#"{"data": [1]}"#, ""), Ok(Some(json!({"data": [1]}))));
        assert_eq!(data(r#"{"data": [1]}"#, "/data/0"), Ok(Some(json!(1))));
        assert_eq!(data(r#"{"data": [1]}"#, "/orders"), Ok(None));
        assert!(data(r#"{"data": [1"#, "/data").is_err());
        assert!(data(r#"{"data": 1, "data": 2}"#, "/data").is_err());
    }
}
