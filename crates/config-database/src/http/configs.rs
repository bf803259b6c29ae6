//! One tenant's configuration.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use punctual_domain::{FieldErrors, Invalid, TenantId};
use serde_json::Value;

use super::{App, problem::Problem};
use crate::{
    store::{StoredConfig, Write},
    validate::check,
};

type Address = Path<(String, String)>;

pub(super) async fn read(
    State(app): State<App>,
    address: Address,
) -> Result<Json<StoredConfig>, Problem> {
    let (tenant_id, config_key) = parse(address)?;
    let config = app.store.config(&tenant_id, &config_key).await?;
    config
        .map(Json)
        .ok_or_else(|| missing(&tenant_id, &config_key))
}

pub(super) async fn store(
    State(app): State<App>,
    address: Address,
    body: Bytes,
) -> Result<Json<StoredConfig>, Problem> {
    let (tenant_id, config_key) = parse(address)?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not JSON: {error}"),
        )
    })?;
    let value = body.get("config_value").ok_or_else(|| {
        let invalid = Invalid::new(
            "is missing",
            "send {\"config_value\": {feature: preference}}",
        );
        FieldErrors(vec![invalid.at("/config_value", None)])
    })?;
    let config = check(&config_key, value)?;
    let write = Write {
        tenant_id: tenant_id.clone(),
        config_key: config_key.clone(),
        config,
        updated_at: None,
    };
    let stored = app.store.put(&[write]).await?;
    stored
        .map(Json)
        .ok_or_else(|| missing(&tenant_id, &config_key))
}

pub(super) async fn remove(
    State(app): State<App>,
    address: Address,
) -> Result<StatusCode, Problem> {
    let (tenant_id, config_key) = parse(address)?;
    if app.store.delete(&tenant_id, &config_key).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(missing(&tenant_id, &config_key))
}

fn parse(Path((tenant_id, config_key)): Address) -> Result<(TenantId, String), Problem> {
    // A configuration key obeys the rule of all names.
    let config_key = punctual_domain::FeatureType::new(&config_key).map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "the config_key is not valid; use feature_preferences",
        )
    })?;
    Ok((TenantId::new(&tenant_id)?, config_key.to_string()))
}

fn missing(tenant_id: &TenantId, config_key: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("{tenant_id} has no configuration `{config_key}`"),
    )
}
