//! A preview: what a run of a job would send for one tenant now. The answer to the form is the page itself, as nothing was changed.

use askama::Template;
use axum::{
    extract::{
        Form, Path, Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    response::{Html, Response},
};
use punctual_application::{Preview, PreviewContent, PreviewRequest, PreviewStatus};
use punctual_domain::{JobId, PurposeId, TenantId};
use punctual_web::page::ShowsMail;
use serde::Deserialize;
use serde_json::Value;

use super::{App, Problem, Visitor, jobs::is_refusal, render, render_wrong};
use crate::audit::RequestActor;

#[derive(Template)]
#[template(path = "preview.html")]
struct PreviewPage {
    visitor: Visitor,
    job_id: JobId,
    /// What was put in, and what is wrong with it.
    asked: PreviewForm,
    error: Option<String>,
    preview: Option<Preview>,
}

/// What is shown of one purpose of a run.
struct Step<'p> {
    /// The purpose; `None`: the job has no other.
    purpose: Option<&'p PurposeId>,
    status: PreviewStatus,
    reason: Option<&'p str>,
    content: Option<&'p PreviewContent>,
    answer: Option<&'p Value>,
}

impl Step<'_> {
    fn fails(&self) -> bool {
        self.status == PreviewStatus::Failed
    }

    /// Whether it shows the HTML of an e-mail.
    fn shows_mail(&self) -> bool {
        self.content.is_some_and(|content| content.html.is_some())
    }

    /// What it says, up to its reason.
    fn says(&self) -> &'static str {
        match self.status {
            PreviewStatus::Rendered => "This would be sent now. Nothing was sent.",
            PreviewStatus::Called => {
                "The endpoint was called for a dry run, and answered. Its answer was not stored."
            }
            PreviewStatus::NothingToDo => "There would be nothing to do",
            PreviewStatus::Failed => "The run would fail",
            PreviewStatus::Skipped => "The run would leave the tenant out",
            PreviewStatus::NotSupported | PreviewStatus::NeedsCall => "The content is not known",
        }
    }
}

/// The purposes of a run that are reached, in their order.
fn steps(preview: &Preview) -> Vec<Step<'_>> {
    let then = preview.then.as_ref();
    let first = Step {
        purpose: then.map(|_| &preview.purpose_id),
        status: preview.status,
        reason: preview.reason.as_deref(),
        content: preview.content.as_ref(),
        answer: preview.answer.as_ref(),
    };
    let second = then.map(|then| Step {
        purpose: Some(&then.purpose_id),
        status: then.status,
        reason: then.reason.as_deref(),
        content: then.content.as_ref(),
        answer: then.answer.as_ref(),
    });
    std::iter::once(first).chain(second).collect()
}

#[derive(Deserialize)]
pub(super) struct PreviewForm {
    #[serde(default)]
    tenant_id: String,
    /// Set where the endpoint is to be called.
    #[serde(default)]
    call: String,
}

/// The form.
pub(super) async fn form(
    State(app): State<App>,
    visitor: Visitor,
    Path(job_id): Path<String>,
    query: Result<Query<PreviewForm>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(asked) = query?;
    let job_id = JobId::new(&job_id)?;
    app.operator.job(&job_id)?;
    render(&PreviewPage {
        visitor,
        job_id,
        asked,
        error: None,
        preview: None,
    })
}

/// The form, with the preview below it.
pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
    form: Result<Form<PreviewForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(asked) = form?;
    let job_id = JobId::new(&job_id)?;
    let preview = match TenantId::new(asked.tenant_id.trim()) {
        Err(error) => Err(error.to_string()),
        Ok(tenant_id) => {
            let call = !asked.call.is_empty();
            let request = PreviewRequest { tenant_id, call };
            match app.operator.preview(&actor, &job_id, &request).await {
                Ok(preview) => Ok(preview),
                Err(error) if is_refusal(&error) => Err(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let (preview, error) = match preview {
        Ok(preview) => (Some(preview), None),
        Err(error) => (None, Some(error)),
    };
    let wrong = error.is_some();
    let shows_mail = preview.iter().flat_map(steps).any(|step| step.shows_mail());
    let page = PreviewPage {
        visitor: visitor.on(format!("/jobs/{job_id}/preview")),
        job_id,
        asked,
        error,
        preview,
    };
    let mut response = render_wrong(&page, wrong)?;
    if shows_mail {
        response.extensions_mut().insert(ShowsMail);
    }
    Ok(response)
}
