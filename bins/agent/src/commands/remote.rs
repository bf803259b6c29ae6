//! Commands that ask the agent that is running, at `BATCH_HTTP_ADDR`.

use std::time::Duration;

use punctual_domain::JobId;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::{ExplainOptions, TriggerOptions},
    settings::Settings,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Calls the agent's API. What the agent refuses is bad input.
async fn call(
    settings: &Settings,
    method: Method,
    path: &str,
    query: &[(&str, String)],
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let address = settings.batch_http_addr;
    let url = format!("http://{address}/api/v1/{path}");
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(Failure::failed)?;
    let mut request = client.request(method, url).query(query);
    if let Some(key) = &settings.batch_api_key {
        request = request.bearer_auth(key.expose_secret());
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.map_err(|error| {
        Failure::failed(format!(
            "no agent answers at {address} ({}); start one with `punctual-agent run`, or set BATCH_HTTP_ADDR to \
             where it listens",
            error.without_url()
        ))
    })?;
    let status = response.status();
    let answer: Value = response.json().await.unwrap_or_default();
    if status.is_success() {
        return Ok(answer);
    }
    let detail = answer["detail"].as_str().unwrap_or("no reason is given");
    Err(match status {
        StatusCode::UNAUTHORIZED => Failure::BadInput(format!(
            "the agent at {address} refuses the key; set BATCH_API_KEY"
        )),
        status if status.is_client_error() => Failure::BadInput(detail.to_owned()),
        status => Failure::failed(format!(
            "the agent at {address} answered {status}: {detail}"
        )),
    })
}

pub(crate) async fn explain(settings: &Settings, options: ExplainOptions) -> Result<(), Failure> {
    let ExplainOptions {
        tenant,
        job,
        date,
        json,
    } = options;
    let mut query = vec![("job_id", job.to_string())];
    query.extend(date.map(|date| ("date", date.to_string())));
    let path = format!("tenants/{tenant}/explain");
    let answer = call(settings, Method::GET, &path, &query, None).await?;
    if json {
        println!("{answer}");
        return Ok(());
    }
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    println!("{tenant} in {job}: {}", text("explanation"));
    for (field, name) in [
        ("slot", "slot"),
        ("occurrence", "occurrence"),
        ("batch_id", "batch"),
    ] {
        if answer[field].is_string() {
            println!("  {name:<11}{}", text(field));
        }
    }
    Ok(())
}

pub(crate) async fn trigger(settings: &Settings, options: TriggerOptions) -> Result<(), Failure> {
    let path = format!("jobs/{}/trigger", options.job);
    let body = json!({ "tenants": options.tenant });
    let answer = call(settings, Method::POST, &path, &[], Some(&body)).await?;
    if options.json {
        println!("{answer}");
    } else {
        println!(
            "{} is queued for {} items: GET /api/v1/batches/{}",
            options.job,
            answer["total"],
            answer["batch_id"].as_str().unwrap_or_default()
        );
    }
    Ok(())
}

/// `pause` and `resume`.
pub(crate) async fn set_paused(
    settings: &Settings,
    job: &JobId,
    paused: bool,
) -> Result<(), Failure> {
    let (verb, word) = if paused {
        ("pause", "paused")
    } else {
        ("resume", "resumed")
    };
    call(
        settings,
        Method::POST,
        &format!("jobs/{job}/{verb}"),
        &[],
        None,
    )
    .await?;
    println!("{job} is {word}");
    Ok(())
}
