//! Erasing a tenant, and the tenants that were erased, for administrators.

use std::fmt::Display;

use askama::Template;
use axum::{
    Form, Json,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use punctual_domain::TenantId;
use punctual_web::Problem;
use serde::Deserialize;

use super::{render_for_operators, visitor::Visitor};
use crate::{
    http::App,
    store::{Erasure, Reason},
};

const ERASURES_PER_PAGE: u32 = 100;

#[derive(Template)]
#[template(path = "erasures.html")]
struct ErasuresPage {
    visitor: Visitor,
    /// What the form is filled with.
    sent: EraseForm,
    mistake: Option<Mistake>,
    /// Hash of the tenant that was erased just now.
    erased: Option<String>,
    /// Whether nothing was stored of it.
    found_nothing: bool,
    erasures: Vec<Erasure>,
    /// Where the next page begins.
    before: Option<String>,
}

/// Why what was put in erases nothing.
struct Mistake {
    /// The field that is wrong.
    field: &'static str,
    problem: String,
}

impl Mistake {
    fn at(field: &'static str, problem: impl Display) -> Self {
        let problem = problem.to_string();
        Self { field, problem }
    }
}

impl ErasuresPage {
    async fn of(
        app: &App,
        visitor: Visitor,
        before: Option<DateTime<Utc>>,
    ) -> Result<Self, Problem> {
        let (erasures, more) = app.store.erasures(before, ERASURES_PER_PAGE).await?;
        let last = erasures.last().filter(|_| more);
        let before = last.map(|last| last.erased_at.to_rfc3339_opts(SecondsFormat::Micros, true));
        Ok(Self {
            visitor,
            sent: EraseForm::default(),
            mistake: None,
            erased: None,
            found_nothing: false,
            erasures,
            before,
        })
    }

    /// What is wrong with a field of the form.
    fn wrong(&self, field: &str) -> Option<&str> {
        let mistake = self.mistake.as_ref();
        let mistake = mistake.filter(|mistake| mistake.field == field);
        mistake.map(|mistake| mistake.problem.as_str())
    }
}

#[derive(Deserialize, Default)]
pub(super) struct ErasuresQuery {
    tenant: Option<String>,
    erased: Option<String>,
    #[serde(default)]
    found_nothing: bool,
    before: Option<DateTime<Utc>>,
}

pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    Query(query): Query<ErasuresQuery>,
) -> Result<Html<String>, Problem> {
    visitor.must_be_admin()?;
    let tenant = query.tenant.filter(|tenant| !tenant.is_empty());
    let tenant = tenant.map(TenantId::new).transpose()?;
    let is_hash = |text: &String| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let page = ErasuresPage {
        sent: EraseForm {
            tenant: tenant.map_or_else(String::new, |tenant| tenant.to_string()),
            ..EraseForm::default()
        },
        erased: query.erased.filter(is_hash),
        found_nothing: query.found_nothing,
        ..ErasuresPage::of(&app, visitor, query.before).await?
    };
    render_for_operators(&page)
}

#[derive(Deserialize, Default)]
pub(super) struct EraseForm {
    csrf: Option<String>,
    /// The tenant whose page led here; empty: none.
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    typed: String,
    #[serde(default)]
    again: String,
    #[serde(default)]
    reason: String,
}

impl EraseForm {
    /// The tenant whose id was typed, where it is that of the page or was typed twice, and why it is erased.
    fn read(&self) -> Result<(TenantId, Reason), Mistake> {
        let typed = self.typed.trim();
        if !self.tenant.is_empty() && typed != self.tenant {
            let problem = format!("this is not {}", self.tenant);
            return Err(Mistake::at("typed", problem));
        }
        let tenant = TenantId::new(typed).map_err(|invalid| Mistake::at("typed", invalid))?;
        if self.tenant.is_empty() && typed != self.again.trim() {
            return Err(Mistake::at("again", "the two ids are not the same"));
        }
        let reason = self.reason.parse::<Reason>();
        let reason = reason.map_err(|invalid| Mistake::at("reason", invalid))?;
        Ok((tenant, reason))
    }
}

/// Erases the tenant that the form names, or shows the form again with what is wrong.
pub(super) async fn erase(
    State(app): State<App>,
    visitor: Visitor,
    Form(sent): Form<EraseForm>,
) -> Result<Response, Problem> {
    visitor.may_change(sent.csrf.as_deref())?;
    visitor.must_be_admin()?;
    let (tenant, reason) = match sent.read() {
        Ok(read) => read,
        Err(mistake) => {
            let page = ErasuresPage {
                sent,
                mistake: Some(mistake),
                ..ErasuresPage::of(&app, visitor, None).await?
            };
            let page = render_for_operators(&page)?;
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
        }
    };
    let erased = app.store.erase(&tenant, visitor.name(), &reason).await?;
    let mut to = format!("/operators/erasures?erased={}", erased.tenant_hash);
    if erased.found_nothing() {
        to.push_str("&found_nothing=true");
    }
    Ok(Redirect::to(&to).into_response())
}

#[derive(Deserialize)]
pub(super) struct ExportQuery {
    tenant: String,
}

/// A copy of everything that is held of a tenant.
pub(super) async fn export(
    State(app): State<App>,
    visitor: Visitor,
    Query(ExportQuery { tenant }): Query<ExportQuery>,
) -> Result<Response, Problem> {
    visitor.must_be_admin()?;
    let tenant = TenantId::new(&tenant)?;
    let export = app.store.export_tenant(&tenant).await?;
    let attachment = "attachment; filename=\"tenant.json\"";
    Ok(([(header::CONTENT_DISPOSITION, attachment)], Json(export)).into_response())
}
