//! The client of agents' HTTP APIs: what has run for a tenant, for the pages of a Config Database in another process.
//!
//! A page waits for it, so a call is made once, with a short time limit and a bounded answer, and follows no redirect. Where
//! agents divide the tenants among them, each knows a part of the runs: all are asked, and all have to answer.

use std::{collections::BTreeSet, fmt, time::Duration};

use async_trait::async_trait;
use futures::future::try_join_all;
use punctual_application::ports::{
    PastRun, RunHistory, RunHistoryError, RunHistoryErrorKind, RunOutcome,
};
use punctual_domain::{FeatureType, TenantId};
use reqwest::{
    Client, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use tracing::warn;

use super::api::{authorization, base_of, reason_of, shown};
use crate::{
    handlers::endpoint::body,
    outbound::{client_builder, is_loopback},
};

/// How long an agent may take to answer: less than a page waits, so that the error names the agent.
const TIMEOUT: Duration = Duration::from_millis(1_500);
/// Bytes of an answer at most: 100 runs take a third of it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Agents that are asked at most.
const MAX_AGENTS: usize = 64;

/// Which agents are asked, and how.
#[derive(Debug, Clone)]
pub struct AgentClientOptions {
    /// URLs of the agents' HTTP APIs, with commas between, such as `http://127.0.0.1:8080`: one agent of each store.
    pub urls: String,
    /// The API key that the agents require.
    pub api_key: Option<SecretString>,
    /// What the program calls the settings that these come from.
    pub names: AgentSettingNames,
}

/// What the program calls the settings of an [`AgentClient`], for messages.
#[derive(Debug, Clone, Copy)]
pub struct AgentSettingNames {
    /// The setting that holds the URLs.
    pub urls: &'static str,
    /// The setting that holds the API key.
    pub api_key: &'static str,
}

impl Default for AgentSettingNames {
    fn default() -> Self {
        Self {
            urls: "`AgentClientOptions::urls`",
            api_key: "`AgentClientOptions::api_key`",
        }
    }
}

/// A client of agents' HTTP APIs.
pub struct AgentClient {
    http: Client,
    agents: Vec<Url>,
    authorization: Option<HeaderValue>,
    names: AgentSettingNames,
}

impl fmt::Debug for AgentClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents: Vec<String> = self.agents.iter().map(shown).collect();
        f.debug_struct("AgentClient")
            .field("agents", &agents)
            .finish_non_exhaustive()
    }
}

/// What an agent answers with.
#[derive(Deserialize)]
struct Answer {
    tenant_id: TenantId,
    feature_type: FeatureType,
    #[serde(deserialize_with = "known_runs")]
    runs: Vec<PastRun>,
}

/// Runs that have ended in a way that a newer version has added are left out.
fn known_runs<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<PastRun>, D::Error> {
    let runs = Vec::<Value>::deserialize(value)?;
    let is_newer = |run: &Value| {
        let outcome = &run["outcome"];
        outcome.is_string() && RunOutcome::deserialize(outcome).is_err()
    };
    let known = runs.into_iter().filter(|run| !is_newer(run));
    known
        .map(|run| serde_json::from_value(run).map_err(D::Error::custom))
        .collect()
}

impl AgentClient {
    /// A client of these agents. None is called yet.
    ///
    /// # Errors
    /// A URL or the key cannot be used; neither is in the message.
    pub fn new(options: AgentClientOptions) -> Result<Self, RunHistoryError> {
        let AgentClientOptions {
            urls,
            api_key,
            names,
        } = options;
        let malformed = |problem: String| error(RunHistoryErrorKind::Malformed, problem);
        let invalid = |problem: String| {
            malformed(format!(
                "invalid {}: {problem}; use a URL such as http://127.0.0.1:8080, or several with \
                 commas between",
                names.urls
            ))
        };
        let urls: Vec<&str> = urls.split(',').map(str::trim).collect();
        if urls.len() > MAX_AGENTS {
            return Err(invalid(format!(
                "it names {} agents, more than {MAX_AGENTS}",
                urls.len()
            )));
        }
        let agent_at = |url: &str| {
            let base = base_of(url).map_err(invalid)?;
            if !base.username().is_empty() || base.password().is_some() {
                return Err(malformed(format!(
                    "invalid {}: it contains a user name or a password; put the key into {}",
                    names.urls, names.api_key
                )));
            }
            Ok(base)
        };
        let agents = urls.into_iter().map(agent_at);
        let agents = agents.collect::<Result<Vec<Url>, _>>()?;
        let key = api_key.as_ref().map(|key| {
            authorization(key).ok_or_else(|| {
                malformed(format!(
                    "{} contains a character that is not allowed in an HTTP header",
                    names.api_key
                ))
            })
        });
        if key.is_some() {
            for agent in agents.iter().filter(|agent| is_exposed(agent)) {
                let (url, name) = (shown(agent), names.api_key);
                warn!(
                    url,
                    "{name} goes to {url} unencrypted; use https, or a private network"
                );
            }
        }
        let http = client_builder(TIMEOUT).timeout(TIMEOUT).build();
        Ok(Self {
            http: http.map_err(|failure| invalid(failure.to_string()))?,
            agents,
            authorization: key.transpose()?,
            names,
        })
    }

    /// The runs that one agent knows.
    async fn runs_of(
        &self,
        agent: &Url,
        (tenant_id, feature_type): (&TenantId, &FeatureType),
        limit: u32,
    ) -> Result<Vec<PastRun>, RunHistoryError> {
        let (url, urls) = (shown(agent), self.names.urls);
        let unreadable = |reason: &str| {
            let message = format!(
                "the agent at {url} sent an answer that cannot be read ({reason}); check that {urls} \
                 names an agent of this version"
            );
            error(RunHistoryErrorKind::Malformed, message)
        };
        let lost = |cause: reqwest::Error| {
            let message = format!(
                "the agent at {url} does not answer: {}; check that it runs and that {urls} is right",
                reason_of(&cause)
            );
            error(RunHistoryErrorKind::Unavailable, message).with_source(cause.without_url())
        };
        let path = format!("tenants/{tenant_id}/features/{feature_type}/runs?limit={limit}");
        let address = agent
            .join(&path)
            .map_err(|_| unreadable("no such address"))?;
        let mut call = self.http.get(address).header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            call = call.header(AUTHORIZATION, authorization.clone());
        }
        let response = call.send().await.map_err(lost)?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(&url, response.status()));
        }
        let (body, longer) = body(response, MAX_ANSWER_BYTES).await.map_err(lost)?;
        if longer {
            return Err(unreadable("it is too long"));
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|cause| unreadable(&format!("at line {}", cause.line())))?;
        // Such as one that something between has kept: no tenant sees what is of another.
        if answer.tenant_id != *tenant_id || answer.feature_type != *feature_type {
            return Err(unreadable("it is for another tenant or feature"));
        }
        Ok(answer.runs)
    }

    fn refused(&self, url: &str, status: StatusCode) -> RunHistoryError {
        let AgentSettingNames { urls, api_key } = self.names;
        let (kind, remedy) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                RunHistoryErrorKind::Unauthorized,
                format!("check {api_key}"),
            ),
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => (
                RunHistoryErrorKind::Unavailable,
                "check its log and its health".to_owned(),
            ),
            _ => (
                RunHistoryErrorKind::Malformed,
                format!("check that {urls} names an agent of this version"),
            ),
        };
        error(
            kind,
            format!("the agent at {url} answered {status}; {remedy}"),
        )
    }
}

#[async_trait]
impl RunHistory for AgentClient {
    async fn past_runs(
        &self,
        tenant_id: &TenantId,
        feature_type: &FeatureType,
        limit: u32,
    ) -> Result<Vec<PastRun>, RunHistoryError> {
        let subject = (tenant_id, feature_type);
        let asked = self.agents.iter();
        let asked = asked.map(|agent| self.runs_of(agent, subject, limit));
        let mut runs: Vec<PastRun> = try_join_all(asked).await?.into_iter().flatten().collect();
        // Two addresses may lead to one store, and what one has skipped another may have run.
        runs.sort_by_key(|run| run.outcome == RunOutcome::Skipped);
        let mut seen = BTreeSet::new();
        runs.retain(|run| seen.insert((run.job_id.clone(), run.occurrence)));
        runs.sort_by(|a, b| {
            let newest_first = b.scheduled_at.cmp(&a.scheduled_at);
            newest_first.then_with(|| a.job_id.cmp(&b.job_id))
        });
        runs.truncate(limit as usize);
        Ok(runs)
    }
}

/// Whether what is sent there can be read on the way.
fn is_exposed(agent: &Url) -> bool {
    agent.scheme() == "http" && agent.host_str().is_none_or(|host| !is_loopback(host))
}

fn error(kind: RunHistoryErrorKind, message: String) -> RunHistoryError {
    RunHistoryError::new(kind, message)
}

#[cfg(test)]
mod tests;
