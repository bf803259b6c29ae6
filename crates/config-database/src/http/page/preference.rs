//! One preference: shown with its next runs, changed, undone, and followed to the agent.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form, Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
};
use chrono::TimeDelta;
use punctual_domain::{FeatureType, OrganizationId, TenantId, Zone};
use punctual_web::{Problem, page::at};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    form::{PreferenceForm, Source, nths, version_of, week},
    mistakes::{Reader, bounds},
    overrides::Input,
    owner::{Owner, PageAddress, own},
    past_runs::{PastRunsFragment, zone_of},
    render,
    runs::{RunsFragment, summary},
    visitor::Visitor,
};
use crate::{
    http::App,
    plan::Plan,
    store::{ChangeError, ConfigStore, KnownFeature, StoreError, Switch, now},
    texts::Texts,
    validate::of_preference,
};

/// A reader that has not asked for so long does not count: it polls at least once a minute.
const RECENT_READ: TimeDelta = TimeDelta::seconds(90);

type Address = Path<(String, String)>;

#[derive(Template)]
#[template(path = "feature.html")]
struct FeaturePage<'a> {
    t: &'a Texts,
    visitor: &'a Visitor,
    subject: &'a Subject,
    form: PreferenceForm,
    notice: Notice,
    /// Names of zones, and the cities that they are named after.
    zones: Vec<(String, Option<&'a str>)>,
    /// Days of the week, as a preference writes them and by name, in their order.
    week: Vec<(&'static str, String)>,
    /// Which one of the month a weekday may be, as a preference writes it and in words.
    nths: Vec<(&'static str, String)>,
    runs: String,
}

/// What the page says of what was just done.
#[derive(Default)]
struct Notice {
    /// The change that was made.
    saved: Option<i64>,
    /// The version of all preferences before it.
    before: Option<i64>,
    text: String,
    /// What somebody else has stored meanwhile, in a line.
    conflict: Option<String>,
    /// What has run, where the button has asked for it.
    past_runs: String,
}

/// Tenant or organization, and feature, that an address names, and what is known of both.
struct Subject {
    address: PageAddress,
    /// The tenant; of an organization's page, one of its name, for whom runs are shown as they are for members.
    tenant: TenantId,
    owner: Owner,
    /// How many members the organization has whose page it is.
    members: Option<i64>,
    feature: FeatureType,
    schema: Option<Value>,
    known: Arc<KnownFeature>,
    stored: Option<Map<String, Value>>,
    /// What the tenant's organization says of the feature.
    layer: Option<Map<String, Value>>,
    /// Whether the page shows what has run.
    shows_past_runs: bool,
    t: Arc<Texts>,
}

impl Subject {
    async fn of(app: &App, visitor: &Visitor, address: PageAddress) -> Result<Self, Problem> {
        let feature = FeatureType::new(&address.feature)?;
        let owner = address.owner(visitor)?;
        let stored = owner.preferences(&app.store).await?;
        let layer = owner.layer(&app.store).await?;
        let known = app.store.feature(&feature);
        let subject = Self {
            schema: app.store.schema(&feature).await?,
            tenant: TenantId::new(owner.id())?,
            members: None,
            stored: own(&stored, &feature).cloned(),
            layer: layer.and_then(|layer| layer.of(feature.as_str()).cloned()),
            shows_past_runs: known.feature.show_runs && app.embedding.past_runs.is_some(),
            known,
            owner,
            feature,
            address,
            t: Arc::clone(&visitor.t),
        };
        match subject.owner.clone() {
            Owner::Tenant(_) => Ok(subject),
            Owner::Organization(organization) => subject.of_organization(app, &organization).await,
        }
    }

    async fn of_organization(
        self,
        app: &App,
        organization: &OrganizationId,
    ) -> Result<Self, Problem> {
        let members = app.store.members_of(organization).await?;
        // Each member has a part of the spread of their own.
        let mut known = KnownFeature::clone(&self.known);
        for job in known.jobs.values_mut() {
            job.spread_minutes = 0;
        }
        Ok(Self {
            known: Arc::new(known),
            members: Some(members),
            shows_past_runs: false,
            ..self
        })
    }

    fn title(&self) -> &str {
        title(&self.t, &self.known, self.feature.as_str())
    }

    fn description(&self) -> Option<&str> {
        description(&self.t, &self.known)
    }

    /// Between which times of day the feature may run.
    fn bounds(&self) -> Vec<String> {
        bounds(&self.t, &self.known.feature)
    }

    /// The list of all features, below the address of the service.
    fn pages(&self) -> String {
        self.owner.pages()
    }

    /// Its page, below the address of the service.
    fn page_path(&self) -> String {
        format!("{}/features/{}", self.pages(), self.feature)
    }

    /// Of its page.
    fn address(&self) -> String {
        at(&self.page_path())
    }

    /// For how many members it is, where it is an organization's.
    fn members_in_words(&self) -> Option<String> {
        self.members
            .map(|members| members_in_words(&self.t, members))
    }

    fn source(&self) -> Source<'_> {
        Source {
            t: &self.t,
            stored: self.stored.as_ref(),
            schema: self.schema.as_ref(),
            known: &self.known,
            layer: self.layer.as_ref(),
            is_organizations: self.owner.is_organization(),
        }
    }

    /// What a preference comes to: a tenant's, or one that members have who have stored nothing.
    fn plan_of(&self, preference: &Map<String, Value>) -> Plan {
        let in_effect = self
            .source()
            .in_effect(Some(preference))
            .unwrap_or_default();
        self.owner.plan_of(&in_effect, &self.known)
    }

    /// The page with a form, which was filled as `filled` before anything was chosen.
    fn page(
        &self,
        visitor: &Visitor,
        form: PreferenceForm,
        filled: &PreferenceForm,
        notice: Notice,
    ) -> Result<Html<String>, Problem> {
        let t = &*self.t;
        let Html(runs) = render(t, &self.runs_of(visitor, &form, filled))?;
        let cities = t.calendar().cities();
        let zone = |name: String| {
            let city = cities.get(&name).map(String::as_str);
            (name, city)
        };
        let page = FeaturePage {
            t,
            visitor,
            subject: self,
            form,
            notice,
            zones: Zone::names().map(zone).collect(),
            week: week(t),
            nths: nths(t),
            runs,
        };
        render(t, &page)
    }

    fn runs_of(
        &self,
        visitor: &Visitor,
        form: &PreferenceForm,
        filled: &PreferenceForm,
    ) -> RunsFragment<'_> {
        match form.preference(&self.source(), filled) {
            Ok(preference) => {
                let plan = self.plan_of(&preference);
                let reader = Reader {
                    t: &self.t,
                    feature: &self.known.feature,
                    fields: &form.overrides,
                    for_operator: visitor.is_operator(),
                };
                RunsFragment::of(&reader, &plan, &self.tenant, now(), visitor)
            }
            Err(errors) => RunsFragment::invalid(&self.t, errors),
        }
    }

    /// What has run, or that it cannot be shown.
    async fn past_runs(&self, app: &App) -> Result<Html<String>, Problem> {
        let past_runs = app.embedding.past_runs.as_ref();
        let Some(past_runs) = past_runs.filter(|_| self.shows_past_runs) else {
            let detail = "this feature does not show past runs; set its `show_runs`";
            let problem = Problem::new(StatusCode::NOT_FOUND, detail);
            return Err(problem.worded(self.t.text("problem-not-found")));
        };
        let runs = past_runs.of(&self.tenant, &self.feature).await;
        let in_effect = self.source().in_effect(self.stored.as_ref());
        let zone = zone_of(in_effect.as_ref(), &self.known);
        render(
            &self.t,
            &PastRunsFragment::of(&self.t, &zone, runs.as_deref()),
        )
    }
}

/// For how many members an organization's preferences are.
pub(super) fn members_in_words(t: &Texts, members: i64) -> String {
    t.with("organization-members", &[("members", members.into())])
}

/// What people call a feature, in their language.
pub(super) fn title<'k>(t: &Texts, known: &'k KnownFeature, name: &'k str) -> &'k str {
    known.feature.title_in(t.locale()).unwrap_or(name)
}

/// What a feature does for people, in their language.
pub(super) fn description<'k>(t: &Texts, known: &'k KnownFeature) -> Option<&'k str> {
    known.feature.description_in(t.locale())
}

#[derive(Deserialize)]
pub(super) struct NoticeQuery {
    saved: Option<i64>,
    before: Option<i64>,
    #[serde(default)]
    unchanged: bool,
}

pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    address: PageAddress,
    Query(query): Query<NoticeQuery>,
) -> Result<Html<String>, Problem> {
    let subject = Subject::of(&app, &visitor, address).await?;
    let filled = PreferenceForm::of(&subject.source());
    let text = match query.saved {
        Some(change) => {
            let arrival = Arrival::of(&app.store, &subject.feature, change).await?;
            subject.t.text(arrival.text)
        }
        None if query.unchanged => subject.t.text("form-unchanged"),
        None => String::new(),
    };
    let notice = Notice {
        saved: query.saved,
        before: query.before.filter(|_| visitor.can_write()),
        text,
        ..Notice::default()
    };
    subject.page(&visitor, filled.clone(), &filled, notice)
}

/// The next runs of what is chosen in the form.
pub(super) async fn runs(
    State(app): State<App>,
    visitor: Visitor,
    address: PageAddress,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let subject = Subject::of(&app, &visitor, address).await?;
    let filled = PreferenceForm::of(&subject.source());
    let form = filled.sent(&subject.t, &pairs);
    render(&subject.t, &subject.runs_of(&visitor, &form, &filled))
}

/// How the newest runs have ended, loaded after the page: an agent may be slow or unavailable.
pub(super) async fn past_runs(
    State(app): State<App>,
    visitor: Visitor,
    address: PageAddress,
) -> Result<Html<String>, Problem> {
    let subject = Subject::of(&app, &visitor, address).await?;
    subject.past_runs(&app).await
}

pub(super) async fn save(
    State(app): State<App>,
    visitor: Visitor,
    address: PageAddress,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let sent = |name: &str| {
        let found = pairs.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    };
    let mut subject = Subject::of(&app, &visitor, address).await?;
    let mut filled = PreferenceForm::of(&subject.source());
    let mut form = filled.sent(&subject.t, &pairs);
    if let Some(action @ ("preview" | "past-runs" | "reset")) = sent("action") {
        let mut notice = Notice::default();
        match action {
            "past-runs" => Html(notice.past_runs) = subject.past_runs(&app).await?,
            "reset" => form.reset(),
            _ => {}
        }
        let page = subject.page(&visitor, form, &filled, notice)?;
        return Ok(page.into_response());
    }
    visitor.may_change(sent("csrf"))?;
    let mut notice = Notice::default();
    let here = subject.page_path();
    match form.preference(&subject.source(), &filled) {
        Err(errors) => form.errors = errors,
        Ok(chosen) if subject.stored.clone().unwrap_or_default() == chosen => {
            return Ok(Redirect::to(&format!("{here}?unchanged=true")).into_response());
        }
        Ok(_) => match store(&app.store, &visitor, &subject, &form).await {
            Ok((before, change)) => {
                let to = format!("{here}?saved={change}&before={before}");
                return Ok(Redirect::to(&to).into_response());
            }
            Err(ChangeError::Invalid(errors)) => {
                let errors = of_preference(errors, &subject.feature);
                let for_operator = visitor.is_operator();
                form.add_errors(&subject.t, &subject.known.feature, for_operator, &errors);
            }
            Err(ChangeError::Unexpected(_)) => {
                subject = Subject::of(&app, &visitor, subject.address).await?;
                filled = PreferenceForm::of(&subject.source());
                // Saving again keeps what is in the form.
                form.version = version_of(subject.stored.as_ref());
                let theirs = subject.stored.as_ref();
                let theirs =
                    theirs.map(|theirs| summary(&subject.t, &subject.plan_of(theirs), now()));
                let not_set = || subject.t.text("summary-not-set");
                notice.conflict = Some(theirs.unwrap_or_else(not_set));
            }
            Err(error) => return Err(error.into()),
        },
    }
    let page = subject.page(&visitor, form, &filled, notice)?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

/// Stores what the form says, unless this preference is not the one the form was filled from. Returns what [`Owner::edit`] does.
async fn store(
    store: &ConfigStore,
    visitor: &Visitor,
    subject: &Subject,
    form: &PreferenceForm,
) -> Result<(i64, i64), ChangeError> {
    let change = |stored: Option<&Map<String, Value>>| {
        if version_of(stored) != form.version {
            return Err(ChangeError::Unexpected(None));
        }
        let source = Source {
            stored,
            ..subject.source()
        };
        let filled = PreferenceForm::of(&source);
        let preference = form.preference(&source, &filled);
        // What the form cannot say was found out before.
        preference.map(Some).map_err(|_| ChangeError::Missing)
    };
    let Subject { owner, feature, .. } = subject;
    owner.edit(store, visitor, feature, change).await
}

/// Why a change without a form was refused, in words of the visitor.
fn refused(app: &App, visitor: &Visitor, feature: &FeatureType, error: ChangeError) -> Problem {
    let ChangeError::Invalid(errors) = error else {
        return error.into();
    };
    let known = app.store.feature(feature);
    let reader = Reader {
        t: &visitor.t,
        feature: &known.feature,
        fields: &[],
        for_operator: visitor.is_operator(),
    };
    let words = reader.of_all(&of_preference(errors.clone(), feature));
    Problem::from(errors).worded(words)
}

#[derive(Deserialize)]
pub(super) struct SwitchForm {
    csrf: Option<String>,
    enabled: bool,
}

/// Switches a feature on or off, and leaves the rest of its preference as it is. What cannot be switched on as it is stored, its
/// own page says.
pub(super) async fn switch(
    State(app): State<App>,
    visitor: Visitor,
    Path((tenant, feature)): Address,
    Form(sent): Form<SwitchForm>,
) -> Result<Redirect, Problem> {
    visitor.may_change(sent.csrf.as_deref())?;
    let tenant = visitor.may_see(&tenant)?;
    let feature = FeatureType::new(&feature)?;
    if sent.enabled {
        let change = |stored: Option<&Map<String, Value>>| {
            let mut preference = stored.cloned().unwrap_or_default();
            preference.insert("enabled".to_owned(), true.into());
            Ok(Some(preference))
        };
        let owner = Owner::Tenant(tenant.clone());
        match owner.edit(&app.store, &visitor, &feature, change).await {
            Err(ChangeError::Invalid(_)) => {
                let to = format!("/tenants/{tenant}/features/{feature}");
                return Ok(Redirect::to(&to));
            }
            changed => changed?,
        };
    } else {
        let switch = Switch::Off;
        let switched = app.store.switch(&tenant, &feature, switch, visitor.name());
        let switched = switched.await;
        switched.map_err(|error| refused(&app, &visitor, &feature, error))?;
    }
    let word = if sent.enabled { "on" } else { "off" };
    Ok(Redirect::to(&format!(
        "/tenants/{tenant}?switched={word}&feature={feature}"
    )))
}

#[derive(Deserialize)]
pub(super) struct RestoreForm {
    csrf: Option<String>,
    /// The version of all preferences to take this one from.
    version: i64,
}

/// Brings a preference back as it was in an earlier version, and leaves the others as they are.
pub(super) async fn restore(
    State(app): State<App>,
    visitor: Visitor,
    address: PageAddress,
    Form(sent): Form<RestoreForm>,
) -> Result<Redirect, Problem> {
    visitor.may_change(sent.csrf.as_deref())?;
    let owner = address.owner(&visitor)?;
    let feature = FeatureType::new(&address.feature)?;
    let past = owner.past(&app.store, sent.version).await?;
    let past = past.ok_or_else(|| {
        let problem = Problem::bad_request("the history has no such version; choose another one");
        problem.worded(visitor.t.text("problem-no-version"))
    })?;
    let past = past.as_ref().and_then(|past| own(past, &feature));
    let restored = |_: Option<&Map<String, Value>>| Ok(past.cloned());
    let restored = owner.edit(&app.store, &visitor, &feature, restored).await;
    let (before, change) = restored.map_err(|error| refused(&app, &visitor, &feature, error))?;
    let pages = owner.pages();
    Ok(Redirect::to(&format!(
        "{pages}/features/{feature}?saved={change}&before={before}"
    )))
}

#[derive(Deserialize)]
pub(super) struct ArrivalQuery {
    change: i64,
}

/// Whether the agents know of a change.
struct Arrival {
    arrived: bool,
    /// Id of the text that says so.
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
            0 => "form-saved-later",
            _ if arrived => "form-saved",
            _ => "form-saved-soon",
        };
        Ok(Self { arrived, text })
    }
}

pub(super) async fn arrival(
    State(app): State<App>,
    visitor: Visitor,
    address: PageAddress,
    Query(ArrivalQuery { change }): Query<ArrivalQuery>,
) -> Result<Json<Value>, Problem> {
    address.owner(&visitor)?;
    let feature = FeatureType::new(&address.feature)?;
    let Arrival { arrived, text } = Arrival::of(&app.store, &feature, change).await?;
    let text = visitor.t.text(text);
    Ok(Json(json!({ "arrived": arrived, "text": text })))
}
