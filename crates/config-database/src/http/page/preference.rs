//! One preference: shown with its next runs, changed, and followed to the agent.

use askama::Template;
use axum::{
    Form, Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
};
use chrono::TimeDelta;
use punctual_domain::{FeatureType, TenantId, Zone};
use punctual_web::Problem;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    form::{FREQUENCIES, Input, PreferenceForm, WEEKDAYS, version_of},
    render,
    runs::RunsFragment,
    visitor::Visitor,
};
use crate::{
    http::App,
    store::{ChangeError, ConfigId, ConfigStore, Expected, StoreError, now},
    validate::FEATURE_PREFERENCES,
};

/// A reader that has not asked for so long does not count: it polls at least once a minute.
const RECENT_READ: TimeDelta = TimeDelta::seconds(90);

type Address = Path<(String, String)>;

#[derive(Template)]
#[template(path = "feature.html")]
struct FeaturePage<'a> {
    visitor: &'a Visitor,
    tenant: &'a TenantId,
    feature: &'a FeatureType,
    form: PreferenceForm,
    /// The change that was just made, and where it is.
    saved: Option<i64>,
    arrival: &'static str,
    zones: Vec<String>,
    runs: String,
}

/// Tenant and feature that an address names.
struct Subject {
    tenant: TenantId,
    feature: FeatureType,
    schema: Option<Value>,
    stored: Option<Map<String, Value>>,
}

impl Subject {
    async fn of(app: &App, visitor: &Visitor, address: Address) -> Result<Self, Problem> {
        let Path((tenant, feature)) = address;
        let tenant = visitor.may_see(&tenant)?;
        let feature = FeatureType::new(&feature)?;
        let config = app.store.config(&id_of(&tenant)).await?;
        let stored = config.and_then(|config| own(&config.config_value, &feature).cloned());
        Ok(Self {
            schema: app.store.schema(&feature).await?,
            tenant,
            feature,
            stored,
        })
    }

    fn form(&self, pairs: &[(String, String)]) -> PreferenceForm {
        PreferenceForm::sent(pairs, self.stored.as_ref(), self.schema.as_ref())
    }

    fn page(
        &self,
        visitor: &Visitor,
        form: PreferenceForm,
        saved: Option<i64>,
        arrival: &'static str,
    ) -> Result<Html<String>, Problem> {
        let Html(runs) = render(&self.runs_of(&form))?;
        render(&FeaturePage {
            visitor,
            tenant: &self.tenant,
            feature: &self.feature,
            form,
            saved,
            arrival,
            zones: Zone::names().collect(),
            runs,
        })
    }

    fn runs_of(&self, form: &PreferenceForm) -> RunsFragment {
        match form.preference(self.stored.as_ref()) {
            Ok(preference) => RunsFragment::of(&preference, now()),
            Err(errors) => RunsFragment::invalid(errors.join(" ")),
        }
    }
}

pub(super) fn id_of(tenant: &TenantId) -> ConfigId {
    ConfigId {
        tenant_id: tenant.clone(),
        config_key: FEATURE_PREFERENCES.to_owned(),
    }
}

fn own<'a>(value: &'a Map<String, Value>, feature: &FeatureType) -> Option<&'a Map<String, Value>> {
    value.get(feature.as_str()).and_then(Value::as_object)
}

#[derive(Deserialize)]
pub(super) struct SavedQuery {
    saved: Option<i64>,
}

pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    address: Address,
    Query(SavedQuery { saved }): Query<SavedQuery>,
) -> Result<Html<String>, Problem> {
    let subject = Subject::of(&app, &visitor, address).await?;
    let form = PreferenceForm::of(subject.stored.as_ref(), subject.schema.as_ref());
    let arrival = match saved {
        Some(change) => {
            Arrival::of(&app.store, &subject.feature, change)
                .await?
                .text
        }
        None => "",
    };
    subject.page(&visitor, form, saved, arrival)
}

/// The next runs of what is chosen in the form.
pub(super) async fn runs(
    State(app): State<App>,
    visitor: Visitor,
    address: Address,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let subject = Subject::of(&app, &visitor, address).await?;
    let form = subject.form(&pairs);
    render(&subject.runs_of(&form))
}

pub(super) async fn save(
    State(app): State<App>,
    visitor: Visitor,
    address: Address,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let sent = |name: &str| {
        let found = pairs.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    };
    let subject = Subject::of(&app, &visitor, address).await?;
    let mut form = subject.form(&pairs);
    if sent("action") == Some("preview") {
        return Ok(subject.page(&visitor, form, None, "")?.into_response());
    }
    visitor.may_change(sent("csrf"))?;
    let refused = match form.preference(subject.stored.as_ref()) {
        Err(errors) => {
            form.errors = errors;
            form
        }
        Ok(_) => match store(&app.store, &visitor, &subject, &form).await {
            Ok(change) => {
                let (tenant, feature) = (&subject.tenant, &subject.feature);
                let to = format!("/tenants/{tenant}/features/{feature}?saved={change}");
                return Ok(Redirect::to(&to).into_response());
            }
            Err(ChangeError::Invalid(errors)) => {
                form.add_error(subject.feature.as_str(), &errors);
                form
            }
            Err(ChangeError::Unexpected(_)) => {
                form.errors = vec![
                    "Someone else has changed this preference. Reload the page to see the change, then save."
                        .to_owned(),
                ];
                form
            }
            Err(error) => return Err(error.into()),
        },
    };
    let page = subject.page(&visitor, refused, None, "")?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

/// Stores what the form says, unless this preference is not the one the form was filled from. Returns the change.
async fn store(
    store: &ConfigStore,
    visitor: &Visitor,
    subject: &Subject,
    form: &PreferenceForm,
) -> Result<i64, ChangeError> {
    let Subject {
        tenant, feature, ..
    } = subject;
    let id = id_of(tenant);
    let anything = Expected::default();
    let changed = store.edit(&id, &anything, visitor.name(), |current| {
        let mut value = current.map_or_else(Map::new, |config| config.config_value.clone());
        let stored = own(&value, feature);
        if version_of(stored) != form.version {
            return Err(ChangeError::Unexpected(
                current.map(|config| config.version),
            ));
        }
        // What the form cannot say was found out before.
        let preference = form.preference(stored).map_err(|_| ChangeError::Missing)?;
        value.insert(feature.to_string(), Value::Object(preference));
        Ok(Value::Object(value))
    });
    let (_, change) = changed.await?;
    Ok(change)
}

#[derive(Deserialize)]
pub(super) struct ArrivalQuery {
    change: i64,
}

/// Whether the agents know of a change.
struct Arrival {
    arrived: bool,
    text: &'static str,
}

impl Arrival {
    async fn of(
        store: &ConfigStore,
        feature: &FeatureType,
        change: i64,
    ) -> Result<Self, StoreError> {
        let reading = store.readers(feature, now() - RECENT_READ).await?;
        let all = reading.len();
        let known = reading
            .values()
            .filter(|reader| reader.since_id >= change)
            .count();
        let arrived = all > 0 && known == all;
        let text = match all {
            0 => "Saved. The change takes effect once the service is running.",
            _ if arrived => "Saved.",
            _ => "Saved. The change takes effect in a moment …",
        };
        Ok(Self { arrived, text })
    }
}

pub(super) async fn arrival(
    State(app): State<App>,
    visitor: Visitor,
    address: Address,
    Query(ArrivalQuery { change }): Query<ArrivalQuery>,
) -> Result<Json<Value>, Problem> {
    let Path((tenant, feature)) = address;
    visitor.may_see(&tenant)?;
    let Arrival { arrived, text } =
        Arrival::of(&app.store, &FeatureType::new(&feature)?, change).await?;
    Ok(Json(json!({ "arrived": arrived, "text": text })))
}
