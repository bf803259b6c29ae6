//! The question what becomes of the runs that a restored store does not know of.

use askama::Template;
use axum::{
    extract::{Form, State, rejection::FormRejection},
    response::{Html, Response},
};
use punctual_application::{OperatorError, RestoredStore};
use punctual_domain::RestoreChoice;
use serde::Deserialize;

use super::{
    App, Problem, Visitor,
    answer::{Done, What},
    render,
};
use crate::audit::RequestActor;

#[derive(Template)]
#[template(path = "restore.html")]
struct RestorePage {
    visitor: Visitor,
    /// What is lost, in words; `None`: nothing is to be decided.
    lost: Option<String>,
}

pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
) -> Result<Html<String>, Problem> {
    let restored = app.operator.restored().await?;
    render(&RestorePage {
        visitor,
        lost: restored.as_ref().map(RestoredStore::in_words),
    })
}

#[derive(Deserialize)]
pub(super) struct RestoreForm {
    choice: RestoreChoice,
}

pub(super) async fn settle(
    State(app): State<App>,
    _visitor: Visitor,
    RequestActor(actor): RequestActor,
    form: Result<Form<RestoreForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(RestoreForm { choice }) = form?;
    let what = match app.operator.settle_restore(&actor, choice).await {
        Ok(_) => What::Restored,
        Err(OperatorError::Conflict(_)) => What::FindingOver,
        Err(error) => return Err(error.into()),
    };
    Ok(Done::new(what).then("/"))
}
