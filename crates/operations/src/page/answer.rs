//! What an action came to, said once on the page that follows it. A cookie carries it over the redirect: the address stays as
//! it was, and a reload does not say it again. It holds ids and numbers only, and the words are made here.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use chrono::{DateTime, Utc};
use punctual_application::amount;
use punctual_domain::JobId;
use punctual_web::{
    page::{at, root},
    session::SessionCookie,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::escape;

const COOKIE: SessionCookie = SessionCookie {
    name: "punctual_done",
    same_site: "Strict",
};
/// How long it waits for the page that says it, in seconds.
const MAX_AGE: u32 = 60;

/// What was done, or why nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Paused,
    Resumed,
    Triggered,
    Backfilled,
    Cancelled,
    Replayed,
    Discarded,
    Reopened,
    DeliversAgain,
    Acknowledged,
    Unacknowledged,
    Erased,
    /// The restored store goes on.
    Restored,
    /// The batch was over.
    NotCancelled,
    /// What was discarded has been opened already, or is gone.
    NotReopened,
    /// No delivery that was selected has failed.
    NotDelivered,
    /// What was selected is on its way.
    InDelivery,
    /// The finding is over.
    FindingOver,
    /// The finding is another one by now.
    FindingChanged,
    AlertsTested,
    /// Not every channel has taken the test.
    AlertsNotSent,
    /// Alerts go nowhere.
    NoAlertChannel,
}

/// What was done, to what, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    what: What,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<Uuid>,
    /// Items, dead letters, deliveries or runs.
    #[serde(default)]
    count: u64,
    #[serde(default)]
    batches: u64,
    /// Named, and not done.
    #[serde(default)]
    left: u64,
    /// Whether what was queued waits, or some of it may, as its job is paused.
    #[serde(default)]
    paused: bool,
    /// When it was done, in microseconds since 1970, where it can be undone by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
}

impl Done {
    pub(super) fn new(what: What) -> Self {
        Self {
            what,
            job: None,
            batch: None,
            count: 0,
            batches: 0,
            left: 0,
            paused: false,
            at: None,
        }
    }

    pub(super) fn job(self, job: &JobId) -> Self {
        Self {
            job: Some(job.clone()),
            ..self
        }
    }

    pub(super) fn batch(self, batch: Option<Uuid>) -> Self {
        Self { batch, ..self }
    }

    pub(super) fn count(self, count: usize) -> Self {
        Self {
            count: count as u64,
            ..self
        }
    }

    pub(super) fn batches(self, batches: usize) -> Self {
        Self {
            batches: batches as u64,
            ..self
        }
    }

    pub(super) fn left(self, left: usize) -> Self {
        Self {
            left: left as u64,
            ..self
        }
    }

    pub(super) fn paused(self, paused: bool) -> Self {
        Self { paused, ..self }
    }

    pub(super) fn at(self, at: DateTime<Utc>) -> Self {
        Self {
            at: Some(at.timestamp_micros()),
            ..self
        }
    }

    /// What a request brings of the action before it.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        serde_urlencoded::from_str(COOKIE.token(headers)?).ok()
    }

    /// Whether nothing was done.
    pub(super) fn is_refusal(&self) -> bool {
        match self.what {
            What::NotCancelled
            | What::NotReopened
            | What::NotDelivered
            | What::InDelivery
            | What::FindingOver
            | What::FindingChanged
            | What::AlertsNotSent
            | What::NoAlertChannel => true,
            What::Paused
            | What::Resumed
            | What::Triggered
            | What::Backfilled
            | What::Cancelled
            | What::Replayed
            | What::Discarded
            | What::Reopened
            | What::DeliversAgain
            | What::Acknowledged
            | What::Unacknowledged
            | What::AlertsTested
            | What::Erased
            | What::Restored => false,
        }
    }

    /// A sentence, as HTML: nothing in it needs escaping. `page` is the address of the page that says it, below the root.
    pub(super) fn html(&self, page: &str) -> String {
        let Self { count, left, .. } = self;
        let job = self.job.as_ref().map_or("The job", JobId::as_str);
        let batch = self.batch.map_or_else(String::new, |batch| {
            let root = root();
            format!(" <a href=\"{root}/batches/{batch}\">See the batch</a>.")
        });
        let (items, letters) = (are(*count, "item"), are(*count, "dead letter"));
        let waits = match self.what {
            _ if !self.paused => "",
            What::Replayed => " What is of a paused job waits until you resume it.",
            _ => " The job is paused: nothing of it begins until you resume it.",
        };
        match self.what {
            What::Paused => format!(
                "{job} is paused. What falls due before you resume it is not made up; what is queued waits."
            ),
            What::Resumed if *count > 0 => {
                let href = format!("{}/dead-letters?job={job}", root());
                format!(
                    "{job} goes on with what falls due from now on. {letters} open: \
                     <a href=\"{href}\">see and replay them</a>."
                )
            }
            What::Resumed => format!("{job} goes on with what falls due from now on."),
            What::Triggered => format!("{items} queued for {job}.{waits}{batch}"),
            What::Backfilled => {
                let batches = amount(self.batches, "batch");
                format!("{items} queued for {job} in {batches}.{waits}")
            }
            What::Cancelled => {
                format!("The batch is cancelled. Up to {items} skipped; what has begun ends.")
            }
            What::Replayed => {
                let kept = match left {
                    0 => String::new(),
                    left => format!(
                        " {} not replayed: not open, or without a job.",
                        are(*left, "dead letter")
                    ),
                };
                let batch = match self.batches {
                    0 | 1 => batch,
                    more => format!(
                        " <a href=\"{}/batches\">See the {}</a>.",
                        root(),
                        amount(more, "batch")
                    ),
                };
                format!("{letters} replayed.{waits}{batch}{kept}")
            }
            What::Discarded => format!(
                "{letters} discarded, and can be reopened for 30 days. {}",
                self.undo(page)
            ),
            What::Reopened => format!("{letters} open again."),
            What::DeliversAgain => {
                let deliveries = are(*count, "delivery");
                format!("{deliveries} due now.")
            }
            What::Acknowledged => {
                "Acknowledged. It is listed as known until it changes.".to_owned()
            }
            What::Unacknowledged => "The acknowledgement is withdrawn.".to_owned(),
            What::Erased => format!(
                "The tenant is erased here: {} with an outcome, {} of open batches, {}.",
                amount(*count, "run"),
                amount(*left, "item"),
                amount(self.batches, "dead letter")
            ),
            What::Restored => "The store goes on.".to_owned(),
            What::NotCancelled => "The batch is over: nothing was cancelled.".to_owned(),
            What::NotReopened => {
                "Nothing was reopened: those dead letters are open already, or gone.".to_owned()
            }
            What::NotDelivered => {
                "Nothing was changed: what you selected has not failed, or not any more.".to_owned()
            }
            What::InDelivery => {
                "Nothing was changed: what you selected is being delivered at present.".to_owned()
            }
            What::FindingOver => "Nothing was changed: that is over.".to_owned(),
            What::FindingChanged => {
                "Nothing was changed: it is another finding by now. Look at it again.".to_owned()
            }
            What::AlertsTested => {
                let channels = amount(*count, "channel");
                format!("The test alert was sent by {channels}. Check that it has arrived.")
            }
            What::AlertsNotSent => {
                let (sent, left) = (amount(*count, "channel"), amount(*left, "channel"));
                format!(
                    "The test alert was not sent by {left}, and was sent by {sent}. The list says why."
                )
            }
            What::NoAlertChannel => "Nothing was sent: no channel for alerts is set up.".to_owned(),
        }
    }

    /// The button that opens again what was discarded at that instant, and leads back to the page.
    fn undo(&self, page: &str) -> String {
        let Some(at) = self.at.filter(|_| self.count > 0) else {
            return String::new();
        };
        let field = |name: &str, value: &str| {
            let value = escape(value);
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
        };
        format!(
            "<form method=\"post\" action=\"{}/dead-letters\">{}{}{}{}<button class=\"quiet\">Undo</button></form>",
            root(),
            field("action", "undo"),
            field("discarded_at", &at.to_string()),
            // Pressing it twice opens them once.
            field("key", &format!("undo-{at}")),
            field("back", page),
        )
    }

    /// Sends the visitor on to a page, which says it.
    pub(super) fn then(self, to: &str) -> Response {
        let said = serde_urlencoded::to_string(&self).unwrap_or_default();
        (
            [(header::SET_COOKIE, cookie(&said, MAX_AGE))],
            Redirect::to(to),
        )
            .into_response()
    }
}

/// `1 item is`, `2 items are`.
fn are(count: u64, one: &str) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb}", amount(count, one))
}

/// The address that a form leads back to: that of the page on which it stood, where it begins with one of `own`.
pub(super) fn back_to(back: &str, own: &[&str], otherwise: &str) -> String {
    let is_own = own.iter().any(|begin| back.starts_with(begin));
    let is_plain = back.bytes().all(|byte| byte.is_ascii_graphic());
    let back = Some(back).filter(|_| is_own && is_plain);
    back.unwrap_or(otherwise).to_owned()
}

fn cookie(value: &str, age: u32) -> String {
    let (name, same_site, path) = (COOKIE.name, COOKIE.same_site, at("/"));
    format!("{name}={value}; Path={path}; HttpOnly; SameSite={same_site}; Max-Age={age}")
}

/// Header of the script that reads an open page again: it does not show what was done.
const REFRESH: &str = "punctual-refresh";

/// Whether an open page is read again, for its live parts.
pub(super) fn is_read_again(headers: &HeaderMap) -> bool {
    headers.contains_key(REFRESH)
}

/// Forgets what a page has said.
pub(super) async fn say_once(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let is_read = request.method() == Method::GET && !is_read_again(headers);
    let says = is_read && COOKIE.token(headers).is_some();
    let mut response = next.run(request).await;
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_page = content_type.is_some_and(|of| of.as_bytes().starts_with(b"text/html"));
    if says
        && is_page
        && response.status().is_success()
        && let Ok(forget) = HeaderValue::from_str(&cookie("", 0))
    {
        response.headers_mut().append(header::SET_COOKIE, forget);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_comes_over_the_redirect_and_is_said_in_words() {
        let job = JobId::new("posts").unwrap();
        let batch = Some(Uuid::nil());
        let replayed = Done::new(What::Replayed).job(&job).count(124).batches(1);
        let response = replayed
            .clone()
            .batch(batch)
            .left(2)
            .then("/dead-letters?job=posts");
        assert_eq!(
            response.headers()[header::LOCATION],
            "/dead-letters?job=posts"
        );
        let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
        let sent = set.split(';').next().unwrap();
        let headers = HeaderMap::from_iter([(header::COOKIE, sent.parse().unwrap())]);
        let said = Done::of(&headers).unwrap();
        assert_eq!(said, replayed.batch(batch).left(2));
        let html = said.html("/dead-letters?job=posts");
        assert!(
            html.starts_with("124 dead letters are replayed. <a href=\"/batches/0000"),
            "{html}"
        );
        assert!(html.ends_with("2 dead letters are not replayed: not open, or without a job."));
        let html = said.paused(true).html("/dead-letters");
        assert!(html.contains("replayed. What is of a paused job waits until you resume it. <a"));
        let queued = Done::new(What::Triggered).job(&job).count(2).paused(true);
        assert_eq!(
            queued.html("/batches/x"),
            "2 items are queued for posts. The job is paused: nothing of it begins until you resume it."
        );
        let at = DateTime::from_timestamp_micros(1_234_567).unwrap();
        let one = Done::new(What::Discarded).count(1).at(at);
        let html = one.html("/dead-letters?job=posts&tenant=ann");
        assert!(html.starts_with("1 dead letter is discarded,"), "{html}");
        for part in [
            "name=\"discarded_at\" value=\"1234567\"",
            "name=\"back\" value=\"/dead-letters?job=posts&#38;tenant=ann\"",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        let none = Done::new(What::Discarded).count(0).at(at).html("/");
        assert!(!none.contains("Undo"), "{none}");
    }

    #[test]
    fn a_form_leads_back_to_a_page_of_ours_only() {
        let back = |back: &str| back_to(back, &["/batches/", "/deliveries"], "/deliveries");
        for own in ["/batches/7?status=failed", "/deliveries?job=posts"] {
            assert_eq!(back(own), own);
        }
        for other in ["", "//evil.example", "/jobs", "/batches/7\r\nX: y"] {
            assert_eq!(back(other), "/deliveries", "{other}");
        }
    }

    #[test]
    fn what_somebody_else_wrote_into_the_cookie_is_not_said() {
        for value in ["", "what=x", "what=paused&job=<b>", "done"] {
            let cookie = format!("punctual_done={value}");
            let headers = HeaderMap::from_iter([(header::COOKIE, cookie.parse().unwrap())]);
            assert_eq!(Done::of(&headers), None, "{value}");
        }
    }
}
