//! Requests under an idempotency key: the same key within 24 hours is the same request, with the same answer.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use uuid::Uuid;

use super::{Operator, OperatorError};
use crate::ports::NewRequest;

const MAX_KEY_LENGTH: usize = 255;

/// A key that makes a request the same request when it is sent again within 24 hours: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of that text.
    ///
    /// # Errors
    /// It is empty, too long, or has other characters.
    pub fn new(key: &str) -> Result<Self, OperatorError> {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=MAX_KEY_LENGTH).contains(&key.len()) {
            return Err(OperatorError::Invalid(format!(
                "invalid Idempotency-Key; use 1 to {MAX_KEY_LENGTH} visible ASCII characters, such as a UUID"
            )));
        }
        Ok(Self(key.to_owned()))
    }

    /// A new one, that no other request has.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One attempt at a request: of several under one key, all have the same id and instant, so that a repetition after a crash
/// queues nothing twice and knows what it has done already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) id: Uuid,
    pub(super) at: DateTime<Utc>,
    /// Whether there was one before it, which was interrupted or goes on at present.
    pub(super) is_repetition: bool,
}

/// What tells one request from another under the same key.
pub(super) fn fingerprint(asked: &impl Serialize) -> String {
    let asked = json!(asked).to_string();
    blake3::hash(asked.as_bytes()).to_hex().to_string()
}

impl Operator {
    /// Does what is asked for once for a key, and answers each repetition alike.
    pub(super) async fn once<T, F>(
        &self,
        key: Option<&IdempotencyKey>,
        scope: String,
        asked: &impl Serialize,
        act: impl FnOnce(Attempt) -> F,
    ) -> Result<T, OperatorError>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, OperatorError>> + Send,
    {
        let now = self.clock.now();
        let Some(IdempotencyKey(key)) = key else {
            let only = Attempt {
                id: Uuid::new_v4(),
                at: now,
                is_repetition: false,
            };
            return act(only).await;
        };
        let new = NewRequest {
            scope,
            key: key.clone(),
            fingerprint: fingerprint(asked),
        };
        let request = self.operations.request(&new, now).await?;
        if request.fingerprint != new.fingerprint {
            return Err(OperatorError::Refused(format!(
                "the Idempotency-Key `{key}` was used within 24 hours for another request; send a new key"
            )));
        }
        if let Some(answer) = request.answer {
            return serde_json::from_value(answer).map_err(|_| {
                OperatorError::Conflict(format!(
                    "another version handled the request with the Idempotency-Key `{key}`, and \
                     its answer cannot be read; check what the request did before you repeat it \
                     with a new key"
                ))
            });
        }
        let attempt = Attempt {
            id: request.id,
            at: request.at,
            is_repetition: request.is_known,
        };
        let done = act(attempt).await;
        match &done {
            Ok(answer) => {
                let answer = Some(json!(answer));
                self.operations.answer(request.id, answer).await?;
            }
            // The store may refuse a part after others were done: a repetition goes on there.
            Err(OperatorError::Store(_)) => {}
            // What was refused may be corrected under the same key.
            Err(error) if error.is_callers() && !request.is_known => {
                self.operations.answer(request.id, None).await?;
            }
            Err(_) => {}
        }
        done
    }
}
