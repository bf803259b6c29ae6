//! One tenant: all features, and the history with restoring from it.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
    response::{Html, Redirect},
};
use punctual_domain::{FeatureType, TenantId};
use punctual_web::{Problem, format::local};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{form, preference::id_of, render, runs::merged, visitor::Visitor};
use crate::{
    http::App,
    store::{Expected, PastConfig, now},
    validate::FEATURE_PREFERENCES,
};

const VERSIONS_PER_PAGE: u32 = 20;

#[derive(Template)]
#[template(path = "tenant.html")]
struct TenantPage {
    visitor: Visitor,
    tenant: TenantId,
    features: Vec<FeatureState>,
}

/// How a feature stands for the tenant.
struct FeatureState {
    name: String,
    state: &'static str,
    class: &'static str,
    next: Option<String>,
}

impl FeatureState {
    fn of(name: String, preference: Option<&Value>) -> Self {
        let (state, class, next) = match preference.and_then(Value::as_object).map(merged) {
            None => ("not set", "off", None),
            Some(Err(_)) => ("not valid", "wrong", None),
            Some(Ok(merged)) if !merged.enabled => ("off", "off", None),
            Some(Ok(merged)) => {
                let slot = &merged.slot;
                let next = slot
                    .next_after(now())
                    .map(|instant| format!("{} ({})", local(&slot.zone, instant), slot.zone));
                ("on", "on", next)
            }
        };
        Self {
            name,
            state,
            class,
            next,
        }
    }
}

pub(super) async fn overview(
    State(app): State<App>,
    visitor: Visitor,
    Path(tenant): Path<String>,
) -> Result<Html<String>, Problem> {
    let tenant = visitor.may_see(&tenant)?;
    let config = app.store.config(&id_of(&tenant)).await?;
    let value = config.map_or_else(Map::new, |config| config.config_value);
    let known = app.store.feature_types().await?;
    let names: BTreeSet<String> = known
        .into_iter()
        .map(|(name, _)| name)
        .chain(value.keys().cloned())
        .collect();
    let features = names
        .into_iter()
        .map(|name| {
            let preference = value.get(&name);
            FeatureState::of(name, preference)
        })
        .collect();
    render(&TenantPage {
        visitor,
        tenant,
        features,
    })
}

#[derive(Deserialize)]
pub(super) struct TenantQuery {
    name: String,
}

/// Goes to the feature that was typed in.
pub(super) async fn open(
    visitor: Visitor,
    Path(tenant): Path<String>,
    Query(TenantQuery { name }): Query<TenantQuery>,
) -> Result<Redirect, Problem> {
    let tenant = visitor.may_see(&tenant)?;
    let feature = FeatureType::new(name.trim())?;
    Ok(Redirect::to(&format!(
        "/tenants/{tenant}/features/{feature}"
    )))
}

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage {
    visitor: Visitor,
    tenant: TenantId,
    versions: Vec<PastConfig>,
    next_before: Option<i64>,
}

impl HistoryPage {
    fn pretty(&self, value: &Map<String, Value>) -> String {
        form::pretty(&Value::Object(value.clone()))
    }
}

#[derive(Deserialize)]
pub(super) struct HistoryPageQuery {
    before: Option<i64>,
}

pub(super) async fn history(
    State(app): State<App>,
    visitor: Visitor,
    Path(tenant): Path<String>,
    Query(HistoryPageQuery { before }): Query<HistoryPageQuery>,
) -> Result<Html<String>, Problem> {
    let tenant = visitor.may_see(&tenant)?;
    let (versions, more) = app
        .store
        .history(
            &id_of(&tenant),
            before.unwrap_or(i64::MAX),
            VERSIONS_PER_PAGE,
        )
        .await?;
    let next_before = versions.last().map(|last| last.version).filter(|_| more);
    render(&HistoryPage {
        visitor,
        tenant,
        versions,
        next_before,
    })
}

#[derive(Deserialize)]
pub(super) struct RestoreForm {
    csrf: Option<String>,
    version: i64,
}

pub(super) async fn restore(
    State(app): State<App>,
    visitor: Visitor,
    Path(tenant): Path<String>,
    Form(sent): Form<RestoreForm>,
) -> Result<Redirect, Problem> {
    visitor.may_change(sent.csrf.as_deref())?;
    let tenant = visitor.may_see(&tenant)?;
    let value = app
        .store
        .past_value(&id_of(&tenant), sent.version)
        .await?
        .ok_or_else(|| {
            Problem::bad_request(
                "that version cannot be restored; choose another one from the history",
            )
        })?;
    let config = app
        .store
        .check(FEATURE_PREFERENCES, Value::Object(value))
        .await?;
    let anything = Expected::default();
    app.store
        .change(&id_of(&tenant), &anything, visitor.name(), Some(config))
        .await?;
    Ok(Redirect::to(&format!("/tenants/{tenant}/history")))
}
