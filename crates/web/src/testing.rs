//! Calls of a router whose answers are kept for a snapshot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fmt::Write, net::SocketAddr};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request},
    http::{HeaderMap, header},
};
use serde_json::Value;
use tower::ServiceExt;

/// A router, and what it has answered.
#[derive(Debug)]
pub struct Answers {
    router: Router,
    leave_out: fn(&str) -> String,
    /// The calls and their answers, as text.
    pub text: String,
}

impl Answers {
    /// Of this router. `leave_out` replaces what differs from run to run in a text; UUIDs are replaced already.
    #[must_use]
    pub fn of(router: Router, leave_out: fn(&str) -> String) -> Self {
        Self {
            router,
            leave_out,
            text: String::new(),
        }
    }

    /// Calls, keeps the answer and returns it: JSON, a text, or `null` for an answer without a body.
    ///
    /// # Panics
    /// When the call cannot be made.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Value {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "localhost");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let request = request.extension(ConnectInfo(peer));
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let Ok(response) = self.router.clone().oneshot(request).await;
        let (head, answer) = response.into_parts();
        let answer = to_bytes(answer, usize::MAX).await.unwrap();
        let answer = String::from_utf8(answer.to_vec()).unwrap();

        let mut call = format!("{method} {path}");
        for (name, value) in headers {
            write!(call, " {name}: {value}").unwrap();
        }
        if !body.is_empty() {
            write!(call, " {body}").unwrap();
        }
        let call = self.shown(&call);
        let shown = self.shown_answer(&answer);
        let headers = headers_of(&head.headers);
        write!(self.text, "{call}\n{}\n{headers}{shown}\n", head.status).unwrap();
        match answer.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        }
    }

    /// An answer as it is shown: JSON over several lines, everything else, such as a line of JSON each, by line.
    fn shown_answer(&self, answer: &str) -> String {
        match serde_json::from_str(answer) {
            Ok(mut value) => {
                self.leave_out_of(&mut value);
                format!("{value:#}\n")
            }
            Err(_) => answer
                .lines()
                .map(|line| self.shown_line(line) + "\n")
                .collect(),
        }
    }

    fn shown_line(&self, line: &str) -> String {
        match serde_json::from_str(line) {
            Ok(mut value) => {
                self.leave_out_of(&mut value);
                value.to_string()
            }
            Err(_) => self.shown(line),
        }
    }

    fn leave_out_of(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.shown(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.leave_out_of(value)),
            Value::Object(fields) => fields
                .values_mut()
                .for_each(|value| self.leave_out_of(value)),
            _ => {}
        }
    }

    fn shown(&self, text: &str) -> String {
        (self.leave_out)(&without_ids(text))
    }
}

/// The headers that a client acts on, a line each.
fn headers_of(headers: &HeaderMap) -> String {
    let shown = [header::ETAG, header::RETRY_AFTER];
    let line = |name| {
        Some(format!(
            "{name}: {}\n",
            headers.get(&name)?.to_str().unwrap()
        ))
    };
    shown.into_iter().filter_map(line).collect()
}

fn without_ids(text: &str) -> String {
    let is_id = |at: &usize| text.get(*at..*at + 36).is_some_and(is_uuid);
    match (0..text.len()).find(is_id) {
        Some(at) => format!("{}UUID{}", &text[..at], without_ids(&text[at + 36..])),
        None => text.to_owned(),
    }
}

fn is_uuid(text: &str) -> bool {
    text.char_indices().all(|(at, c)| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    })
}
