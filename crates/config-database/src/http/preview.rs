//! What a preference would come to, for forms of a product's own.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, header},
};
use chrono::{DateTime, SecondsFormat, Utc};
use punctual_domain::{ClockChange, FeatureType, FieldError, Origin, TenantId};
use punctual_web::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    App, Caller,
    problem::{AnyProblem, JsonBody},
};
use crate::{
    plan::{JobPlan, Plan, Run},
    sentence::sentence,
    store::now,
    texts::Texts,
};

/// Runs of a preview.
const MAX_RUNS: usize = 5;

/// A preference that is asked about.
#[derive(Deserialize, ToSchema)]
pub(super) struct PreviewBody {
    /// The preference, as it would be stored.
    #[schema(value_type = Object)]
    preference: Map<String, Value>,
    /// The instant after which runs are wanted; now, where it is missing.
    after: Option<DateTime<Utc>>,
}

/// What a preference would come to.
#[derive(Serialize, ToSchema)]
pub(super) struct Preview {
    /// Whether it could be stored.
    valid: bool,
    /// Why it could not be stored, or cannot run although it is on.
    errors: Vec<PreviewError>,
    /// Whether what it leaves out is known: an agent has published its jobs, or nothing is left out.
    known: bool,
    /// With each job of the feature; jobs that make the same of it are one.
    jobs: Vec<JobPreview>,
}

/// What is wrong with a field.
#[derive(Serialize, ToSchema)]
struct PreviewError {
    /// JSON Pointer into the preference.
    pointer: String,
    /// The value, the problem and the remedy.
    detail: String,
}

impl From<&FieldError> for PreviewError {
    fn from(error: &FieldError) -> Self {
        Self {
            pointer: error.pointer.clone(),
            detail: format!("{}; {}", error.problem, error.remedy),
        }
    }
}

/// What a preference would come to with a job.
#[derive(Serialize, ToSchema)]
struct JobPreview {
    /// The jobs; empty: whichever the job.
    #[schema(value_type = Vec<String>)]
    job_ids: Vec<punctual_domain::JobId>,
    /// Whether it is on.
    enabled: bool,
    /// When it runs, in the language of the link that calls, else in that of `Accept-Language`; `null`: it cannot.
    sentence: Option<String>,
    /// The fields in effect.
    fields: Vec<PreviewField>,
    /// The next five runs; none while it is off. They may include a date for which the tenant has already run at another time: it
    /// does not run again.
    next: Vec<PreviewRun>,
}

/// A field in effect.
#[derive(Serialize, ToSchema)]
struct PreviewField {
    /// Its name.
    name: &'static str,
    /// Its value.
    #[schema(value_type = Value)]
    value: Value,
    /// Where it comes from: `tenant`, `organization`, `job_default`, or `built_in`.
    origin: &'static str,
}

/// A run to come.
#[derive(Serialize, ToSchema)]
struct PreviewRun {
    /// When it is due.
    at: String,
    /// `skipped`: the clocks skip the chosen time on that day, and the run is later; `repeated`: they show it twice, and the run
    /// is at the first.
    clock_change: Option<&'static str>,
}

impl From<Run> for PreviewRun {
    fn from(run: Run) -> Self {
        Self {
            at: run.at.to_rfc3339_opts(SecondsFormat::Secs, true),
            clock_change: run.clock_change.map(|change| match change {
                ClockChange::Skipped(_) => "skipped",
                ClockChange::Repeated(_) => "repeated",
            }),
        }
    }
}

impl JobPreview {
    fn of(t: &Texts, plan: &JobPlan, tenant: &TenantId, after: DateTime<Utc>) -> Self {
        let field = |(name, value, origin)| PreviewField {
            name,
            value,
            origin: match origin {
                Origin::Tenant => "tenant",
                Origin::Organization => "organization",
                Origin::JobDefault => "job_default",
                Origin::BuiltIn => "built_in",
            },
        };
        let next = plan.runs(tenant, after).take(MAX_RUNS);
        Self {
            job_ids: plan.jobs.clone(),
            enabled: plan.enabled(),
            sentence: plan
                .slot()
                .map(|slot| sentence(t, &slot.clone().without_ended_pause(after))),
            fields: plan.fields().into_iter().map(field).collect(),
            next: next.map(PreviewRun::from).collect(),
        }
    }
}

/// What a preference would come to, without storing it: whether it could be stored, what would be in effect, and when it would run.
#[utoipa::path(post, operation_id = "preview", path = "/tenants/{tenant_id}/features/{feature_type}/preview", params(("tenant_id" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), ("feature_type" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), request_body = PreviewBody, responses(
    (status = 200, body = Preview, description = "What it would come to", headers(("Content-Language" = String, description = "Language of the sentences"))),
    AnyProblem,
))]
pub(super) async fn preview(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((tenant, feature)): Path<(String, String)>,
    headers: HeaderMap,
    JsonBody(PreviewBody { preference, after }): JsonBody<PreviewBody>,
) -> Result<([(HeaderName, String); 1], Json<Preview>), Problem> {
    let tenant = TenantId::new(&tenant)?;
    let feature = FeatureType::new(&feature)?;
    let after = after.unwrap_or_else(now);
    let accepted = headers.get(header::ACCEPT_LANGUAGE);
    let t = Texts::of(
        caller.locale.as_ref(),
        None,
        accepted.and_then(|accepted| accepted.to_str().ok()),
    );
    let layer = app.store.layer_of(&tenant).await?;
    let checked = app
        .store
        .check_preference(&feature, &preference, layer.as_ref());
    let refused = checked.await.err();
    let known = app.store.feature(&feature);
    let plan = Plan::of_member(&feature, Some(&preference), layer.as_ref(), &known);
    let plan = plan.unwrap_or(Plan::Unknown);
    let problems = refused.as_ref().or_else(|| plan.problem());
    let (known, plans) = match &plan {
        Plan::Known(plans) => (true, plans.as_slice()),
        Plan::Unknown | Plan::LeftOpen => (false, &[][..]),
        Plan::Unreadable(_) => (true, &[][..]),
    };
    let preview = Preview {
        valid: refused.is_none(),
        errors: problems.map_or_else(Vec::new, |errors| {
            errors.0.iter().map(PreviewError::from).collect()
        }),
        known,
        jobs: plans
            .iter()
            .map(|plan| JobPreview::of(&t, plan, &tenant, after))
            .collect(),
    };
    let language = (header::CONTENT_LANGUAGE, t.locale().to_owned());
    Ok(([language], Json(preview)))
}
