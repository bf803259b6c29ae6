//! `preview --render`: what a run of a job would send for a tenant now, as the running agent says.

use punctual_application::{Preview, PreviewContent, PreviewRequest, PreviewStatus};
use punctual_domain::{JobId, TenantId};
use punctual_web::format::pretty;
use serde_json::Value;

use crate::{
    client::{Client, LONG_TIMEOUT},
    commands::Failure,
    output::{View, show},
    settings::Settings,
};

pub(super) async fn render(
    settings: &Settings,
    tenant_id: TenantId,
    job: &JobId,
    call: bool,
    json: bool,
) -> Result<(), Failure> {
    let request = PreviewRequest { tenant_id, call };
    let client = Client::new(settings)?;
    let path = format!("jobs/{job}/preview");
    let preview: Preview = client.post_within(&path, &request, LONG_TIMEOUT).await?;
    show(json, &preview, view);
    let then = preview.then.as_ref().map(|then| then.status);
    if [Some(preview.status), then].contains(&Some(PreviewStatus::Failed)) {
        return Err(Failure::Shown);
    }
    Ok(())
}

/// What a preview says of one purpose.
fn says(status: PreviewStatus, reason: Option<&String>, is_program: bool) -> String {
    let says = match status {
        PreviewStatus::Rendered => "this would be sent now; nothing was sent",
        PreviewStatus::Called if is_program => {
            "the program ran for a dry run; its result was not stored"
        }
        PreviewStatus::Called => "the endpoint was called for a dry run; its answer was not stored",
        PreviewStatus::NothingToDo => "there would be nothing to do",
        PreviewStatus::Failed => "the run would fail",
        PreviewStatus::Skipped => "the run would leave the tenant out",
        PreviewStatus::NotSupported => "the content is not known",
        PreviewStatus::NeedsCall => "the content is not known without `--call`",
    };
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{says}{reason}")
}

/// Whether a handler, as it is described, runs a program: it gets an input, where others send a request.
fn runs_program(handler: Option<&String>) -> bool {
    handler.is_some_and(|handler| handler.starts_with("command "))
}

fn view(preview: &Preview) -> View {
    let (tenant, job) = (&preview.tenant_id, &preview.job_id);
    let is_program = runs_program(preview.handler.as_ref());
    let first = says(preview.status, preview.reason.as_ref(), is_program);
    let mut view = View::default().prose(format!("{tenant} in {job}: {first}"));
    if let Some(note) = preview.note() {
        view = view.prose(note);
    }
    if preview.truncated {
        view = view.prose("Long texts are cut.");
    }
    let (content, answer) = (preview.content.as_ref(), preview.answer.as_ref());
    view = with_content(view, content, answer, is_program);
    if let Some(then) = &preview.then {
        let is_program = runs_program(then.handler.as_ref());
        let second = says(then.status, then.reason.as_ref(), is_program);
        view = view
            .heading(format!("Then {}", then.purpose_id))
            .prose(second);
        let (content, answer) = (then.content.as_ref(), then.answer.as_ref());
        view = with_content(view, content, answer, is_program);
    }
    let previous = preview.previous.map(|previous| previous.occurrence);
    for (name, text) in [
        (
            "Effective preference",
            preview.preference.as_ref().map(pretty),
        ),
        ("Data", preview.data.as_ref().map(pretty)),
        (
            "Last successful run",
            previous.map(|occurrence| occurrence.to_string()),
        ),
    ] {
        if let Some(text) = text {
            view = view.heading(name).line(text);
        }
    }
    view
}

/// What a purpose would send, and what its dry run came to.
fn with_content(
    mut view: View,
    content: Option<&PreviewContent>,
    answer: Option<&Value>,
    is_program: bool,
) -> View {
    let body = if is_program {
        "Input of the program"
    } else {
        "Body of the request"
    };
    let content = content.cloned().unwrap_or_default();
    for (name, value) in [("to", content.to), ("subject", content.subject)] {
        if let Some(value) = value {
            view = view.line(format!("  {name:<11}{value}"));
        }
    }
    for (name, text) in [
        ("Text", content.text),
        ("HTML", content.html),
        (body, content.body.as_ref().map(pretty)),
        ("Result of the dry run", answer.map(pretty)),
    ] {
        if let Some(text) = text {
            view = view.heading(name).line(text);
        }
    }
    view
}
