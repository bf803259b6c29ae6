//! What the last event of a workflow means for its item.

use std::iter;

use punctual_application::ports::HandlerError;
use punctual_domain::Outcome;
use serde_json::Value;
use temporalio_common::protos::temporal::api::{
    common::v1::Payloads,
    failure::v1::{Failure, failure::FailureInfo},
    history::v1::history_event::Attributes,
};

use super::super::webhook::nothing_to_do;

/// Characters of a failure that are kept.
const MAX_CHARACTERS: usize = 500;
/// A failure is caused by so many others at most.
const MAX_CAUSES: usize = 20;

/// How far a workflow has come.
pub(super) enum Ending {
    /// It runs.
    None,
    /// It goes on as the run with this id.
    GoesOn(String),
    /// It has ended.
    Of(Result<Outcome, HandlerError>),
}

impl Ending {
    /// Reads the event that closes a run; any other event: it runs.
    pub(super) fn read(event: Option<Attributes>) -> Self {
        let (next, outcome) = match event {
            Some(Attributes::WorkflowExecutionCompletedEventAttributes(done)) => {
                (done.new_execution_run_id, output(done.result))
            }
            Some(Attributes::WorkflowExecutionFailedEventAttributes(failed)) => {
                let failure = failed.failure.unwrap_or_default();
                (failed.new_execution_run_id, Err(error(&failure)))
            }
            Some(Attributes::WorkflowExecutionTimedOutEventAttributes(late)) => {
                let error = HandlerError::retryable("the workflow timed out");
                (late.new_execution_run_id, Err(error))
            }
            Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(continued)) => {
                return Self::GoesOn(continued.new_execution_run_id);
            }
            Some(Attributes::WorkflowExecutionCanceledEventAttributes(_)) => {
                let error = HandlerError::permanent("the workflow was cancelled");
                (String::new(), Err(error))
            }
            Some(Attributes::WorkflowExecutionTerminatedEventAttributes(ended)) => {
                let reason = Some(ended.reason).filter(|reason| !reason.trim().is_empty());
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                let message = format!("the workflow was terminated{reason}");
                (
                    String::new(),
                    Err(HandlerError::permanent(shortened(&message))),
                )
            }
            _ => return Self::None,
        };
        // A retry or a cron schedule of the workflow's own.
        if next.is_empty() {
            Self::Of(outcome)
        } else {
            Self::GoesOn(next)
        }
    }
}

/// The result of a workflow, which has to be JSON; none is `null`.
fn output(result: Option<Payloads>) -> Result<Outcome, HandlerError> {
    let payload = result.and_then(|result| result.payloads.into_iter().next());
    let Some(payload) = payload else {
        return Ok(Outcome::Done(Value::Null));
    };
    let encoding = payload
        .metadata
        .get("encoding")
        .map_or(&b""[..], Vec::as_slice);
    let encoding = String::from_utf8_lossy(encoding);
    let output: Value = match &*encoding {
        "binary/null" => Value::Null,
        "json/plain" | "json/protobuf" => {
            let output = serde_json::from_slice(&payload.data);
            output.map_err(|error| {
                HandlerError::permanent(format!("the workflow's result is not JSON: {error}"))
            })?
        }
        other => {
            return Err(HandlerError::permanent(shortened(&format!(
                "the workflow's result has the encoding {other:?}; expected json/plain"
            ))));
        }
    };
    Ok(match nothing_to_do(&output) {
        Some(reason) => Outcome::NothingToDo(reason),
        None => Outcome::Done(output),
    })
}

/// The failure of a workflow with what caused it. It is permanent where one of them says that no retry makes sense.
fn error(failure: &Failure) -> HandlerError {
    let causes = iter::successors(Some(failure), |failure| failure.cause.as_deref());
    let causes: Vec<&Failure> = causes.take(MAX_CAUSES).collect();
    let is_final = causes.iter().any(|failure| match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => info.non_retryable,
        Some(FailureInfo::ServerFailureInfo(info)) => info.non_retryable,
        _ => false,
    });
    let messages = causes.iter().map(|failure| failure.message.trim());
    let messages: Vec<&str> = messages.filter(|message| !message.is_empty()).collect();
    let message = if messages.is_empty() {
        "the workflow failed and gave no reason".to_owned()
    } else {
        shortened(&messages.join(": "))
    };
    if is_final {
        HandlerError::permanent(message)
    } else {
        HandlerError::retryable(message)
    }
}

/// The beginning of a text, without line breaks and other control characters.
pub(super) fn shortened(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_CHARACTERS).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use punctual_application::ports::HandlerErrorKind;
    use serde_json::json;
    use temporalio_common::protos::temporal::api::{
        common::v1::Payload,
        failure::v1::ApplicationFailureInfo,
        history::v1::{
            WorkflowExecutionCompletedEventAttributes,
            WorkflowExecutionContinuedAsNewEventAttributes, WorkflowExecutionFailedEventAttributes,
            WorkflowExecutionTerminatedEventAttributes, WorkflowExecutionTimedOutEventAttributes,
        },
    };

    use super::*;

    fn completed(encoding: &str, data: &str) -> Attributes {
        let metadata = [("encoding".to_owned(), encoding.as_bytes().to_vec())];
        let payload = Payload {
            metadata: metadata.into_iter().collect(),
            data: data.as_bytes().to_vec(),
            ..Payload::default()
        };
        Attributes::WorkflowExecutionCompletedEventAttributes(
            WorkflowExecutionCompletedEventAttributes {
                result: Some(Payloads {
                    payloads: vec![payload],
                }),
                ..Default::default()
            },
        )
    }

    fn ended(event: Attributes) -> Result<Outcome, HandlerError> {
        match Ending::read(Some(event)) {
            Ending::Of(outcome) => outcome,
            Ending::None | Ending::GoesOn(_) => panic!("it has ended"),
        }
    }

    #[test]
    fn the_result_of_a_workflow_is_the_output() {
        let outcome = |encoding, data| ended(completed(encoding, data));
        assert_eq!(
            outcome("json/plain", r#"{"pages": 3}"#).unwrap(),
            Outcome::Done(json!({"pages": 3}))
        );
        assert_eq!(
            outcome("binary/null", "").unwrap(),
            Outcome::Done(Value::Null)
        );
        assert_eq!(
            outcome(
                "json/plain",
                r#"{"status": "nothing_to_do", "reason": "no news"}"#
            )
            .unwrap(),
            Outcome::nothing_to_do("no news")
        );
        for (encoding, data) in [("json/plain", "{"), ("binary/encrypted", "{}"), ("", "{}")] {
            let error = outcome(encoding, data).unwrap_err();
            assert_eq!(error.kind, HandlerErrorKind::Permanent, "{encoding}");
        }
    }

    #[test]
    fn a_failure_is_permanent_where_one_of_its_causes_is() {
        for (non_retryable, kind) in [
            (true, HandlerErrorKind::Permanent),
            (false, HandlerErrorKind::Retryable),
        ] {
            let info = ApplicationFailureInfo {
                non_retryable,
                ..Default::default()
            };
            let cause = Failure {
                message: "no paper".to_owned(),
                failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
                ..Default::default()
            };
            let failure = Failure {
                message: "Activity task failed".to_owned(),
                cause: Some(Box::new(cause)),
                ..Default::default()
            };
            let event = Attributes::WorkflowExecutionFailedEventAttributes(
                WorkflowExecutionFailedEventAttributes {
                    failure: Some(failure),
                    ..Default::default()
                },
            );
            let error = ended(event).unwrap_err();
            assert_eq!(error.message, "Activity task failed: no paper");
            assert_eq!(error.kind, kind);
        }
    }

    #[test]
    fn other_ends_say_whether_another_attempt_makes_sense() {
        let late = Attributes::WorkflowExecutionTimedOutEventAttributes(
            WorkflowExecutionTimedOutEventAttributes::default(),
        );
        assert_eq!(ended(late).unwrap_err().kind, HandlerErrorKind::Retryable);
        let terminated = Attributes::WorkflowExecutionTerminatedEventAttributes(
            WorkflowExecutionTerminatedEventAttributes {
                reason: "by ann".to_owned(),
                ..Default::default()
            },
        );
        let error = ended(terminated).unwrap_err();
        assert_eq!(error.message, "the workflow was terminated: by ann");
        assert_eq!(error.kind, HandlerErrorKind::Permanent);
    }

    #[test]
    fn a_run_that_is_followed_by_another_is_not_the_end() {
        let continued = Attributes::WorkflowExecutionContinuedAsNewEventAttributes(
            WorkflowExecutionContinuedAsNewEventAttributes {
                new_execution_run_id: "next".to_owned(),
                ..Default::default()
            },
        );
        let retried = Attributes::WorkflowExecutionFailedEventAttributes(
            WorkflowExecutionFailedEventAttributes {
                new_execution_run_id: "next".to_owned(),
                ..Default::default()
            },
        );
        for event in [continued, retried] {
            let ending = Ending::read(Some(event));
            assert!(matches!(ending, Ending::GoesOn(next) if next == "next"));
        }
        assert!(matches!(Ending::read(None), Ending::None));
    }
}
