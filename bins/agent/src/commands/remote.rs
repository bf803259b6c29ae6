//! Commands that ask the agent that is running, at `BATCH_HTTP_ADDR`.

use std::time::Duration;

use punctual_domain::{JobId, TenantId, visible};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::{
        BackfillOptions, DeadLetters, ExplainOptions, ResultsOptions, TriggerOptions, WhichLetters,
    },
    settings::Settings,
    terminal::{say, say_json},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// A backfill of two million items takes minutes.
const PATIENCE_TO_BACKFILL: Duration = Duration::from_secs(600);

/// A value as one line of text: of an answer that may quote text from elsewhere.
fn plain(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    visible(&text).into_owned()
}

/// Calls the agent's API. What the agent refuses is bad input.
async fn call(
    settings: &Settings,
    method: Method,
    path: &str,
    query: &[(&str, String)],
    body: Option<&Value>,
) -> Result<Value, Failure> {
    request(PATIENCE, settings, method, path, query, body, None).await
}

/// Posts something that is to be done once for a key; without one, a key is drawn.
async fn once(
    patience: Duration,
    settings: &Settings,
    path: &str,
    body: &Value,
    key: Option<String>,
) -> Result<Value, Failure> {
    let key = key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    request(
        patience,
        settings,
        Method::POST,
        path,
        &[],
        Some(body),
        Some(&key),
    )
    .await
}

async fn request(
    patience: Duration,
    settings: &Settings,
    method: Method,
    path: &str,
    query: &[(&str, String)],
    body: Option<&Value>,
    key: Option<&str>,
) -> Result<Value, Failure> {
    let address = settings.batch_http_addr;
    let url = format!("http://{address}/api/v1/{path}");
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(patience)
        .connect_timeout(PATIENCE)
        .build()
        .map_err(Failure::failed)?;
    let mut request = client.request(method, url).query(query);
    if let Some(key) = &settings.batch_api_key {
        request = request.bearer_auth(key.expose_secret());
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let response = request.send().await.map_err(|error| match key {
        Some(key) if !error.is_connect() => Failure::failed(format!(
            "the agent at {address} has not answered ({}); ask again with --idempotency-key {key}, and nothing runs twice",
            error.without_url()
        )),
        _ => Failure::failed(format!(
            "no agent answers at {address} ({}); start one with `punctual-agent run`, or set BATCH_HTTP_ADDR to \
             where it listens",
            error.without_url()
        )),
    })?;
    let status = response.status();
    let answer: Value = response.json().await.unwrap_or_default();
    if status.is_success() {
        return Ok(answer);
    }
    let detail = visible(answer["detail"].as_str().unwrap_or("no reason is given"));
    Err(match status {
        StatusCode::UNAUTHORIZED => Failure::BadInput(format!(
            "the agent at {address} refuses the key; set BATCH_API_KEY"
        )),
        status if status.is_client_error() => Failure::BadInput(detail.into_owned()),
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
        say_json(&answer);
        return Ok(());
    }
    let text = |field: &str| plain(&answer[field]);
    say(format!("{tenant} in {job}: {}", text("explanation")));
    for (field, name) in [
        ("slot", "slot"),
        ("occurrence", "occurrence"),
        ("batch_id", "batch"),
    ] {
        if answer[field].is_string() {
            say(format!("  {name:<11}{}", text(field)));
        }
    }
    Ok(())
}

pub(crate) async fn trigger(settings: &Settings, options: TriggerOptions) -> Result<(), Failure> {
    let path = format!("jobs/{}/trigger", options.job);
    let mut body = whom(&options.tenant);
    body["allow_unknown"] = json!(options.allow_unknown);
    let answer = once(PATIENCE, settings, &path, &body, options.idempotency_key).await?;
    if options.json {
        say_json(&answer);
    } else {
        say(format!(
            "{} is queued for {} items: GET /api/v1/batches/{}",
            options.job,
            plain(&answer["total"]),
            plain(&answer["batch_id"])
        ));
    }
    Ok(())
}

/// These tenants, or all when none is named.
fn whom(tenants: &[TenantId]) -> Value {
    match tenants.is_empty() {
        true => json!({ "all": true }),
        false => json!({ "tenants": tenants }),
    }
}

pub(crate) async fn backfill(settings: &Settings, options: BackfillOptions) -> Result<(), Failure> {
    let path = format!("jobs/{}/backfill", options.job);
    let mut body = whom(&options.tenant);
    body["from"] = json!(options.from);
    body["to"] = json!(options.to);
    body["preview"] = json!(options.preview);
    body["allow_unknown"] = json!(options.allow_unknown);
    let key = options.idempotency_key;
    let answer = once(PATIENCE_TO_BACKFILL, settings, &path, &body, key).await?;
    if options.json {
        say_json(&answer);
        return Ok(());
    }
    let (due, to_run) = (plain(&answer["due"]), plain(&answer["to_run"]));
    let job = &options.job;
    let verb = if options.preview {
        "would run"
    } else {
        "are queued"
    };
    say(format!(
        "{job}: {due} items fell due, {to_run} have not run and {verb}"
    ));
    for (date, items) in answer["dates"].as_object().into_iter().flatten() {
        say(format!("  {}  {}", visible(date), plain(items)));
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
    say(format!("{job} is {word}"));
    Ok(())
}

pub(crate) async fn cancel(settings: &Settings, batch: uuid::Uuid) -> Result<(), Failure> {
    let path = format!("batches/{batch}/cancel");
    call(settings, Method::POST, &path, &[], None).await?;
    say(format!(
        "{batch} is cancelled: what has not begun is skipped"
    ));
    Ok(())
}

pub(crate) async fn dead_letters(settings: &Settings, what: DeadLetters) -> Result<(), Failure> {
    match what {
        DeadLetters::List {
            job,
            tenant,
            all,
            json,
        } => {
            let mut query = vec![];
            query.extend(job.map(|job| ("job_id", job.to_string())));
            query.extend(tenant.map(|tenant| ("tenant_id", tenant.to_string())));
            query.extend((!all).then(|| ("state", "open".to_owned())));
            let letters = every(settings, "dead-letters", "dead_letters", query).await?;
            if json {
                say_json(&json!({ "dead_letters": letters }));
                return Ok(());
            }
            let mut table = comfy_table::Table::new();
            table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
            table.set_header([
                "id",
                "state",
                "job",
                "tenant",
                "occurrence",
                "attempts",
                "reason",
            ]);
            for letter in &letters {
                table.add_row(
                    [
                        "id",
                        "state",
                        "job_id",
                        "tenant_id",
                        "occurrence",
                        "attempts",
                        "reason",
                    ]
                    .map(|field| plain(&letter[field])),
                );
            }
            match letters.is_empty() {
                true => say("No dead letters"),
                false => say(table),
            }
            Ok(())
        }
        DeadLetters::Replay(options) => {
            settle(settings, "replay", options.which, options.idempotency_key).await
        }
        DeadLetters::Discard(which) => settle(settings, "discard", which, None).await,
    }
}

pub(crate) async fn quarantine(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let answer = call(settings, Method::GET, "quarantine", &[], None).await?;
    if as_json {
        say_json(&answer);
        return Ok(());
    }
    let entries = answer["quarantine"].as_array().cloned().unwrap_or_default();
    for entry in &entries {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        say(format!(
            "{}  tenant {}",
            text(&entry["job_id"]),
            text(&entry["tenant_id"])
        ));
        for error in entry["errors"].as_array().into_iter().flatten() {
            let [place, value, problem, remedy] =
                ["pointer", "value", "problem", "remedy"].map(|field| text(&error[field]));
            say(format!("  {place}: {value} {problem}; {remedy}"));
        }
    }
    let count = answer["count"].as_u64().unwrap_or_default();
    say(format!("{count} preferences cannot be used or read"));
    Ok(())
}

async fn settle(
    settings: &Settings,
    verb: &str,
    which: WhichLetters,
    key: Option<String>,
) -> Result<(), Failure> {
    let mut body = json!({});
    let (job, tenant) = (json!(which.job), json!(which.tenant));
    for (field, value, given) in [
        ("ids", json!(which.id), !which.id.is_empty()),
        ("job_id", job, which.job.is_some()),
        ("tenant_id", tenant, which.tenant.is_some()),
        ("all", json!(true), which.all),
    ] {
        if given {
            body[field] = value;
        }
    }
    let path = format!("dead-letters/{verb}");
    let answer = once(PATIENCE, settings, &path, &body, key).await?;
    let word = if verb == "replay" {
        "replayed"
    } else {
        "discarded"
    };
    say(format!("{} dead letters are {word}", plain(&answer[word])));
    let list = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
    for batch in list("batches") {
        say(format!("  batch {}", plain(&batch)));
    }
    for id in list("not_open") {
        say(format!("  {} is not open", plain(&id)));
    }
    for left in list("left_out") {
        let reason = left["reason"].as_str().unwrap_or_default();
        say(format!(
            "  {} stay open: {}",
            plain(&left["dead_letters"]),
            visible(reason)
        ));
    }
    Ok(())
}

pub(crate) async fn results(settings: &Settings, options: ResultsOptions) -> Result<(), Failure> {
    let (path, list) = match (options.batch, options.tenant) {
        (Some(batch), _) => (format!("batches/{batch}/results"), "results"),
        (None, Some(tenant)) => (format!("tenants/{tenant}/runs"), "runs"),
        (None, None) => return Err(Failure::bad_input("name a batch or a tenant")),
    };
    let status = options.status.map(|status| ("status", status));
    pages(
        settings,
        &path,
        list,
        status.into_iter().collect(),
        |entry| say_json(&entry),
    )
    .await
}

/// Every entry of a list that comes in pages.
async fn every(
    settings: &Settings,
    path: &str,
    list: &str,
    query: Vec<(&str, String)>,
) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    pages(settings, path, list, query, |entry| all.push(entry)).await?;
    Ok(all)
}

async fn pages(
    settings: &Settings,
    path: &str,
    list: &str,
    mut query: Vec<(&str, String)>,
    mut take: impl FnMut(Value),
) -> Result<(), Failure> {
    query.push(("limit", "1000".to_owned()));
    loop {
        let mut answer = call(settings, Method::GET, path, &query, None).await?;
        if let Some(entries) = answer[list].as_array_mut() {
            entries.drain(..).for_each(&mut take);
        }
        let Some(next) = answer["next_cursor"].as_str() else {
            return Ok(());
        };
        query.retain(|(name, _)| *name != "cursor");
        query.push(("cursor", next.to_owned()));
    }
}
