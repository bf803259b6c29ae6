//! The product's server: it knows who is signed in, asks the Config Database for a link of that user, and puts the link or
//! its token into the page.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

/// The feature of this product that users may set.
const FEATURE: &str = "newsletter";

/// The product.
pub struct Product {
    /// Where this server finds the Config Database.
    config_database: String,
    /// Where browsers find it.
    public_url: String,
    /// An API key with the scope `write`. It stays on the server.
    key: SecretString,
    http: Client,
}

/// What the Config Database answers.
#[derive(Deserialize)]
struct Link {
    url: String,
    token: String,
}

impl Product {
    /// A product that uses this Config Database, which browsers find at `public_url`.
    #[expect(clippy::disallowed_methods, reason = "a product makes its own client")]
    pub fn new(config_database: &str, public_url: &str, key: impl Into<SecretString>) -> Self {
        Self {
            config_database: config_database.to_owned(),
            public_url: public_url.to_owned(),
            key: key.into(),
            http: Client::new(),
        }
    }

    /// Its pages.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(page))
            .with_state(Arc::new(self))
    }

    async fn link(&self, tenant: &str, wanted: Value) -> reqwest::Result<Link> {
        let url = format!("{}/api/v1/tenants/{tenant}/links", self.config_database);
        let call = self.http.post(url).bearer_auth(self.key.expose_secret());
        let answer = call.json(&wanted).send().await?;
        answer.error_for_status()?.json().await
    }
}

/// The page of the user who is signed in. This example takes everyone for ann.
async fn page(State(product): State<Arc<Product>>) -> Response {
    let tenant = "ann";
    let all = product.link(tenant, json!({})).await;
    let one = product.link(tenant, json!({"features": [FEATURE]})).await;
    let (Ok(all), Ok(one)) = (all, one) else {
        let text = "the Config Database does not answer, or refuses the key";
        return (StatusCode::BAD_GATEWAY, text).into_response();
    };
    let page = include_str!("page.html")
        .replace("{config_database}", &product.public_url)
        .replace("{tenant}", tenant)
        .replace("{feature}", FEATURE)
        .replace("{url}", &all.url)
        .replace("{token}", &one.token);
    // The page has tokens of one user in it.
    ([("cache-control", "no-store")], Html(page)).into_response()
}
