//! Requests under an idempotency key: the same key within 24 hours is the same request, with the same answer.

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, Utc};
use punctual_application::ports::{Clock, NewRequest, SystemClock};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{App, problem::Problem};

const HEADER: &str = "idempotency-key";
const LONGEST: usize = 255;

/// The `Idempotency-Key` of a request, if it has one.
#[derive(Debug, Default)]
pub(super) struct Once(Option<String>);

impl Once {
    /// The key of a form; one without a key is done each time that it is sent.
    pub(super) fn of_form(key: Option<String>) -> Result<Self, Problem> {
        match key.filter(|key| !key.is_empty()) {
            Some(key) => Self::new(&key),
            None => Ok(Self(None)),
        }
    }

    fn new(key: &str) -> Result<Self, Problem> {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=LONGEST).contains(&key.len()) {
            return Err(Problem::bad_request(format!(
                "invalid Idempotency-Key; use 1 to {LONGEST} visible ASCII characters, such as a UUID"
            )));
        }
        Ok(Self(Some(key.to_owned())))
    }
}

/// A key for a form that is being rendered.
pub(super) fn fresh_key() -> String {
    Uuid::new_v4().to_string()
}

impl FromRequestParts<App> for Once {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let mut keys = parts.headers.get_all(HEADER).iter();
        match (keys.next(), keys.next()) {
            (None, _) => Ok(Self(None)),
            // A value that is not text becomes an empty key, which is refused.
            (Some(key), None) => Self::new(key.to_str().unwrap_or_default()),
            (Some(_), Some(_)) => Err(Problem::bad_request(
                "the header Idempotency-Key is given twice; send it once",
            )),
        }
    }
}

impl App {
    /// Does what is asked for once for a key, and answers each repetition alike. `act` is given an id and an instant
    /// that are the same for each attempt, so that a repetition after a crash queues nothing twice.
    pub(super) async fn once<F>(
        &self,
        once: &Once,
        scope: String,
        asked: &impl Serialize,
        act: impl FnOnce(Uuid, DateTime<Utc>) -> F,
    ) -> Result<Value, Problem>
    where
        F: Future<Output = Result<Value, Problem>> + Send,
    {
        let now = SystemClock.now();
        let Some(key) = &once.0 else {
            return act(Uuid::new_v4(), now).await;
        };
        let asked = json!(asked).to_string();
        let new = NewRequest {
            scope,
            key: key.clone(),
            fingerprint: blake3::hash(asked.as_bytes()).to_hex().to_string(),
        };
        let request = self.operations.request(&new, now).await?;
        if request.fingerprint != new.fingerprint {
            return Err(Problem::unprocessable(format!(
                "the Idempotency-Key `{key}` was used within 24 hours for another request; send a new key"
            )));
        }
        if let Some(answer) = request.answer {
            return Ok(answer);
        }
        let done = act(request.id, request.at).await;
        match &done {
            Ok(answer) => {
                let answer = Some(answer.clone());
                self.operations.answer(request.id, answer).await?;
            }
            // What was refused may be corrected under the same key.
            Err(problem) if problem.status().is_client_error() => {
                self.operations.answer(request.id, None).await?;
            }
            Err(_) => {}
        }
        done
    }
}
