//! The connection to Temporal and the calls of it. It is made when it is needed first; the client connects again by itself
//! after that. An attempt calls the server once: the processor retries.

use std::{collections::HashMap, error::Error, iter, time::Duration};

use punctual_application::ports::HandlerError;
use punctual_domain::{
    Fields, Invalid,
    values::{boolean, text},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use temporalio_client::{
    Connection, ConnectionOptions, RetryOptions, TlsOptions, Url,
    errors::ClientConnectError,
    grpc::WorkflowService,
    tonic::{Code, Request, Status},
};
use temporalio_common::protos::{
    temporal::api::{
        common::v1::{Memo, Payload, Payloads, WorkflowExecution, WorkflowType},
        enums::v1::{HistoryEventFilterType, WorkflowIdConflictPolicy, WorkflowIdReusePolicy},
        errordetails::v1::WorkflowExecutionAlreadyStartedFailure,
        taskqueue::v1::TaskQueue,
        workflowservice::v1::{GetWorkflowExecutionHistoryRequest, StartWorkflowExecutionRequest},
    },
    utilities::decode_status_detail,
};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    ending::{Ending, shortened},
    name,
};
use crate::environment::secret_in;

const DEFAULT_NAMESPACE: &str = "default";
/// How this process is called in the histories of workflows.
const IDENTITY: &str = "punctual";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A namespace of a server.
pub(super) struct Server {
    address: String,
    namespace: String,
    target: Url,
    has_tls: bool,
    api_key: Option<SecretString>,
    connection: OnceCell<Connection>,
}

/// A workflow to start.
pub(super) struct Started<'s> {
    pub(super) workflow_id: &'s str,
    pub(super) workflow: &'s str,
    pub(super) task_queue: &'s str,
    /// The same request twice starts one run.
    pub(super) request_id: Uuid,
    /// JSON.
    pub(super) input: Vec<u8>,
}

impl Server {
    /// Reads `address`, `namespace`, `tls` and `api_key_env`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let remedy = "add the address of the server, such as \"127.0.0.1:7233\"";
        let address = fields.required("address", remedy, address);
        let namespace = fields.optional("namespace", name);
        let api_key = fields.optional("api_key_env", api_key);
        let has_tls = fields.optional("tls", boolean);
        if has_tls == Some(false) && api_key.is_some() {
            let problem = "would send the API key in the clear";
            fields.complain(
                "tls",
                Invalid::new(problem, "remove the field, or set it to true"),
            );
        }
        let has_tls = has_tls.unwrap_or(api_key.is_some());
        let address = address?;
        let scheme = if has_tls { "https" } else { "http" };
        let target = format!("{scheme}://{address}").parse::<Url>().ok()?;
        Some(Self {
            address: address.to_owned(),
            namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            target,
            has_tls,
            api_key,
            connection: OnceCell::new(),
        })
    }

    /// The namespace, for people.
    pub(super) fn place(&self) -> String {
        format!("namespace {} of {}", self.namespace, self.address)
    }

    /// Starts a workflow, or takes the one over that runs under its id or has completed under it. Returns the id of the run.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub(super) async fn start(
        &self,
        started: Started<'_>,
        memo: &[(&str, Value)],
    ) -> Result<String, HandlerError> {
        let memo = memo.iter().map(|(name, value)| {
            (
                (*name).to_owned(),
                json_payload(value.to_string().into_bytes()),
            )
        });
        let request = StartWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            workflow_id: started.workflow_id.to_owned(),
            workflow_type: Some(WorkflowType {
                name: started.workflow.to_owned(),
            }),
            task_queue: Some(TaskQueue {
                name: started.task_queue.to_owned(),
                ..Default::default()
            }),
            input: Some(Payloads {
                payloads: vec![json_payload(started.input)],
            }),
            identity: IDENTITY.to_owned(),
            request_id: started.request_id.to_string(),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::AllowDuplicateFailedOnly as i32,
            workflow_id_conflict_policy: WorkflowIdConflictPolicy::UseExisting as i32,
            memo: Some(Memo {
                fields: memo.collect(),
            }),
            ..Default::default()
        };
        let mut connection = self.connected().await?;
        match connection
            .start_workflow_execution(Request::new(request))
            .await
        {
            Ok(answer) => Ok(answer.into_inner().run_id),
            Err(status) if status.code() == Code::AlreadyExists => {
                let details = status.details();
                let existing =
                    decode_status_detail::<WorkflowExecutionAlreadyStartedFailure>(details);
                // No id is that of the latest run.
                Ok(existing.map(|existing| existing.run_id).unwrap_or_default())
            }
            Err(status) => Err(self.refused(&status)),
        }
    }

    /// How far a run has come.
    ///
    /// # Errors
    /// The question failed: the run may have ended or not.
    pub(super) async fn ending(
        &self,
        workflow_id: &str,
        run_id: &str,
    ) -> Result<Ending, HandlerError> {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace.clone(),
            execution: Some(WorkflowExecution {
                workflow_id: workflow_id.to_owned(),
                run_id: run_id.to_owned(),
            }),
            history_event_filter_type: HistoryEventFilterType::CloseEvent as i32,
            skip_archival: true,
            ..Default::default()
        };
        let mut connection = self.connected().await?;
        let answer = connection
            .get_workflow_execution_history(Request::new(request))
            .await;
        match answer {
            Ok(answer) => {
                let mut history = answer.into_inner().history.unwrap_or_default();
                let last = history.events.pop();
                Ok(Ending::read(last.and_then(|event| event.attributes)))
            }
            Err(status) if status.code() == Code::NotFound => {
                let message = format!("{} has no workflow {workflow_id} any more", self.place());
                Ok(Ending::Of(Err(HandlerError::retryable(message))))
            }
            Err(status) => Err(self.refused(&status)),
        }
    }

    async fn connected(&self) -> Result<Connection, HandlerError> {
        let connection = self.connection.get_or_try_init(|| self.connect()).await?;
        Ok(connection.clone())
    }

    async fn connect(&self) -> Result<Connection, HandlerError> {
        let api_key = self.api_key.as_ref();
        let options = ConnectionOptions::new(self.target.clone())
            .identity(IDENTITY)
            .maybe_tls_options(self.has_tls.then(TlsOptions::default))
            .maybe_api_key(api_key.map(|key| key.expose_secret().to_owned()))
            .connect_timeout(CONNECT_TIMEOUT)
            .retry_options(RetryOptions::no_retries())
            .dns_load_balancing(None)
            .build();
        Connection::connect(options)
            .await
            .map_err(|error| match error {
                ClientConnectError::SystemInfoCallError(status) => self.refused(&status),
                other => {
                    let innermost =
                        iter::successors(other.source(), |&cause| cause.source()).last();
                    let reason = innermost.map_or_else(|| other.to_string(), ToString::to_string);
                    let message = format!("Temporal at {} did not answer: {reason}", self.address);
                    HandlerError::retryable(shortened(&message))
                }
            })
    }

    /// What an answer other than success means.
    fn refused(&self, status: &Status) -> HandlerError {
        let message = format!(
            "Temporal at {} answered {:?}: {}",
            self.address,
            status.code(),
            status.message()
        );
        let message = shortened(&message);
        match status.code() {
            Code::ResourceExhausted => HandlerError::throttled(message, None),
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => HandlerError::permanent(message),
            // Such as a failed precondition: a namespace answers so while it moves to another cluster.
            _ => HandlerError::retryable(message),
        }
    }
}

/// JSON as workers in every language read it.
fn json_payload(data: Vec<u8>) -> Payload {
    let encoding = ("encoding".to_owned(), b"json/plain".to_vec());
    Payload {
        metadata: HashMap::from([encoding]),
        data,
        ..Default::default()
    }
}

/// A host with a port.
fn address(value: &Value) -> Result<&str, Invalid> {
    let address = text(value)?;
    let allowed = |c: char| c.is_ascii_graphic() && !"/@?#\\".contains(c);
    let port = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok());
    let is_url = format!("http://{address}").parse::<Url>().is_ok();
    match port {
        Some(1..) if is_url && address.chars().all(allowed) => Ok(address),
        _ => Err(Invalid::new(
            "is not an address",
            "use a host with a port, such as \"127.0.0.1:7233\"; `\"tls\": true` asks for TLS",
        )),
    }
}

/// The API key in the variable that a field names.
fn api_key(name: &Value) -> Result<SecretString, Invalid> {
    let key = secret_in(name)?;
    // It becomes a header.
    let is_usable = !key.expose_secret().is_empty()
        && key.expose_secret().chars().all(|c| c.is_ascii_graphic());
    if is_usable {
        return Ok(key);
    }
    let remedy = "set the variable to the key alone, without spaces and line breaks";
    Err(Invalid::new("does not hold an API key", remedy))
}

#[cfg(test)]
mod tests {
    use punctual_application::ports::HandlerErrorKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_says_whether_another_attempt_makes_sense() {
        let options = json!({"address": "127.0.0.1:1"});
        let mut fields = Fields::new(options.as_object().unwrap(), "");
        let server = Server::read(&mut fields).unwrap();
        for (code, expected) in [
            (Code::InvalidArgument, HandlerErrorKind::Permanent),
            (Code::Unauthenticated, HandlerErrorKind::Permanent),
            (Code::ResourceExhausted, HandlerErrorKind::Throttled),
            (Code::Unavailable, HandlerErrorKind::Retryable),
            // The namespace is being moved.
            (Code::FailedPrecondition, HandlerErrorKind::Retryable),
        ] {
            let error = server.refused(&Status::new(code, "no\u{1b}[2J\nsuch"));
            assert_eq!(error.kind, expected, "{code:?}");
            assert!(error.message.ends_with(": no [2J such"), "{error}");
        }
    }
}
