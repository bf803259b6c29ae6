//! Commands that ask the agent that is running, at `BATCH_HTTP_ADDR`.

use std::time::Duration;

use punctual_domain::JobId;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::Failure;
use crate::{
    cli::{
        BackfillOptions, DeadLetters, ExplainOptions, ResultsOptions, TriggerOptions, WhichLetters,
    },
    settings::Settings,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// A backfill of two million items takes minutes.
const PATIENCE_TO_BACKFILL: Duration = Duration::from_secs(600);

/// Calls the agent's API. What the agent refuses is bad input.
async fn call(
    settings: &Settings,
    method: Method,
    path: &str,
    query: &[(&str, String)],
    body: Option<&Value>,
) -> Result<Value, Failure> {
    call_within(PATIENCE, settings, method, path, query, body).await
}

async fn call_within(
    patience: Duration,
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

pub(crate) async fn backfill(settings: &Settings, options: BackfillOptions) -> Result<(), Failure> {
    let path = format!("jobs/{}/backfill", options.job);
    let body = json!({
        "from": options.from, "to": options.to, "tenants": options.tenant, "preview": options.preview
    });
    let asked = call_within(
        PATIENCE_TO_BACKFILL,
        settings,
        Method::POST,
        &path,
        &[],
        Some(&body),
    );
    let answer = asked.await?;
    if options.json {
        println!("{answer}");
        return Ok(());
    }
    let (job, due, to_run) = (&options.job, &answer["due"], &answer["to_run"]);
    let verb = if options.preview {
        "would run"
    } else {
        "are queued"
    };
    println!("{job}: {due} items fell due, {to_run} have no result and {verb}");
    for (date, items) in answer["dates"].as_object().into_iter().flatten() {
        println!("  {date}  {items}");
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

pub(crate) async fn cancel(settings: &Settings, batch: uuid::Uuid) -> Result<(), Failure> {
    let path = format!("batches/{batch}/cancel");
    call(settings, Method::POST, &path, &[], None).await?;
    println!("{batch} is cancelled: what has not begun is skipped");
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
                println!("{}", json!({ "dead_letters": letters }));
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
            let text = |value: &Value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            };
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
                    .map(|field| text(&letter[field])),
                );
            }
            match letters.is_empty() {
                true => println!("No dead letters"),
                false => println!("{table}"),
            }
            Ok(())
        }
        DeadLetters::Replay(which) => settle(settings, "replay", which).await,
        DeadLetters::Discard(which) => settle(settings, "discard", which).await,
    }
}

pub(crate) async fn quarantine(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let answer = call(settings, Method::GET, "quarantine", &[], None).await?;
    if as_json {
        println!("{answer}");
        return Ok(());
    }
    let entries = answer["quarantine"].as_array().cloned().unwrap_or_default();
    for entry in &entries {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        println!(
            "{}  tenant {}",
            text(&entry["job_id"]),
            text(&entry["tenant_id"])
        );
        for error in entry["errors"].as_array().into_iter().flatten() {
            let [place, value, problem, remedy] =
                ["pointer", "value", "problem", "remedy"].map(|field| text(&error[field]));
            println!("  {place}: {value} {problem}; {remedy}");
        }
    }
    let count = answer["count"].as_u64().unwrap_or_default();
    println!("{count} preferences cannot be used or read");
    Ok(())
}

async fn settle(settings: &Settings, verb: &str, which: WhichLetters) -> Result<(), Failure> {
    let body = match which.id.is_empty() {
        true => json!({ "job_id": which.job, "tenant_id": which.tenant }),
        false => json!({ "ids": which.id }),
    };
    let path = format!("dead-letters/{verb}");
    let answer = call(settings, Method::POST, &path, &[], Some(&body)).await?;
    let word = if verb == "replay" {
        "replayed"
    } else {
        "discarded"
    };
    println!("{} dead letters are {word}", answer[word]);
    let list = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
    for batch in list("batches") {
        println!("  batch {}", batch.as_str().unwrap_or_default());
    }
    for id in list("not_open") {
        println!("  {id} is not open");
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
        |entry| {
            println!("{entry}");
        },
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
