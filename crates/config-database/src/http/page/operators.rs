//! What operators see beside single tenants: who there is, organizations, groups, what is not valid, import and export.

use std::{collections::HashMap, future::ready};

use askama::Template;
use axum::{
    body::Body,
    extract::{Multipart, Query, State, multipart::MultipartError},
    http::header,
    response::{Html, IntoResponse, Response},
};
use futures::{StreamExt, stream};
use punctual_domain::{FeatureType, OrganizationId};
use punctual_web::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{overrides::plain, render_for_operators, visitor::Visitor};
use crate::{
    http::App,
    import::{Import, ImportReport, NewSchedules},
    store::{
        InvalidPreference, ListedOrganization, RARELY_SHARED, READER_EXPIRES_AFTER, StoreError, now,
    },
};

const TENANTS_PER_PAGE: u32 = 60;
const ORGANIZATIONS_PER_PAGE: u32 = 60;
const MAX_GROUPS: u32 = 500;
const INVALID_PER_PAGE: u32 = 100;
const EXPORT_PAGE: u32 = 5_000;
// Each has up to half a MiB.
const ORGANIZATIONS_PAGE: u32 = 10;
/// Bytes of the field `csrf` of a form with a file.
const MAX_CSRF_BYTES: usize = 256;
/// Features that are listed.
const MAX_FEATURES: usize = 100;

#[derive(Template)]
#[template(path = "operators.html")]
struct OperatorsPage {
    visitor: Visitor,
    q: String,
    tenants: Vec<String>,
    after: Option<String>,
    features: Vec<FeatureRow>,
    report: Option<ImportReport>,
}

struct FeatureRow {
    name: String,
    enabled: i64,
    /// Preferences that cannot run.
    invalid: i64,
    readers: usize,
}

#[derive(Deserialize, Default)]
pub(super) struct Search {
    q: Option<String>,
    after: Option<String>,
}

pub(super) async fn overview(
    State(app): State<App>,
    visitor: Visitor,
    Query(search): Query<Search>,
) -> Result<Html<String>, Problem> {
    show(&app, visitor, search, None).await
}

async fn show(
    app: &App,
    visitor: Visitor,
    search: Search,
    report: Option<ImportReport>,
) -> Result<Html<String>, Problem> {
    visitor.must_be_operator()?;
    let q = search.q.unwrap_or_default().trim().to_owned();
    let after = search.after.unwrap_or_default();
    let mut tenants = app.store.tenants(&q, &after, TENANTS_PER_PAGE + 1).await?;
    let more = tenants.len() > TENANTS_PER_PAGE as usize;
    tenants.truncate(TENANTS_PER_PAGE as usize);
    let readers = app
        .store
        .reader_counts(now() - READER_EXPIRES_AFTER)
        .await?;
    let invalid = app.store.invalid_by_feature().await?;
    let invalid: HashMap<String, i64> = invalid.into_iter().collect();
    let known = app.store.feature_types().await?.into_iter();
    let row = |(name, enabled): (String, i64)| FeatureRow {
        readers: readers.get(&name).copied().unwrap_or_default(),
        invalid: invalid.get(&name).copied().unwrap_or_default(),
        name,
        enabled,
    };
    let features = known.take(MAX_FEATURES).map(row).collect();
    render_for_operators(&OperatorsPage {
        visitor,
        q,
        after: tenants.last().filter(|_| more).cloned(),
        tenants,
        features,
        report,
    })
}

#[derive(Template)]
#[template(path = "organizations.html")]
struct OrganizationsPage {
    visitor: Visitor,
    q: String,
    organizations: Vec<ListedOrganization>,
    after: Option<OrganizationId>,
}

pub(super) async fn organizations(
    State(app): State<App>,
    visitor: Visitor,
    Query(search): Query<Search>,
) -> Result<Html<String>, Problem> {
    visitor.must_be_operator()?;
    let q = search.q.unwrap_or_default().trim().to_owned();
    let after = search.after.unwrap_or_default();
    let (organizations, more) = app
        .store
        .organizations(&q, &after, ORGANIZATIONS_PER_PAGE)
        .await?;
    let last = organizations.last().filter(|_| more);
    render_for_operators(&OrganizationsPage {
        visitor,
        q,
        after: last.map(|last| last.organization_id.clone()),
        organizations,
    })
}

#[derive(Template)]
#[template(path = "groups.html")]
struct GroupsPage {
    visitor: Visitor,
    feature: FeatureType,
    groups: Vec<GroupRow>,
}

struct GroupRow {
    frequency: String,
    day: String,
    time: String,
    zone: String,
    /// The interval and the dates, where there are any.
    bounds: String,
    count: i64,
}

impl GroupRow {
    fn of((shared, count): (Map<String, Value>, i64)) -> Self {
        let field = |name: &str| match &shared.get(name) {
            None | Some(Value::Null) => "–".to_owned(),
            Some(Value::Array(days)) => days.iter().map(plain).collect::<Vec<_>>().join(", "),
            Some(value) => plain(value),
        };
        Self {
            frequency: field("frequency"),
            day: field("preferred_day"),
            time: field("preferred_time"),
            zone: field("timezone"),
            bounds: RARELY_SHARED
                .into_iter()
                .filter_map(|name| Some((name, shared.get(name)?)))
                .map(|(name, value)| format!("{} {}", name.replace('_', " "), plain(value)))
                .collect::<Vec<_>>()
                .join(", "),
            count,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct FeatureQuery {
    feature: String,
}

pub(super) async fn groups(
    State(app): State<App>,
    visitor: Visitor,
    Query(FeatureQuery { feature }): Query<FeatureQuery>,
) -> Result<Html<String>, Problem> {
    visitor.must_be_operator()?;
    let feature = FeatureType::new(&feature)?;
    let groups = app.store.group_sizes(&feature, MAX_GROUPS).await?;
    render_for_operators(&GroupsPage {
        visitor,
        feature,
        groups: groups.into_iter().map(GroupRow::of).collect(),
    })
}

#[derive(Template)]
#[template(path = "quarantine.html")]
struct QuarantinePage {
    visitor: Visitor,
    /// The features that have any, with how many.
    counts: Vec<(String, i64)>,
    /// The features whose preferences are being checked.
    unchecked: Vec<FeatureType>,
    found: Vec<InvalidPreference>,
    /// Where the next page begins.
    next: Option<(String, String)>,
}

#[derive(Deserialize, Default)]
pub(super) struct QuarantineQuery {
    #[serde(default)]
    feature: String,
    #[serde(default)]
    after: String,
}

pub(super) async fn quarantine(
    State(app): State<App>,
    visitor: Visitor,
    Query(QuarantineQuery { feature, after }): Query<QuarantineQuery>,
) -> Result<Html<String>, Problem> {
    visitor.must_be_admin()?;
    let (counts, unchecked) = app.store.invalid_counts().await?;
    let mut found = app
        .store
        .invalid_preferences((&feature, &after), INVALID_PER_PAGE + 1)
        .await?;
    let more = found.len() > INVALID_PER_PAGE as usize;
    found.truncate(INVALID_PER_PAGE as usize);
    let last = found.last().filter(|_| more);
    render_for_operators(&QuarantinePage {
        visitor,
        counts,
        unchecked,
        next: last.map(|last| (last.feature_type.clone(), last.tenant_id.clone())),
        found,
    })
}

/// All features, and all configurations of organizations and tenants, as lines that can be imported.
pub(super) async fn export(State(app): State<App>, visitor: Visitor) -> Result<Response, Problem> {
    visitor.must_be_admin()?;
    // First, so that an import knows them when it comes to the preferences.
    let features = stream::once(ready(Ok(lines(&app.store.exported_features().await?))));
    // And the organizations with their members: what a preference leaves out may be in its organization's.
    let store = app.store.clone();
    let organizations = stream::try_unfold(Some(String::new()), move |after| {
        let store = store.clone();
        async move {
            let Some(after) = after else {
                return Ok(None);
            };
            let page = store.export_organizations(&after, ORGANIZATIONS_PAGE);
            let configs = page.await?;
            let next = configs
                .last()
                .map(|config| config.organization_id.to_string());
            Ok::<_, StoreError>(Some((lines(&configs), next)))
        }
    });
    let store = app.store.clone();
    let members = stream::try_unfold(Some(String::new()), move |after| {
        let store = store.clone();
        async move {
            let Some(after) = after else {
                return Ok(None);
            };
            let configs = store
                .export_profiles_of_members(&after, EXPORT_PAGE)
                .await?;
            let next = configs.last().map(|config| config.tenant_id.to_string());
            Ok::<_, StoreError>(Some((lines(&configs), next)))
        }
    });
    let pages = stream::try_unfold(Some((String::new(), String::new())), move |after| {
        let store = app.store.clone();
        async move {
            let Some((tenant, key)) = after else {
                return Ok(None);
            };
            let configs = store.export(&tenant, &key, EXPORT_PAGE).await?;
            let next = configs
                .last()
                .map(|config| (config.tenant_id.to_string(), config.config_key.clone()));
            Ok::<_, StoreError>(Some((lines(&configs), next)))
        }
    });
    let first = features.chain(organizations).chain(members);
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"preferences.ndjson\"",
        ),
    ];
    Ok((headers, Body::from_stream(first.chain(pages))).into_response())
}

fn lines(entries: &[impl Serialize]) -> String {
    let lines = entries
        .iter()
        .filter_map(|entry| serde_json::to_string(entry).ok());
    lines.map(|line| line + "\n").collect()
}

pub(super) async fn import(
    State(app): State<App>,
    visitor: Visitor,
    mut form: Multipart,
) -> Result<Html<String>, Problem> {
    visitor.must_be_admin()?;
    let unreadable = |error: MultipartError| Problem::bad_request(error.body_text());
    let mut allowed = false;
    while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
        match field.name() {
            Some("csrf") => {
                let mut csrf = Vec::new();
                while let Some(piece) = field.chunk().await.map_err(unreadable)? {
                    csrf.extend_from_slice(&piece);
                    if csrf.len() > MAX_CSRF_BYTES {
                        return Err(Problem::bad_request("the field csrf is too long"));
                    }
                }
                let csrf = String::from_utf8_lossy(&csrf);
                visitor.may_change(Some(&csrf))?;
                allowed = true;
            }
            Some("file") if allowed => {
                let mut import = Import::new(&app.store, visitor.name(), NewSchedules::SinceNow);
                while let Some(piece) = field.chunk().await.map_err(unreadable)? {
                    import.take(&piece).await?;
                }
                let report = import.finish().await?;
                return show(&app, visitor.clone(), Search::default(), Some(report)).await;
            }
            _ => {}
        }
    }
    Err(Problem::bad_request("no file was sent; choose one"))
}
