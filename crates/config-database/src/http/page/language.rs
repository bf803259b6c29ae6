//! The language of a page: that of the link, else the one that was chosen at the foot of a page, which a cookie remembers, else that
//! of the tenant's profile, else what the browser asks for, else English. The profile counts only for visitors who have been let in
//! as this tenant: operators read their own language, and strangers do not get to know the tenant's.

use std::sync::{Arc, OnceLock};

use axum::{
    Extension,
    extract::{Query, Request},
    http::{Extensions, HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use punctual_domain::{LanguageTag, TenantId};
use punctual_web::{
    page::WithDetail,
    session::{PlainCookie, redirect_within},
};
use serde::Deserialize;

use crate::{
    http::{App, auth::Reach},
    store::StoreError,
    texts::{Texts, own_language},
};

const COOKIE: PlainCookie = PlainCookie {
    name: "punctual_language",
    max_age: TimeDelta::days(365),
};

/// Texts for a visitor with these headers, of whom nothing else is known.
pub(super) fn texts_for(headers: &HeaderMap) -> Arc<Texts> {
    texts(None, None, headers)
}

/// Texts for a visitor with these headers who was let in as this tenant, by a link that names a language (`linked`) or without one.
pub(super) async fn texts_of_tenant(
    app: &App,
    tenant: &TenantId,
    linked: Option<&LanguageTag>,
    headers: &HeaderMap,
) -> Result<Arc<Texts>, StoreError> {
    // Saves reading the profile.
    let is_own = |tag: &LanguageTag| tag.as_str().split('-').next().and_then(own_language);
    let own = match linked.and_then(is_own).or(chosen(headers)) {
        Some(_) => None,
        None => app.store.locale(tenant).await?,
    };
    Ok(texts(linked, own.as_ref(), headers))
}

/// Texts for a visitor with these headers whom a link, which may name a language, has let in to this.
pub(super) async fn texts_within(
    app: &App,
    reach: &Reach,
    linked: Option<&LanguageTag>,
    headers: &HeaderMap,
) -> Result<Arc<Texts>, StoreError> {
    match reach {
        Reach::Tenant(tenant) => texts_of_tenant(app, tenant, linked, headers).await,
        Reach::Organization(_) | Reach::All => Ok(texts(linked, None, headers)),
    }
}

/// Texts in the language of the link, else of the visitor's choice, else of the tenant's profile, else of the browser.
fn texts(
    linked: Option<&LanguageTag>,
    own: Option<&LanguageTag>,
    headers: &HeaderMap,
) -> Arc<Texts> {
    let accepted = headers.get(header::ACCEPT_LANGUAGE);
    let accepted = accepted.and_then(|accepted| accepted.to_str().ok());
    let wanted = chosen(headers).or(own.map(LanguageTag::as_str));
    Texts::of(linked, wanted, accepted)
}

/// The language that the visitor has chosen on a page.
fn chosen(headers: &HeaderMap) -> Option<&'static str> {
    COOKIE.value(headers).and_then(own_language)
}

/// An extension of requests in which a page notes, for the words of an error, the texts of its visitor, and whether that is an
/// operator.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenBy(Arc<OnceLock<(Arc<Texts>, bool)>>);

impl SeenBy {
    /// Notes the visitor of the request that has these extensions.
    pub(super) fn note(extensions: &Extensions, texts: &Arc<Texts>, is_operator: bool) {
        if let Some(Self(noted)) = extensions.get::<Self>() {
            noted.get_or_init(|| (Arc::clone(texts), is_operator));
        }
    }
}

/// Middleware of pages that need no session: finds the language by the headers, and has errors worded in it.
pub(super) async fn by_headers(mut request: Request, next: Next) -> Response {
    let texts = texts_for(request.headers());
    request.extensions_mut().insert(Arc::clone(&texts));
    in_words_of(&texts, next.run(request).await)
}

/// Middleware inside of what has found the language: has errors worded in it or in that of the page, for operators with the detail
/// beside.
pub(super) async fn worded(
    Extension(texts): Extension<Arc<Texts>>,
    mut request: Request,
    next: Next,
) -> Response {
    let seen_by = SeenBy::default();
    request.extensions_mut().insert(seen_by.clone());
    let response = next.run(request).await;
    let noted = seen_by.0.get();
    let texts = noted.map_or(&texts, |(texts, _)| texts);
    let mut response = in_words_of(texts, response);
    if noted.is_some_and(|(_, is_operator)| *is_operator) {
        response.extensions_mut().insert(WithDetail);
    }
    response
}

/// The answer, whose page has the words of this language should it be an error; those that it has already stay.
pub(super) fn in_words_of(texts: &Texts, mut response: Response) -> Response {
    response
        .extensions_mut()
        .get_or_insert_with(|| texts.words());
    response
}

#[derive(Deserialize)]
pub(super) struct Choice {
    to: String,
    next: Option<String>,
}

/// Remembers a language, and leads back to the page.
pub(super) async fn choose(
    Query(Choice { to, next }): Query<Choice>,
    headers: HeaderMap,
) -> Response {
    let back = redirect_within(next);
    match own_language(&to) {
        Some(tag) => {
            let cookie = [(header::SET_COOKIE, COOKIE.set(&headers, tag))];
            (cookie, back).into_response()
        }
        None => back.into_response(),
    }
}
