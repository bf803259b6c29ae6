//! What an organization has set for its members: all features. The pages of single ones are those of [`preference`](super::preference).

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Html,
};
use punctual_domain::{FeatureType, OrganizationId};
use punctual_web::Problem;
use serde_json::Value;

use super::{
    owner::Owner,
    preference::{description, members_in_words, title},
    render,
    runs::summary,
    visitor::Visitor,
};
use crate::{http::App, store::now, texts::Texts};

#[derive(Template)]
#[template(path = "organization.html")]
struct OrganizationPage<'v> {
    t: &'v Texts,
    visitor: &'v Visitor,
    organization: OrganizationId,
    members: String,
    features: Vec<FeatureRow>,
}

/// What an organization says of a feature.
struct FeatureRow {
    name: String,
    title: String,
    description: Option<String>,
    says: String,
}

pub(super) async fn overview(
    State(app): State<App>,
    visitor: Visitor,
    Path(organization): Path<String>,
) -> Result<Html<String>, Problem> {
    let organization = visitor.may_see_organization(&organization)?;
    let t = &*visitor.t;
    let owner = Owner::Organization(organization.clone());
    let value = owner.preferences(&app.store).await?;
    let members = app.store.members_of(&organization).await?;
    let known = visitor.known_features(&app.store).await?;
    let names: BTreeSet<String> = known
        .into_iter()
        .chain(value.keys().cloned())
        .filter(|name| visitor.may_see_feature(name))
        .collect();
    let mut features = Vec::new();
    for name in names {
        let known = app.store.feature(&FeatureType::new(&name)?);
        let preference = value.get(&name).and_then(Value::as_object);
        let says = preference.map_or_else(
            || t.text("list-not-set-up"),
            |preference| summary(t, &owner.plan_of(preference, &known), now()),
        );
        features.push(FeatureRow {
            title: title(t, &known, &name).to_owned(),
            description: description(t, &known).map(str::to_owned),
            name,
            says,
        });
    }
    let page = OrganizationPage {
        t,
        visitor: &visitor,
        members: members_in_words(t, members),
        organization,
        features,
    };
    render(t, &page)
}
