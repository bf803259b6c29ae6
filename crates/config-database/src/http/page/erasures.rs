//! Erasing a tenant, and the tenants that were erased, for administrators.

use askama::Template;
use axum::{
    Form, Json,
    extract::{Query, State},
    http::header,
    response::{Html, IntoResponse, Redirect, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use punctual_domain::TenantId;
use punctual_web::Problem;
use serde::Deserialize;

use super::{render_for_operators, visitor::Visitor};
use crate::{
    http::{App, tenants::reason_of},
    store::Erasure,
};

const ERASURES_PER_PAGE: u32 = 100;

#[derive(Template)]
#[template(path = "erasures.html")]
struct ErasuresPage {
    visitor: Visitor,
    /// The tenant that is to be erased; empty: the form asks for it.
    tenant: String,
    /// Hash of the tenant that was erased just now.
    erased: Option<String>,
    erasures: Vec<Erasure>,
    /// Where the next page begins.
    before: Option<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct ErasuresQuery {
    tenant: Option<String>,
    erased: Option<String>,
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
    let (erasures, more) = app.store.erasures(query.before, ERASURES_PER_PAGE).await?;
    let last = erasures.last().filter(|_| more);
    let before = last.map(|last| last.erased_at.to_rfc3339_opts(SecondsFormat::Micros, true));
    let is_hash = |text: &String| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    render_for_operators(&ErasuresPage {
        visitor,
        tenant: tenant.map_or_else(String::new, |tenant| tenant.to_string()),
        erased: query.erased.filter(is_hash),
        erasures,
        before,
    })
}

#[derive(Deserialize)]
pub(super) struct EraseForm {
    csrf: Option<String>,
    /// The tenant whose page led here; empty: none.
    #[serde(default)]
    tenant: String,
    typed: String,
    again: Option<String>,
    #[serde(default)]
    reason: String,
}

/// Erases the tenant whose id was typed, where it is that of the page or was typed twice.
pub(super) async fn erase(
    State(app): State<App>,
    visitor: Visitor,
    Form(sent): Form<EraseForm>,
) -> Result<Redirect, Problem> {
    visitor.may_change(sent.csrf.as_deref())?;
    visitor.must_be_admin()?;
    let tenant = TenantId::new(sent.typed.trim())?;
    let expected = if sent.tenant.is_empty() {
        sent.again.unwrap_or_default()
    } else {
        sent.tenant
    };
    if tenant.as_str() != expected.trim() {
        let detail = "the two ids are not the same, and nothing was erased; go back and type the id of the tenant";
        return Err(Problem::bad_request(detail));
    }
    let reason = reason_of(&sent.reason)?;
    let erased = app.store.erase(&tenant, visitor.name(), &reason).await?;
    let hash = erased.tenant_hash;
    Ok(Redirect::to(&format!("/operators/erasures?erased={hash}")))
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
