//! `punctual-config-service`: the reference Config Database as a process of its own.

mod settings;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow};
use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand};
use punctual_config_database::{
    ConfigStore, Expiring, NewKey, Reason, Scope, Server, ServerError, ServerSettingNames,
};
use punctual_domain::{TenantId, visible, visible_lines};
use punctual_infrastructure::{check_alive, log_zone_rules};
use punctual_telemetry::TelemetryError;
use punctual_web::process::{self, NewFile, ReadyFile};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::settings::Settings;

/// Stores the preferences of every tenant and serves them over HTTP.
///
/// Settings come from the environment: `CONFIG_STORE_URL` (<sqlite://var/config.db>, or postgres://…), `CONFIG_HTTP_ADDR`
/// (127.0.0.1:8000), `CONFIG_SERVICE_API_KEY` (the administrator's key), `CONFIG_KEEP_HISTORY_DAYS` (365: days for which earlier
/// versions of preferences are kept), `BATCH_LOG`, `BATCH_LOG_FORMAT`. To embed its pages:
/// `CONFIG_EMBED_ORIGINS` (sites that may, such as <https://shop.example>), `CONFIG_LINK_KEYS` (id:secret, which sign
/// links), `CONFIG_PUBLIC_URL` (its address in browsers), `CONFIG_SITE_NAME`, `CONFIG_SITE_LOGO` (a file). To show past runs on
/// its pages: `CONFIG_AGENT_URLS` (<http://127.0.0.1:8080>), `CONFIG_AGENT_API_KEY`. Zone rules in place of the built-in ones:
/// `CONFIG_TZDB_DIR` (a folder as /usr/share/zoneinfo, or system); give it and all agents the same.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C (the default)
    Serve(ServeOptions),
    /// End with 0 if the service on this machine is alive and with 1 if it is not, as a health check does
    Health,
    /// Import configurations from a file (one JSON object per line)
    Import {
        /// File to import
        file: PathBuf,
    },
    /// Copy the `SQLite` store to a file and check the copy, while the service runs
    Backup {
        /// File of the copy; it must not exist
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Create, list, rotate and revoke API keys
    #[command(subcommand)]
    Keys(Keys),
    /// Erase everything that is held of a tenant; agents erase what they hold
    Erase {
        /// Tenant to erase
        tenant: TenantId,
        /// Why, for the list of erasures
        #[arg(long)]
        reason: Reason,
    },
    /// Print everything that is held of a tenant, as JSON
    Export {
        /// Tenant to export
        tenant: TenantId,
    },
    /// Show what is older than it is kept, and goes within the hour while the service runs
    Retention,
}

#[derive(Args, Default)]
struct ServeOptions {
    /// When the service is ready, write its address to this file or pipe, as one line of JSON
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Keys {
    /// Create a key and print it (it cannot be shown again)
    Create {
        /// Name of the key
        name: String,
        /// Scope: read, agent, write or admin
        #[arg(long, default_value_t = Scope::Read)]
        scope: Scope,
        /// Restrict the key to this tenant
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// List active keys (secrets are not shown)
    List,
    /// Replace a key and print the new one (it cannot be shown again)
    Rotate {
        /// Name of the key
        name: String,
        /// Hours until the old key expires
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(..=720))]
        overlap: u32,
    },
    /// Revoke a key
    Revoke {
        /// Name of the key
        name: String,
    },
}

/// From the signal to the end of the process, whatever is still being answered.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
/// What threads have not ended by then, such as one that waits for a disk, ends with the process.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    process::begin();
    let cli = Cli::parse();
    let outcome = Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(cli));
            runtime.shutdown_timeout(THREADS_TIMEOUT);
            outcome
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", visible_lines(&format!("Error: {error:?}")));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let settings = Settings::load()?;
    let telemetry = punctual_telemetry::Options {
        service: "punctual-config-service",
        filter: &settings.batch_log,
        format: settings.batch_log_format,
        colours: false,
    };
    let _telemetry =
        punctual_telemetry::init(telemetry, std::io::stderr).map_err(|error| match error {
            TelemetryError::Filter { .. } => anyhow!("BATCH_LOG: {error}"),
            error => error.into(),
        })?;
    if let Some(folder) = &settings.config_tzdb_dir {
        log_zone_rules(folder);
    }
    process::keep_database_private(&settings.config_store_url);
    match cli
        .command
        .unwrap_or(Command::Serve(ServeOptions::default()))
    {
        Command::Serve(options) => {
            let ready_file = options.ready_file.map(ReadyFile::new).transpose();
            let ready_file = ready_file.context("--ready-file")?;
            let embedding = settings.embedding()?;
            let keep_history_days = settings.keep_history_days()?;
            let server = Server::bind(settings.server()).await;
            let server = server.map_err(with_setting)?.with_names(NAMES);
            let server = server.with_history_kept(keep_history_days);
            serve(server.with_embedding(embedding), ready_file).await
        }
        Command::Health => {
            let address = settings.server().addr;
            check_alive(address).await.map_err(|why| anyhow!(why))
        }
        Command::Import { file } => {
            let store = open(&settings.config_store_url).await?;
            let report = store.import_file(&file).await?;
            println!(
                "Imported: features {}, configurations {} ({} of them unchanged); rejected {}",
                report.features, report.imported, report.unchanged, report.rejected
            );
            for line in &report.errors {
                let errors = line.errors.join("; ");
                let text = format!("{}:{}: {errors}", file.display(), line.line);
                eprintln!("{}", visible_lines(&text));
            }
            anyhow::ensure!(
                report.rejected == 0,
                "{} lines were not stored",
                report.rejected
            );
            Ok(())
        }
        Command::Backup { to } => {
            let shown = to.display().to_string();
            let file = NewFile::create(to).context("--to")?;
            let copied = ConfigStore::backup(&settings.config_store_url, file.partial()).await;
            copied.map_err(|error| with_setting(error.into()))?;
            let bytes = file.finish()?;
            println!(
                "Copied {bytes} bytes to {}, and checked them",
                visible(&shown)
            );
            Ok(())
        }
        Command::Keys(command) => {
            let store = open(&settings.config_store_url).await?;
            keys(&store, command).await
        }
        Command::Erase { tenant, reason } => {
            let store = open(&settings.config_store_url).await?;
            let erased = store.erase(&tenant, ACTOR, &reason).await?;
            println!("{}", serde_json::to_string_pretty(&erased)?);
            Ok(())
        }
        Command::Export { tenant } => {
            let store = open(&settings.config_store_url).await?;
            let export = store.export_tenant(&tenant).await?;
            println!("{}", serde_json::to_string_pretty(&export)?);
            Ok(())
        }
        Command::Retention => {
            let store = open(&settings.config_store_url).await?;
            let store = store.keeping_history(settings.keep_history_days()?);
            for Expiring { kind, rows, oldest } in store.expiring().await? {
                let oldest = oldest.map_or_else(String::new, |oldest| format!("\toldest {oldest}"));
                println!("{kind}\t{rows}{oldest}");
            }
            Ok(())
        }
    }
}

/// Who erases from the command line, in the list of erasures.
const ACTOR: &str = "command line";

const NAMES: ServerSettingNames = ServerSettingNames {
    store_url: "CONFIG_STORE_URL",
    admin_key: "CONFIG_SERVICE_API_KEY",
};

async fn open(url: &str) -> anyhow::Result<ConfigStore> {
    let store = ConfigStore::open(url).await;
    store.map_err(|error| with_setting(error.into()))
}

/// The error, with the setting that mends it.
fn with_setting(error: ServerError) -> anyhow::Error {
    match error {
        ServerError::Store(_) => anyhow!("{error}; check CONFIG_STORE_URL"),
        ServerError::Listen { .. } => anyhow!("{error}; set CONFIG_HTTP_ADDR to a free address"),
        ServerError::Open(_) => {
            anyhow!("{error}; set CONFIG_SERVICE_API_KEY, or listen on 127.0.0.1")
        }
        ServerError::Key(problem) => anyhow!("CONFIG_SERVICE_API_KEY {problem}"),
        error => error.into(),
    }
}

async fn keys(store: &ConfigStore, command: Keys) -> anyhow::Result<()> {
    match command {
        Keys::Create {
            name,
            scope,
            tenant: tenant_id,
        } => {
            let new = NewKey {
                name,
                scope,
                tenant_id,
            };
            println!("{}", store.create_key(&new).await?.expose_secret());
        }
        Keys::List => {
            for key in store.keys().await? {
                let tenant = key
                    .tenant_id
                    .map_or_else(|| "all tenants".to_owned(), |tenant| tenant.to_string());
                let until = key
                    .expires_at
                    .map_or_else(String::new, |until| format!("\tuntil {until}"));
                println!("{}\t{}\t{tenant}{until}", visible(&key.name), key.scope);
            }
        }
        Keys::Rotate { name, overlap } => {
            let key = store
                .rotate_key(&name, TimeDelta::hours(overlap.into()))
                .await?
                .with_context(|| {
                    format!("key `{name}` does not exist; `keys list` lists the keys")
                })?;
            println!("{}", key.expose_secret());
        }
        Keys::Revoke { name } => {
            anyhow::ensure!(
                store.revoke_key(&name).await?,
                "key `{name}` does not exist; `keys list` lists the keys"
            );
        }
    }
    Ok(())
}

/// Serves until a signal; a second one, or the deadline, ends what is still being answered.
async fn serve(server: Server, ready_file: Option<ReadyFile>) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let address = json!({"config_database": format!("http://{}", server.addr())});
    let (stop, stopped) = oneshot::channel();
    let serving = server.serve(async {
        let _ = stopped.await;
    });
    let mut serving = std::pin::pin!(serving);
    if let Some(file) = &ready_file {
        file.write(&address).context("--ready-file")?;
    }
    tokio::select! {
        ended = &mut serving => return ended.context("the Config Database ended"),
        () = signals.recv() => {}
    }
    let _ = stop.send(());
    tokio::select! {
        ended = &mut serving => ended.context("the Config Database ended"),
        () = signals.recv() => Ok(()),
        () = tokio::time::sleep(SHUTDOWN_DEADLINE) => Ok(()),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
