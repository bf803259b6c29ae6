//! The audit log: what operators have done.

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Html,
};
use punctual_application::ports::{AuditEntry, AuditFilter};
use punctual_web::Empty;
use serde::Deserialize;

use super::{App, Choice, Live, Pager, PagerQuery, Problem, ROWS_PER_PAGE, Visitor, render};

/// The actions there are.
const ACTIONS: [&str; 19] = [
    "pause",
    "resume",
    "trigger",
    "backfill",
    "cancel",
    "replay",
    "discard",
    "reopen",
    "deliver_again",
    "acknowledge",
    "unacknowledge",
    "suppress",
    "unsuppress",
    "erase_tenant",
    "export_tenant",
    "restore",
    "add_key",
    "revoke_key",
    "sign_out",
];

#[derive(Template)]
#[template(path = "audit_log.html")]
struct AuditLogPage {
    visitor: Visitor,
    entries: Vec<AuditEntry>,
    actions: Vec<Choice>,
    subject: String,
    is_filtered: bool,
    pager: Pager,
}

impl AuditLogPage {
    fn nothing(&self) -> String {
        if self.is_filtered {
            let none = Empty::of("No entries match this filter.");
            return none.link("/audit-log", "Show all entries").html();
        }
        Empty::of("No operator has done anything yet.")
            .note("Pauses, manual runs, replays and other actions appear here, with when and by whom.")
            .html()
    }
}

#[derive(Deserialize)]
pub(super) struct AuditQuery {
    #[serde(default)]
    action: String,
    #[serde(default)]
    subject: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Live(visitor): Live,
    query: Result<Query<AuditQuery>, QueryRejection>,
    asked: PagerQuery,
) -> Result<Html<String>, Problem> {
    let Query(AuditQuery { action, subject }) = query?;
    let subject = subject.trim().to_owned();
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let filter = AuditFilter {
        action: some(&action),
        subject: some(&subject),
    };
    let page = asked.page(ROWS_PER_PAGE);
    let (entries, next) = app.operator.operations.audit_log(&filter, &page).await?;
    let filters = [("action", action.as_str()), ("subject", subject.as_str())];
    render(&AuditLogPage {
        visitor,
        entries,
        actions: Choice::among(ACTIONS, &action),
        is_filtered: filters.iter().any(|(_, value)| !value.is_empty()),
        pager: Pager::new(&filters, &asked, next.as_deref()),
        subject,
    })
}
