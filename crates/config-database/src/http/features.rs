//! Features as resources: what people call them and what a preference for one may say, which administrators store, and what their
//! jobs make of what a preference leaves out, which agents publish.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use punctual_domain::{FeatureType, JobDefaults};
use punctual_web::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    problem::{AnyProblem, JsonBody},
};
use crate::store::{InvalidPreferences, jobs_json, read_feature};

/// What is known of a feature. Everything may be missing.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct FeatureBody {
    /// Its name for people, at most 100 characters.
    #[schema(max_length = 100)]
    title: Option<String>,
    /// What it does for them, at most 1,000 characters.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// How often it may run: of `hourly`, `daily`, `weekly`, `biweekly`, `monthly`. Missing: as often as there is.
    frequencies: Option<Vec<String>>,
    /// The earliest time of day that may be chosen, as `06:00`. Hourly runs are not bounded.
    earliest_time: Option<String>,
    /// The latest time of day that may be chosen, as `22:00`.
    latest_time: Option<String>,
    /// `true`: tenants see on its page how their newest runs have ended, where the service knows an agent. Default: `false`.
    show_runs: Option<bool>,
    /// Title and description in other languages, at most 100, by IETF tag such as `de` or `pt-BR`. A page shows those of its language in the
    /// reader's region, else of its language, and for what is missing the ones above.
    locales: Option<BTreeMap<String, FeatureTextsBody>>,
    /// JSON Schema of its `template_overrides`. `x-order`, a number, orders the fields of the page's form; `x-widget: textarea`
    /// gives a text more lines; `x-locales` has the texts of a field in other languages by tag: `title`, `description`, and `choices`,
    /// which names each value of an `enum`.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
}

/// Texts of a feature in one language.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct FeatureTextsBody {
    /// Its name for people, at most 100 characters.
    #[schema(max_length = 100)]
    title: Option<String>,
    /// What it does for them, at most 1,000 characters.
    #[schema(max_length = 1000)]
    description: Option<String>,
}

/// A feature as it is read.
#[derive(Serialize, ToSchema)]
pub(super) struct FeatureResource {
    /// Its name.
    feature_type: FeatureType,
    #[serde(flatten)]
    #[schema(value_type = FeatureBody)]
    feature: Map<String, Value>,
    /// What its jobs make of what a preference leaves out, by job, as an agent published it last.
    #[schema(value_type = BTreeMap<String, JobDefaultsBody>)]
    jobs: Value,
}

/// What a job makes of what a preference leaves out.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes what `JobDefaults` reads")]
pub(super) struct JobDefaultsBody {
    /// Values for the fields that a preference leaves out, as a preference has them.
    #[schema(value_type = Option<Object>)]
    defaults: Option<Value>,
    /// The time zone where neither the preference nor the defaults name one.
    timezone: String,
    /// Over how many minutes after the chosen time tenants are spread, 0 to 1440.
    #[schema(maximum = 1440)]
    spread_minutes: Option<u32>,
}

/// The jobs of a feature.
#[derive(Deserialize, ToSchema)]
pub(super) struct JobsBody {
    /// The jobs by their ids, at most 100.
    #[schema(value_type = BTreeMap<String, JobDefaultsBody>)]
    jobs: Value,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StoreQuery {
    /// `true`: store nothing, and count the stored preferences that would not fit.
    #[param(nullable = false)]
    dry_run: Option<bool>,
}

/// Stored preferences of a feature that do not fit what is sent.
#[derive(Serialize, ToSchema)]
pub(super) struct DryRun {
    /// Number of preferences that were looked at.
    checked: usize,
    /// Number of them that do not fit. They stay as they are, and keep their tenants from saving them again.
    invalid: usize,
    /// The first 20 of them.
    examples: Vec<DryRunExample>,
}

/// A stored preference that does not fit.
#[derive(Serialize, ToSchema)]
struct DryRunExample {
    tenant_id: String,
    /// Why it does not fit.
    reason: String,
}

impl From<InvalidPreferences> for DryRun {
    fn from(found: InvalidPreferences) -> Self {
        let examples = found.first.into_iter().take(20);
        Self {
            checked: found.checked,
            invalid: found.invalid,
            examples: examples
                .map(|example| DryRunExample {
                    tenant_id: example.tenant_id,
                    reason: example.reason,
                })
                .collect(),
        }
    }
}

/// What is known of a feature.
#[utoipa::path(get, operation_id = "feature", path = "/feature-types/{feature_type}", params(("feature_type" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), responses(
    (status = 200, body = FeatureResource, description = "The feature"),
    AnyProblem,
))]
pub(super) async fn read(
    State(app): State<App>,
    Path(feature_type): Path<String>,
) -> Result<Json<FeatureResource>, Problem> {
    let feature_type = FeatureType::new(&feature_type)?;
    let known = app.store.feature(&feature_type);
    let mut feature = known.feature.to_json();
    let schema = app.store.schema(&feature_type).await?;
    feature.extend(schema.map(|schema| ("schema".to_owned(), schema)));
    Ok(Json(FeatureResource {
        feature_type,
        feature,
        jobs: jobs_json(&known.jobs),
    }))
}

/// Stores what people call a feature and what a preference for it may say, in place of what was stored.
///
/// It is asked of everything stored from now on; what is stored already stays as it is.
#[utoipa::path(put, operation_id = "store_feature", path = "/feature-types/{feature_type}", params(("feature_type" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$"), StoreQuery), request_body = FeatureBody, responses(
    (status = 200, body = DryRun, description = "Nothing is stored, because `dry_run` was asked for"),
    (status = 204, description = "The feature is stored"),
    AnyProblem,
))]
pub(super) async fn store(
    State(app): State<App>,
    Path(feature_type): Path<String>,
    query: Result<Query<StoreQuery>, QueryRejection>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<Response, Problem> {
    let Query(StoreQuery { dry_run }) = query?;
    let feature_type = FeatureType::new(&feature_type)?;
    let (feature, schema) = read_feature(&body, &[])?;
    if dry_run == Some(true) {
        let found = app
            .store
            .would_be_invalid(&feature_type, feature, schema.as_ref());
        return Ok(Json(DryRun::from(found.await?)).into_response());
    }
    app.store
        .set_feature(&feature_type, feature, schema.as_ref())
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Publishes what the jobs of a feature make of what a preference leaves out, in place of what was published before.
///
/// Agents do so at their start and whenever their jobs change, with a key of the scope `agent`. The pages show it, and find out with
/// it when a preference falls due.
#[utoipa::path(put, operation_id = "publish_jobs", path = "/feature-types/{feature_type}/jobs", params(("feature_type" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), request_body = JobsBody, responses(
    (status = 204, description = "The jobs are published"),
    AnyProblem,
))]
pub(super) async fn publish(
    State(app): State<App>,
    Path(feature_type): Path<String>,
    JsonBody(JobsBody { jobs }): JsonBody<JobsBody>,
) -> Result<StatusCode, Problem> {
    let feature_type = FeatureType::new(&feature_type)?;
    let jobs = JobDefaults::parse_all(&jobs, "/jobs")?;
    app.store.set_jobs(&feature_type, jobs).await?;
    Ok(StatusCode::NO_CONTENT)
}
