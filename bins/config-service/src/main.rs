//! `punctual-config-service`: the reference Config Database as a process of its own.

mod settings;

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use chrono::TimeDelta;
use clap::{Parser, Subcommand};
use punctual_config_database::{ConfigStore, NewKey, Scope, Server};
use punctual_domain::TenantId;
use punctual_infrastructure::telemetry;
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Settings;

/// Keeps each tenant's preferences and offers them over HTTP.
///
/// Settings come from the environment: CONFIG_STORE_URL (sqlite://var/config.db, or postgres://…), CONFIG_HTTP_ADDR
/// (127.0.0.1:8000), CONFIG_SERVICE_API_KEY (the administrator's key), BATCH_LOG, BATCH_LOG_FORMAT.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C (the default)
    Serve,
    /// Store the configurations of a file, one JSON object a line
    Import {
        /// The file
        file: PathBuf,
    },
    /// Make and take back API keys
    #[command(subcommand)]
    Keys(Keys),
}

#[derive(Subcommand)]
enum Keys {
    /// Make a key and print it, this once
    Create {
        /// What the key is for
        name: String,
        /// What it may do: read, write or admin
        #[arg(long, default_value_t = Scope::Read)]
        scope: Scope,
        /// The only tenant it may do it for
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Show the keys that hold, without themselves
    List,
    /// Make a key that takes the place of another, and print it, this once
    Rotate {
        /// The name both have
        name: String,
        /// For how many hours the old one goes on holding
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(..=720))]
        overlap: u32,
    },
    /// Take a key back
    Revoke {
        /// The name it was made with
        name: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let settings = Settings::load()?;
    let _telemetry = telemetry::init(
        "punctual-config-service",
        &settings.batch_log,
        settings.batch_log_format,
        std::io::stderr,
        false,
    )
    .map_err(|e| anyhow!(e))?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            let server = Server::bind(settings.server()).await?;
            server
                .serve(stop_signal()?)
                .await
                .context("the Config Database ended")
        }
        Command::Import { file } => {
            let report = ConfigStore::open(&settings.config_store_url)
                .await?
                .import_file(&file)
                .await?;
            println!(
                "{} imported, {} of them stored already, {} rejected",
                report.imported, report.unchanged, report.rejected
            );
            for line in &report.errors {
                eprintln!(
                    "{}:{}: {}",
                    file.display(),
                    line.line,
                    line.errors.join("; ")
                );
            }
            anyhow::ensure!(
                report.rejected == 0,
                "{} lines were not stored",
                report.rejected
            );
            Ok(())
        }
        Command::Keys(command) => {
            let store = ConfigStore::open(&settings.config_store_url).await?;
            keys(&store, command).await
        }
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
                println!("{}\t{}\t{tenant}{until}", key.name, key.scope);
            }
        }
        Keys::Rotate { name, overlap } => {
            let key = store
                .rotate_key(&name, TimeDelta::hours(overlap.into()))
                .await?
                .with_context(|| format!("there is no key named `{name}`"))?;
            println!("{}", key.expose_secret());
        }
        Keys::Revoke { name } => {
            anyhow::ensure!(
                store.revoke_key(&name).await?,
                "there is no key named `{name}`"
            );
        }
    }
    Ok(())
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
