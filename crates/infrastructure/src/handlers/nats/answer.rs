//! What a worker publishes when it has done with an item.

use std::time::Duration;

use punctual_application::ports::{HandlerError, HandlerErrorKind};
use punctual_domain::Outcome;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::webhook::MAX_REASON_CHARACTERS;
use crate::strict_json;

/// An answer nests so deep at most.
const MAX_LEVELS: usize = 64;
/// No `retry_after_seconds` is taken for longer.
const MAX_RETRY_AFTER: u64 = 3_600;

/// What has come of a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) call_id: Uuid,
    pub(super) outcome: Result<Outcome, HandlerError>,
}

/// The fields of an answer.
#[derive(Deserialize)]
struct Fields {
    call_id: Uuid,
    status: Status,
    #[serde(default)]
    output: Value,
    kind: Option<HandlerErrorKind>,
    message: Option<String>,
    retry_after_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Succeeded,
    Failed,
    NothingToDo,
}

impl Answer {
    /// Reads what a worker has published.
    ///
    /// # Errors
    /// Why it is not an answer, on one line.
    pub(super) fn read(message: &[u8]) -> Result<Self, String> {
        let fields = strict_json::read(message, MAX_LEVELS);
        let fields = fields.and_then(serde_json::from_value::<Fields>);
        let fields = fields.map_err(|error| one_line(&error.to_string()))?;
        let said = fields.message.as_deref().map_or_else(String::new, one_line);
        let said = |otherwise: &str| {
            if said.is_empty() {
                otherwise.to_owned()
            } else {
                said.clone()
            }
        };
        let retry_after = fields.retry_after_seconds;
        let retry_after =
            retry_after.map(|seconds| Duration::from_secs(seconds.min(MAX_RETRY_AFTER)));
        let outcome = match fields.status {
            Status::Succeeded => Ok(Outcome::Done(fields.output)),
            Status::NothingToDo => Ok(Outcome::NothingToDo(said("the worker gave no reason"))),
            Status::Failed => {
                let message = said("the worker failed and gave no reason");
                Err(match fields.kind.unwrap_or(HandlerErrorKind::Retryable) {
                    HandlerErrorKind::Retryable => {
                        HandlerError::retryable(message).with_retry_after(retry_after)
                    }
                    HandlerErrorKind::Permanent => HandlerError::permanent(message),
                    HandlerErrorKind::Throttled => HandlerError::throttled(message, retry_after),
                })
            }
        };
        Ok(Self {
            call_id: fields.call_id,
            outcome,
        })
    }
}

/// The beginning of a text, without line breaks and other control characters.
fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.trim().chars().map(visible).collect();
    line.chars().take(MAX_REASON_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const CALL: &str = "6f1c1d9e-3a5b-4c7d-8e9f-0a1b2c3d4e5f";

    fn read(answer: &Value) -> Result<Answer, String> {
        Answer::read(answer.to_string().as_bytes())
    }

    #[test]
    fn an_answer_says_what_has_come_of_the_call() {
        let done = read(&json!({"call_id": CALL, "status": "succeeded", "output": {"pages": 3}}));
        let done = done.unwrap();
        assert_eq!(done.call_id.to_string(), CALL);
        assert_eq!(done.outcome.unwrap(), Outcome::Done(json!({"pages": 3})));
        let empty = read(&json!({"call_id": CALL, "status": "succeeded", "more": 1})).unwrap();
        assert_eq!(empty.outcome.unwrap(), Outcome::Done(Value::Null));
        let idle = json!({"call_id": CALL, "status": "nothing_to_do", "message": "no\nnews"});
        let idle = read(&idle).unwrap().outcome.unwrap();
        assert_eq!(idle, Outcome::nothing_to_do("no news"));
    }

    #[test]
    fn a_failure_says_whether_another_attempt_makes_sense() {
        for (kind, expected) in [
            (Value::Null, HandlerErrorKind::Retryable),
            (json!("retryable"), HandlerErrorKind::Retryable),
            (json!("permanent"), HandlerErrorKind::Permanent),
            (json!("throttled"), HandlerErrorKind::Throttled),
        ] {
            let answer = json!({"call_id": CALL, "status": "failed", "kind": kind, "message": "no paper",
                "retry_after_seconds": 100_000});
            let error = read(&answer).unwrap().outcome.unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (expected, "no paper"));
            let waits = expected != HandlerErrorKind::Permanent;
            assert_eq!(error.retry_after, waits.then_some(Duration::from_hours(1)));
        }
    }

    #[test]
    fn what_is_not_an_answer_is_refused_on_one_line() {
        for (answer, reason) in [
            ("", "EOF"),
            ("null", "invalid type"),
            ("[]", "missing field `call_id`"),
            (r#"{"status": "succeeded"}"#, "missing field `call_id`"),
            (r#"{"call_id": "x\ny", "status": "succeeded"}"#, "UUID"),
            (
                r#"{"call_id": "6f1c1d9e-3a5b-4c7d-8e9f-0a1b2c3d4e5f"}"#,
                "missing field `status`",
            ),
            (
                r#"{"call_id": "6f1c1d9e-3a5b-4c7d-8e9f-0a1b2c3d4e5f", "status": "ok"}"#,
                "unknown variant",
            ),
            (
                r#"{"call_id": "6f1c1d9e-3a5b-4c7d-8e9f-0a1b2c3d4e5f", "status": "failed", "status": "failed"}"#,
                "twice",
            ),
        ] {
            let refused = Answer::read(answer.as_bytes()).unwrap_err();
            assert!(
                !refused.is_empty() && !refused.contains('\n'),
                "{refused:?}"
            );
            if answer != "null" && answer != "[]" {
                assert!(refused.contains(reason), "{answer}: {refused}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_message_is_a_problem(message: Vec<u8>) {
            if let Err(reason) = Answer::read(&message) {
                prop_assert!(!reason.chars().any(char::is_control), "{:?}", reason);
            }
        }
    }
}
