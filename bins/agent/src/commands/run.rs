//! `run`: the agent's life. Everything stops in one order: no new work, what runs is brought to its end, and
//! by the deadline the process is gone.

use std::{io::IsTerminal, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use punctual::{Access, Metrics, Operations, Operator};
use punctual_application::{
    Operation, amount,
    ports::{Clock, SystemClock},
};
use punctual_config_database::{
    Embedding, EmbeddingSettings, InvalidEmbedding, Server, ServerError, ServerSettingNames,
    ServerSettings,
};
use punctual_infrastructure::{ZoneFolderError, ZoneFolderWatcher, log_zone_rules};
use punctual_telemetry::{LogFormat, TelemetryError};
use punctual_web::{
    page::with_favicon,
    process::{self, ReadyFile, Signals},
    serve, service_manager,
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Failure, check};
use crate::{
    cli::RunOptions,
    output::{Tone, View, print_error, print_line},
    reload::{self, Reload},
    remedies::WORDS,
    settings::Settings,
    sign_in,
    terminal::{Display, Terminal},
    wiring,
};

/// From the signal to the end of the process, whatever is still running: below the 30 s after which
/// orchestrators kill.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
/// How long items and deliveries may take of it.
const GRACE: Duration = Duration::from_secs(18);

pub(crate) async fn run(mut settings: Settings, options: RunOptions) -> Result<(), Failure> {
    if let Some(after_restore) = options.after_restore {
        settings.batch_after_restore = after_restore;
    }
    let terminal = Terminal::new();
    let interactive =
        std::io::stdout().is_terminal() && settings.batch_log_format == LogFormat::Text;
    // The display tells what happens; with it, the log is for what goes wrong.
    let usual = if interactive {
        "warn"
    } else {
        punctual_telemetry::DEFAULT_FILTER
    };
    let telemetry = punctual_telemetry::Options {
        service: "punctual-agent",
        filter: settings.batch_log.as_deref().unwrap_or(usual),
        format: settings.batch_log_format,
        colours: std::io::stderr().is_terminal(),
    };
    let _telemetry =
        punctual_telemetry::init(telemetry, terminal.clone()).map_err(|error| match error {
            TelemetryError::Filter { .. } => Failure::bad_input(format!("BATCH_LOG: {error}")),
            error => Failure::bad_input(error),
        })?;
    if let Some(folder) = &settings.batch_tzdb_dir {
        log_zone_rules(folder);
    }
    for url in [&settings.batch_store_url, &settings.config_store_url] {
        process::keep_database_private(url);
    }
    process::keep_folder_private(&settings.config_last_known_good_path);
    let ready_file = options.ready_file.clone().map(ReadyFile::new).transpose();
    let ready_file =
        ready_file.map_err(|error| Failure::bad_input(format!("--ready-file: {error}")))?;
    let sign_in = sign_in::of(&settings).map_err(Failure::bad_input)?;
    let files = reload::look(&settings);
    let project = check::load(&settings).map_err(Failure::bad_input)?;
    check::check_alerts(&settings, &project)?;
    for missing in &project.missing_sources.0 {
        warn!(%missing, "A job waits for its source file, the other jobs run: {missing}");
    }
    let metrics = install_metrics().map_err(Failure::failed)?;
    let mut signals = Signals::new().map_err(Failure::failed)?;

    // The Config Database ends last: what is being brought to its end may still ask it.
    let stop_config_database = CancellationToken::new();
    let config_database = match &settings.config_service_url {
        Some(_) if options.import.is_some() => {
            return Err(Failure::bad_input(
                "--import works only with the embedded Config Database, and CONFIG_SERVICE_URL \
                 names another one; import there instead",
            ));
        }
        Some(_) => None,
        None => Some(embedded_config_database(&settings, &options).await?),
    };
    let url = match (&settings.config_service_url, &config_database) {
        (Some(url), _) => url.clone(),
        (None, Some(server)) => format!("http://{}", server.addr()),
        (None, None) => {
            return Err(Failure::failed(
                "no Config Database is configured; set CONFIG_SERVICE_URL or CONFIG_STORE_URL",
            ));
        }
    };
    let listener = TcpListener::bind(settings.batch_http_addr)
        .await
        .map_err(|error| {
            Failure::failed(format!(
                "cannot listen on {}: {error}; set BATCH_HTTP_ADDR to a free address",
                settings.batch_http_addr
            ))
        })?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let look_back = options.look_back.unwrap_or_default();
    let public_url = settings.public_url(address);
    let started = wiring::start(&settings, project, &url, &public_url, look_back).await;
    let (mut punctual, config_service) = started?;
    let access = match &settings.batch_api_key {
        Some(key) => Access::key(key.clone(), address)
            .map_err(|error| Failure::bad_input(format!("BATCH_API_KEY {error}")))?,
        None if sign_in.oidc.is_some() || sign_in.proxy.is_some() => Access::accounts(),
        None => Access::this_machine("BATCH_API_KEY"),
    };
    let rendered: Metrics = Arc::new({
        let metrics = metrics.clone();
        move || metrics.render()
    });
    let has_key = !access.is_open();
    let operations = Operations {
        sign_in,
        metrics: Some(rendered),
        words: WORDS,
        config_database: Some(config_service.clone()),
        ..punctual.operations(access)
    };
    let router = with_favicon(operations.router(), "");

    let config_database = config_database.map(|server| {
        let server = server.with_run_history(Arc::new(punctual.operator().clone()));
        tokio::spawn(server.serve(stop_config_database.clone().cancelled_owned()))
    });
    let stop = punctual.stop_token();
    // The API ends after the work: until then, workers complete at it what waits, and it says that the agent stops.
    let stop_api = CancellationToken::new();
    let mut parts = JoinSet::new();
    let api = serve(listener, router, stop_api.clone().cancelled_owned());
    parts.spawn(named("the API", api));
    parts.spawn(named(
        "the systemd watchdog",
        service_manager::alive(stop.clone().cancelled_owned()),
    ));
    parts.spawn(named(
        "the upkeep of the metrics",
        upkeep(metrics, stop.clone()),
    ));
    if interactive {
        let operator = punctual.operator().clone();
        let display = Display::new(terminal.clone(), operator, address, has_key);
        parts.spawn(named("the terminal display", display.run(stop.clone())));
    }
    let reload = Reload::new(&settings, punctual.operator(), files);
    parts.spawn(named(
        "the watcher of the job files",
        reload.run(stop.clone()),
    ));
    if let Some(folder) = &settings.batch_tzdb_dir {
        let watcher = watch_zones(folder, punctual.operator(), stop.clone());
        parts.spawn(named("the watcher of the zone rules", watcher));
    }
    info!(%address, config_database = config_service, "The agent has started; its API is at http://{address}");
    service_manager::started();
    if let Some(file) = &ready_file {
        let api = format!("http://{address}");
        let written = file.write(&json!({"api": api, "config_database": config_service}));
        written.map_err(|error| Failure::failed(format!("--ready-file: {error}")))?;
    }

    let died = tokio::select! {
        () = signals.recv() => None,
        Some(ended) = parts.join_next() => Some(ended.map_or_else(|error| error.to_string(), str::to_owned)),
        ended = punctual.ended() => Some(ended),
    };
    info!("Stopping: no new work begins; a second signal stops immediately");
    let tell = |text: &str| {
        if interactive {
            terminal.print(&View::default().line("").toned(Tone::Heading, text));
        }
    };
    tell("Stopping: what has begun is brought to its end; Ctrl-C again stops immediately");
    service_manager::stopping();
    stop.cancel();
    let mut ended = false;
    let drain = async {
        ended = punctual.shut_down(GRACE).await;
        stop_api.cancel();
        while parts.join_next().await.is_some() {}
        stop_config_database.cancel();
        if let Some(server) = config_database {
            let _ = server.await;
        }
    };
    tokio::select! {
        // Items count here, not a client that is still being answered.
        _ = tokio::time::timeout(SHUTDOWN_DEADLINE, drain) => if ended {
            info!("Stopped");
            tell("Stopped. Nothing is lost: what waits in the queue runs after the next start.");
        } else {
            warn!("Stopped at the deadline: interrupted items go back to the queue and run again");
        },
        () = signals.recv() => warn!("Stopped immediately: interrupted items run again"),
    }
    match died {
        None => Ok(()),
        Some(part) => Err(Failure::failed(format!(
            "{part} ended unexpectedly; see the log"
        ))),
    }
}

async fn embedded_config_database(
    settings: &Settings,
    options: &RunOptions,
) -> Result<Server, Failure> {
    let embedding = Embedding::new(EmbeddingSettings {
        embed_origins: settings.config_embed_origins.clone(),
        link_keys: settings.config_link_keys.clone(),
        public_url: settings.config_public_url.clone(),
        site_name: settings.config_site_name.clone(),
        site_logo: settings.config_site_logo.clone(),
    });
    let embedding = embedding.map_err(|InvalidEmbedding { field, problem }| {
        let setting = field.to_uppercase();
        Failure::bad_input(format!("invalid settings: CONFIG_{setting} {problem}"))
    })?;
    let server = Server::bind(ServerSettings {
        store_url: settings.config_store_url.clone(),
        addr: settings.config_http_addr,
        admin_key: settings.config_service_api_key.clone(),
    })
    .await
    .map_err(|error| match error {
        ServerError::Store(error) if error.is_invalid_url() => {
            Failure::bad_input(format!("CONFIG_STORE_URL: {error}"))
        }
        ServerError::Store(_) => Failure::failed(format!("{error}; check CONFIG_STORE_URL")),
        ServerError::Listen { .. } => {
            Failure::failed(format!("{error}; set CONFIG_HTTP_ADDR to a free address"))
        }
        ServerError::Open(_) => Failure::bad_input(format!(
            "{error}; set CONFIG_SERVICE_API_KEY, or listen on 127.0.0.1"
        )),
        ServerError::Key(problem) => {
            Failure::bad_input(format!("CONFIG_SERVICE_API_KEY {problem}"))
        }
        error => Failure::failed(error),
    })?
    .with_names(ServerSettingNames {
        store_url: "CONFIG_STORE_URL",
        admin_key: "CONFIG_SERVICE_API_KEY",
    })
    .with_embedding(embedding)
    .with_history_kept(settings.config_keep_history_days);
    if let Some(file) = &options.import {
        let report = server
            .store()
            .import_file(file)
            .await
            .map_err(Failure::bad_input)?;
        print_line(format!(
            "Imported {} from {}",
            amount(report.imported as u64, "tenant"),
            file.display()
        ));
        if report.rejected > 0 {
            for line in &report.errors {
                print_error(format!(
                    "{}:{}: {}",
                    file.display(),
                    line.line,
                    line.errors.join("; ")
                ));
            }
            return Err(Failure::bad_input(format!(
                "not stored: {}",
                amount(report.rejected as u64, "line")
            )));
        }
    }
    Ok(server)
}

/// Follows the zone rules in a folder, and plans anew by them.
fn watch_zones(
    folder: &Path,
    operator: &Operator,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (jobs, failures) = (operator.jobs.clone(), operator.failures.clone());
    let notify = move |taken: &Result<bool, ZoneFolderError>| {
        failures.note(Operation::ReloadZoneRules, taken, SystemClock.now());
        if let Ok(true) = taken {
            jobs.renew();
        }
    };
    ZoneFolderWatcher::new(folder).run(stop.cancelled_owned(), notify)
}

async fn named(name: &'static str, part: impl Future<Output = ()>) -> &'static str {
    part.await;
    name
}

fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, &punctual_telemetry::BUCKETS)
        .context("the buckets of histograms cannot be used")?
        .install_recorder()
        .context("metrics cannot be recorded")?;
    punctual_telemetry::describe_metrics();
    Ok(handle)
}

/// The exporter prunes its histograms only in `run_upkeep`.
async fn upkeep(metrics: PrometheusHandle, stop: CancellationToken) {
    while tokio::time::timeout(Duration::from_secs(5), stop.cancelled())
        .await
        .is_err()
    {
        metrics.run_upkeep();
    }
}
