//! The client of the agent's HTTP API, at `BATCH_HTTP_ADDR`. It reads the types that the server writes
//! ([`punctual_operations::model`]), so that both have the same fields.

use std::{net::SocketAddr, time::Duration};

use punctual_domain::visible;
use punctual_infrastructure::client_builder;
use punctual_web::ProblemBody;
use reqwest::{Method, StatusCode, Url, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{commands::Failure, settings::Settings};

/// How long the agent may take to answer, and to accept a connection.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take for what works through everything: a backfill of two million items takes minutes.
pub(crate) const LONG_TIMEOUT: Duration = Duration::from_mins(10);
/// Body of calls whose address says everything.
pub(crate) const NO_BODY: Option<&()> = None;
/// Entries asked for at a time.
const PAGE: usize = 1000;

/// A client of the agent.
pub(crate) struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    api_key: Option<SecretString>,
    /// Why the agent is asked, for its audit log.
    reason: Option<HeaderValue>,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let http = client_builder(TIMEOUT).no_proxy().build();
        Ok(Self {
            http: http.map_err(Failure::failed)?,
            address: settings.batch_http_addr,
            api_key: settings.batch_api_key.clone(),
            reason: None,
        })
    }

    /// The same client, whose requests say why.
    pub(crate) fn because(self, reason: Option<&str>) -> Result<Self, Failure> {
        let value = reason.map(|reason| HeaderValue::from_bytes(reason.as_bytes()));
        let reason = value.transpose().map_err(|_| {
            Failure::bad_input("the reason has control characters; give it in one line of text")
        })?;
        Ok(Self { reason, ..self })
    }

    /// Reads what is at `path`, below `/api/v1/`.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        self.get_within(path, query, TIMEOUT).await
    }

    /// The same, of what may take longer.
    pub(crate) async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        timeout: Duration,
    ) -> Result<T, Failure> {
        let request = self.request(Method::GET, path).query(query);
        self.send(request.timeout(timeout), None).await
    }

    /// Reads every page at `path`; `entries_of` takes a page apart into its entries and its `next_cursor`.
    pub(crate) async fn pages<P: DeserializeOwned, T>(
        &self,
        path: &str,
        mut query: Vec<(&str, String)>,
        entries_of: impl Fn(P) -> (Vec<T>, Option<String>),
        mut take: impl FnMut(Vec<T>),
    ) -> Result<(), Failure> {
        query.push(("limit", PAGE.to_string()));
        loop {
            let (entries, next) = entries_of(self.get(path, &query).await?);
            take(entries);
            let Some(next) = next else { return Ok(()) };
            query.retain(|(name, _)| *name != "cursor");
            query.push(("cursor", next));
        }
    }

    /// Reads the first `most` entries at `path`, and whether there are more.
    pub(crate) async fn first<P: DeserializeOwned, T>(
        &self,
        path: &str,
        mut query: Vec<(&str, String)>,
        most: usize,
        entries_of: impl Fn(P) -> (Vec<T>, Option<String>),
    ) -> Result<(Vec<T>, bool), Failure> {
        let mut all = Vec::new();
        loop {
            let limit = (most - all.len()).min(PAGE);
            query.retain(|(name, _)| *name != "limit");
            query.push(("limit", limit.to_string()));
            let (entries, next) = entries_of(self.get(path, &query).await?);
            all.extend(entries);
            match next {
                Some(next) if all.len() < most => {
                    query.retain(|(name, _)| *name != "cursor");
                    query.push(("cursor", next));
                }
                next => return Ok((all, next.is_some())),
            }
        }
    }

    /// Posts what may be done twice.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let mut request = self.request(Method::POST, path).timeout(TIMEOUT);
        if let Some(body) = body {
            request = request.json(&body_of(body));
        }
        self.send(request, None).await
    }

    /// The same, of what may take longer.
    pub(crate) async fn post_within<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).json(&body_of(body));
        self.send(request.timeout(timeout), None).await
    }

    /// Posts something that is to be done once per key; without one, a key is drawn.
    pub(crate) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: Option<String>,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let key = key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let request = self.request(Method::POST, path).json(&body_of(body));
        let request = request.header("Idempotency-Key", &key).timeout(timeout);
        self.send(request, Some(&key)).await
    }

    /// Deletes what has this name at `path`.
    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
    ) -> Result<T, Failure> {
        let request = self.deletion(path, name)?;
        self.send(request, None).await
    }

    /// The same, where nothing is answered.
    pub(crate) async fn remove(&self, path: &str, name: &str) -> Result<(), Failure> {
        let request = self.deletion(path, name)?;
        self.answer(request, None).await.map(drop)
    }

    /// Reads what is at `path` line by line, as it comes.
    pub(crate) async fn lines(
        &self,
        path: &str,
        query: &[(&str, String)],
        mut take: impl FnMut(&str),
    ) -> Result<(), Failure> {
        let request = self.request(Method::GET, path).query(query);
        let mut answer = self.answer(request.timeout(LONG_TIMEOUT), None).await?;
        let mut rest = Vec::new();
        let broken = |error: reqwest::Error| {
            let error = error.without_url();
            Failure::failed(format!(
                "the answer of the agent broke off: {error}; try again"
            ))
        };
        while let Some(part) = answer.chunk().await.map_err(broken)? {
            rest.extend_from_slice(&part);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                take(String::from_utf8_lossy(&line).trim_end());
            }
        }
        Ok(())
    }

    fn deletion(&self, path: &str, name: &str) -> Result<reqwest::RequestBuilder, Failure> {
        let mut url: Url = self.url(path).parse().map_err(Failure::failed)?;
        // A name may have characters that mean something in an address.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(name);
        }
        Ok(self.authorized(self.http.delete(url)).timeout(TIMEOUT))
    }

    /// Deletes what is at `path`, which may take longer.
    pub(crate) async fn delete_within<T: DeserializeOwned>(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let request = self.request(Method::DELETE, path);
        self.send(request.timeout(timeout), None).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/{path}", self.address)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.authorized(self.http.request(method, self.url(path)))
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = match &self.api_key {
            Some(key) => request.bearer_auth(key.expose_secret()),
            None => request,
        };
        match &self.reason {
            Some(reason) => request.header("Punctual-Reason", reason),
            None => request,
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        key: Option<&str>,
    ) -> Result<T, Failure> {
        let address = self.address;
        let answer = self.answer(request, key).await?.json().await;
        answer.map_err(|error| {
            let remedy = key.map_or_else(
                || "check that the agent runs this version".to_owned(),
                |key| format!("repeat the call with --idempotency-key {key}: nothing runs twice"),
            );
            Failure::failed(format!(
                "cannot read the answer of the agent at {address} ({}); {remedy}",
                error.without_url()
            ))
        })
    }

    /// What the agent refuses is bad input.
    async fn answer(
        &self,
        request: reqwest::RequestBuilder,
        key: Option<&str>,
    ) -> Result<reqwest::Response, Failure> {
        let address = self.address;
        let response = request.send().await.map_err(|error| match key {
            Some(key) if !error.is_connect() => Failure::failed(format!(
                "the agent at {address} did not answer ({}); repeat the call with \
                 --idempotency-key {key}: nothing runs twice",
                error.without_url()
            )),
            _ => Failure::failed(format!(
                "no agent answers at {address} ({}); start one with `punctual-agent run`, or set \
                 BATCH_HTTP_ADDR to the address of a running one",
                error.without_url()
            )),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // An agent gives a reason with every error.
        let Ok(problem) = response.json::<ProblemBody>().await else {
            return Err(Failure::failed(format!(
                "what answers at {address} is not an agent, or its answer broke off ({status}); set BATCH_HTTP_ADDR to the \
                 address of an agent"
            )));
        };
        let detail = visible(&problem.detail);
        Err(match status {
            StatusCode::UNAUTHORIZED => Failure::BadInput(format!(
                "the agent at {address} refused the API key; set BATCH_API_KEY"
            )),
            status if status.is_client_error() => Failure::BadInput(detail.into_owned()),
            status => Failure::failed(format!(
                "the agent at {address} answered {status}: {detail}"
            )),
        })
    }
}

/// A request as JSON. What is absent is left out: the agent refuses `null`, which a script that found nothing may send.
fn body_of(request: &impl Serialize) -> Value {
    let mut body = json!(request);
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    body
}

#[cfg(test)]
mod tests {
    use punctual_application::{BackfillRequest, DeadLetterSelection, TriggerRequest};

    use super::*;

    fn is_read_back<T: Serialize + DeserializeOwned>(request: &T) -> bool {
        let read: T = serde_json::from_value(body_of(request)).unwrap();
        json!(read) == json!(request)
    }

    #[test]
    fn the_agent_reads_every_request_as_it_was_sent() {
        let tenants = Some(["ann".parse().unwrap()].into());
        assert!(is_read_back(&TriggerRequest::default()));
        assert!(is_read_back(&TriggerRequest {
            tenants: tenants.clone(),
            ..TriggerRequest::default()
        }));
        for tenants in [None, tenants] {
            assert!(is_read_back(&BackfillRequest {
                from: "2026-02-27".parse().unwrap(),
                to: "2026-02-28".parse().unwrap(),
                all: tenants.is_none(),
                tenants,
                allow_unknown: false,
                preview: true,
            }));
        }
        assert!(is_read_back(&DeadLetterSelection::one(1)));
        assert!(is_read_back(&DeadLetterSelection {
            job_id: Some("posts".parse().unwrap()),
            ..DeadLetterSelection::default()
        }));
    }
}
