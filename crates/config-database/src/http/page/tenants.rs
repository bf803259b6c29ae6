//! One tenant: all features. And the history of a tenant or an organization, with bringing back from it.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    response::{Html, Redirect},
};
use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, OrganizationId, TenantId, Zone};
use punctual_web::Problem;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    mistakes::Reader,
    overrides::pretty,
    owner::{Owner, PageAddress},
    preference::{description, title},
    render,
    runs::{next_run, summary},
    usual::Usual,
    visitor::Visitor,
};
use crate::{
    http::{
        App,
        auth::{LINK, UNSUBSCRIBE_LINK},
    },
    layers::Layer,
    plan::Plan,
    sentence::local,
    store::{ConfigId, KnownFeature, PastConfig, now},
    texts::Texts,
};

const VERSIONS_PER_PAGE: usize = 20;

#[derive(Template)]
#[template(path = "tenant.html")]
struct TenantPage<'v> {
    t: &'v Texts,
    visitor: &'v Visitor,
    tenant: TenantId,
    /// Which organization the tenant belongs to, for operators.
    organization: Option<OrganizationId>,
    features: Vec<FeatureState>,
    notice: Option<String>,
}

/// How a feature stands for the tenant.
struct FeatureState {
    name: String,
    title: String,
    description: Option<String>,
    stands: Stands,
    /// Whether there is a usual time for who chooses none.
    usual: bool,
    next: Option<String>,
}

/// What there is to say of a feature.
enum Stands {
    NotSet,
    Off,
    /// On, and when it runs, in words.
    On(String),
    /// It cannot run: why.
    Wrong(Vec<String>),
}

impl FeatureState {
    fn of(
        visitor: &Visitor,
        name: String,
        plan: Option<Plan>,
        known: &KnownFeature,
        tenant: &TenantId,
    ) -> Self {
        let t = &*visitor.t;
        let stands = match &plan {
            None => Stands::NotSet,
            Some(plan) => match plan.problem() {
                Some(errors) => {
                    let reader = Reader {
                        t,
                        feature: &known.feature,
                        fields: &[],
                        for_operator: visitor.is_operator(),
                    };
                    Stands::Wrong(errors.0.iter().map(|error| reader.of(error)).collect())
                }
                None if plan.enabled() => Stands::On(summary(t, plan, now())),
                None => Stands::Off,
            },
        };
        Self {
            title: title(t, known, &name).to_owned(),
            description: description(t, known).map(str::to_owned),
            usual: Usual::is_known(known),
            next: plan.and_then(|plan| next_run(t, &plan, tenant, now())),
            name,
            stands,
        }
    }

    fn is_on(&self) -> bool {
        matches!(self.stands, Stands::On(_) | Stands::Wrong(_))
    }

    /// Whether switching it on is enough for it to run.
    fn can_switch(&self) -> bool {
        match self.stands {
            Stands::NotSet => self.usual,
            Stands::Off | Stands::On(_) | Stands::Wrong(_) => true,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct SwitchedQuery {
    switched: Option<String>,
    feature: Option<String>,
}

pub(super) async fn overview(
    State(app): State<App>,
    visitor: Visitor,
    Path(tenant): Path<String>,
    Query(query): Query<SwitchedQuery>,
) -> Result<Html<String>, Problem> {
    let tenant = visitor.may_see(&tenant)?;
    let t = &*visitor.t;
    let config = app.store.config(&ConfigId::of_preferences(&tenant)).await?;
    let value = config.map_or_else(Map::new, |config| config.config_value);
    let layer = app.store.layer_of(&tenant).await?;
    let known = visitor.known_features(&app.store).await?;
    let names: BTreeSet<String> = known
        .into_iter()
        .chain(value.keys().cloned())
        .chain(layer.iter().flat_map(Layer::features).cloned())
        .filter(|name| visitor.may_see_feature(name))
        .collect();
    let mut features = Vec::new();
    for name in names {
        let feature = FeatureType::new(&name)?;
        let known = app.store.feature(&feature);
        let own = value.get(&name).and_then(Value::as_object);
        let plan = Plan::of_member(&feature, own, layer.as_ref(), &known);
        let state = FeatureState::of(&visitor, name, plan, &known, &tenant);
        features.push(state);
    }
    let switched = query.switched.filter(|word| word == "on" || word == "off");
    let notice = switched.zip(query.feature).and_then(|(word, name)| {
        let feature = features.iter().find(|feature| feature.name == name)?;
        let id = format!("list-switched-{word}");
        Some(t.text_of(&id, "feature", &feature.title))
    });
    let page = TenantPage {
        t,
        visitor: &visitor,
        tenant,
        organization: layer
            .filter(|_| visitor.is_operator())
            .map(|layer| layer.organization),
        features,
        notice,
    };
    render(t, &page)
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
struct HistoryPage<'v> {
    t: &'v Texts,
    visitor: &'v Visitor,
    owner: Owner,
    versions: Vec<VersionRow>,
    next_before: Option<i64>,
}

/// A version, with what it changed.
struct VersionRow {
    version: i64,
    changed_at: String,
    /// Who made it, in words.
    by: String,
    changes: Vec<ChangeRow>,
    /// The whole value, for operators.
    raw: Option<String>,
}

/// Who made a change, in words. What the history keeps of a link is a text behind the tenant.
fn by(t: &Texts, actor: &str) -> String {
    let by_link = |(suffix, id): (&str, &'static str)| Some((actor.strip_suffix(suffix)?, id));
    let found = [
        (LINK, "history-by-link"),
        (UNSUBSCRIBE_LINK, "history-by-unsubscribe"),
    ]
    .into_iter()
    .find_map(by_link);
    let (actor, id) = found.unwrap_or((actor, "history-by"));
    t.text_of(id, "actor", actor)
}

/// What a version changed of a feature.
struct ChangeRow {
    feature: String,
    title: String,
    /// What it was, and what it is.
    change: String,
    before: String,
    /// The version that has it as it was before.
    restore: i64,
    /// What the button says that brings it back.
    restore_label: String,
}

impl ChangeRow {
    /// What is different between two values of these preferences. What each comes to, it comes to over the `layer` of today, and
    /// with the jobs of today.
    fn between(
        app: &App,
        t: &Texts,
        owner: &Owner,
        layer: Option<&Layer>,
        before: &PastValue,
        after: &PastValue,
    ) -> Vec<Self> {
        let names: BTreeSet<&String> = before.value.keys().chain(after.value.keys()).collect();
        let changed = names
            .into_iter()
            .filter(|name| before.value.get(*name) != after.value.get(*name));
        let row = |name: &String| {
            let known = FeatureType::new(name).map(|feature| app.store.feature(&feature));
            let known: Arc<KnownFeature> = known.unwrap_or_default();
            let said = |value: &Map<String, Value>| {
                let preference = value.get(name).and_then(Value::as_object);
                preference.map_or_else(
                    || t.text("summary-not-set"),
                    // A pause as it was chosen, ended or not.
                    |preference| {
                        let merged = layer.and_then(|layer| layer.merge(name, Some(preference)));
                        let merged = merged.map(|(merged, _)| merged);
                        let plan = owner.plan_of(merged.as_ref().unwrap_or(preference), &known);
                        summary(t, &plan, DateTime::<Utc>::MIN_UTC)
                    },
                )
            };
            let (old, mut new) = (said(&before.value), said(&after.value));
            if old == new {
                new = t.text("history-other-settings");
            }
            let title = title(t, &known, name);
            let text = |id: &str, name: &str, value: &str| {
                t.with(id, &[("before", old.as_str().into()), (name, value.into())])
            };
            Self {
                feature: name.clone(),
                change: text("history-change", "after", &new),
                restore_label: text("history-restore-feature", "feature", title),
                title: title.to_owned(),
                before: old.clone(),
                restore: before.version,
            }
        };
        changed.map(row).collect()
    }
}

/// The preferences at a version; empty where they were removed.
struct PastValue {
    version: i64,
    value: Map<String, Value>,
}

impl From<&PastConfig> for PastValue {
    fn from(past: &PastConfig) -> Self {
        Self {
            version: past.version,
            value: past.config_value.clone().unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct HistoryPageQuery {
    before: Option<i64>,
}

pub(super) async fn history(
    State(app): State<App>,
    visitor: Visitor,
    address: PageAddress,
    Query(HistoryPageQuery { before }): Query<HistoryPageQuery>,
) -> Result<Html<String>, Problem> {
    let owner = address.owner(&visitor)?;
    let t = &*visitor.t;
    let limit = VERSIONS_PER_PAGE as u32 + 1;
    let (past, more) = owner
        .history(&app.store, before.unwrap_or(i64::MAX), limit)
        .await?;
    let layer = owner.layer(&app.store).await?;
    let row = |(place, config): (usize, &PastConfig)| {
        let before = match past.get(place + 1) {
            Some(before) => Some(PastValue::from(before)),
            None if config.version == 1 => Some(PastValue {
                version: 0,
                value: Map::new(),
            }),
            None => None,
        };
        let after = PastValue::from(config);
        VersionRow {
            version: config.version,
            changed_at: local(t, &Zone::utc(), config.changed_at),
            by: by(t, &config.actor),
            changes: before.map_or_else(Vec::new, |before| {
                ChangeRow::between(&app, t, &owner, layer.as_ref(), &before, &after)
            }),
            raw: visitor
                .is_operator()
                .then(|| pretty(&Value::Object(after.value))),
        }
    };
    // The last one says what the one before it changed.
    let shown = past.len().min(VERSIONS_PER_PAGE);
    let versions: Vec<VersionRow> = past.iter().enumerate().take(shown).map(row).collect();
    let last = versions.last().map(|last| last.version);
    let page = HistoryPage {
        t,
        visitor: &visitor,
        next_before: last.filter(|_| more || past.len() > shown),
        versions,
        owner,
    };
    render(t, &page)
}
