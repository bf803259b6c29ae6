//! `punctual-config-service`: the reference Config Database as a process of its own.

mod cli;
mod serve;
mod settings;

use std::{
    fmt, fs,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow};
use chrono::TimeDelta;
use clap::{CommandFactory, Parser};
use punctual_config_database::{
    ConfigStore, Expiring, KeyError, NewKey, Server, ServerError, ServerSettingNames, StoreError,
};
use punctual_domain::{TenantId, visible, visible_lines};
use punctual_infrastructure::{ZoneFolderWatcher, check_alive, log_zone_rules};
use punctual_telemetry::{Telemetry, TelemetryError};
use punctual_web::{
    process::{self, NewFile, ReadyFile},
    question, shell,
};
use secrecy::ExposeSecret;
use tokio::{runtime::Runtime, sync::watch};

use crate::{
    cli::{Cli, Command, Keys, ServeOptions, ServiceCommand, ShellCommand},
    serve::serve,
    settings::Settings,
};

/// What threads have not ended by then, such as one that waits for a disk, ends with the process.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a command did not do what was asked.
enum Failure {
    /// It could not be done: exit code 1.
    Failed(anyhow::Error),
    /// What was given cannot be used: exit code 2.
    BadInput(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn main() -> ExitCode {
    process::begin();
    let cli = Cli::parse();
    let outcome = Runtime::new().map_err(Failure::from).and_then(|runtime| {
        let outcome = runtime.block_on(run(cli));
        runtime.shutdown_timeout(THREADS_TIMEOUT);
        outcome
    });
    let (error, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => (error, 1),
        Err(Failure::BadInput(error)) => (error, 2),
    };
    print_error(format!("error: {error:#}"));
    ExitCode::from(code)
}

async fn run(cli: Cli) -> Result<(), Failure> {
    process::outlive_file_size_limit()?;
    let usual = || Command::Service(ServiceCommand::Serve(ServeOptions::default()));
    match cli.command.unwrap_or_else(usual) {
        Command::Service(command) => {
            let needs_zone_rules = command.needs_zone_rules();
            let settings = Settings::load(needs_zone_rules).map_err(Failure::BadInput)?;
            let _telemetry = begin_log(&settings).map_err(Failure::BadInput)?;
            if let Some(folder) = &settings.config_tzdb_dir
                && needs_zone_rules
            {
                log_zone_rules(folder);
            }
            process::keep_database_private(&settings.config_store_url);
            let place = ConfigStore::place(&settings.config_store_url);
            let done = with_settings(settings, command).await;
            done.map_err(|failure| with_place(failure, &place))
        }
        Command::Shell(ShellCommand::Completions { shell }) => {
            let script = shell::completions(Cli::command(), shell);
            Ok(print_line(script.trim_end())?)
        }
        Command::Shell(ShellCommand::Man { to }) => {
            let text = shell::manual(Cli::command(), to.as_deref())?;
            Ok(print_line(text.trim_end())?)
        }
    }
}

fn begin_log(settings: &Settings) -> anyhow::Result<Telemetry> {
    let options = punctual_telemetry::Options {
        service: "punctual-config-service",
        filter: &settings.batch_log,
        format: settings.batch_log_format,
        colours: io::stderr().is_terminal(),
    };
    punctual_telemetry::init(options, io::stderr).map_err(|error| match error {
        TelemetryError::Filter { .. } => anyhow!("BATCH_LOG: {error}"),
        error => error.into(),
    })
}

async fn with_settings(settings: Settings, command: ServiceCommand) -> Result<(), Failure> {
    match command {
        ServiceCommand::Serve(options) => {
            let ready_file = options.ready_file.map(ReadyFile::new).transpose();
            let ready_file = ready_file.context("--ready-file");
            let ready_file = ready_file.map_err(Failure::BadInput)?;
            let embedding = settings.embedding().map_err(Failure::BadInput)?;
            let keep_history_days = settings.config_keep_history_days;
            let (warn, warning) = watch::channel(None);
            if let Some(folder) = &settings.config_tzdb_dir {
                // It ends with the process.
                let watcher = ZoneFolderWatcher::new(folder);
                tokio::spawn(watcher.run(std::future::pending(), move |taken| {
                    warn.send_replace(taken.as_ref().err().map(|error| {
                        format!("changed zone rules are not in effect: {error}; put the folder there anew (CONFIG_TZDB_DIR)")
                    }));
                }));
            }
            let server = Server::bind(settings.server()).await;
            let server = server.map_err(with_setting)?.with_names(NAMES);
            let server = server.with_history_kept(keep_history_days);
            let server = server.with_embedding(embedding).with_warning(warning);
            Ok(serve(server, ready_file).await?)
        }
        ServiceCommand::Health => {
            let address = settings.server().addr;
            Ok(check_alive(address).await.map_err(|why| anyhow!(why))?)
        }
        ServiceCommand::Import { file } => {
            // Only looked at: a pipe is opened once.
            if let Err(error) = fs::metadata(&file) {
                let problem = anyhow!("cannot read {}: {error}", file.display());
                return Err(Failure::BadInput(problem));
            }
            let store = open(&settings.config_store_url).await?;
            import(&store, &file).await
        }
        ServiceCommand::Backup { to } => {
            let shown = to.display().to_string();
            let file = NewFile::create(to).context("--to");
            let file = file.map_err(Failure::BadInput)?;
            let copied = ConfigStore::backup(&settings.config_store_url, file.partial()).await;
            copied.map_err(|error| with_setting(error.into()))?;
            let bytes = file.finish()?;
            Ok(print_line(format!(
                "Copied {bytes} bytes to {}, and checked them",
                visible(&shown)
            ))?)
        }
        ServiceCommand::Keys(command) => {
            let store = open(&settings.config_store_url).await?;
            keys(&store, command).await
        }
        ServiceCommand::Erase {
            tenant,
            reason,
            yes,
        } => {
            if !yes {
                confirm_erasing(&tenant)?;
            }
            let store = open(&settings.config_store_url).await?;
            let erased = store.erase(&tenant, ACTOR, &reason).await?;
            print_line(serde_json::to_string_pretty(&erased)?)?;
            if erased.found_nothing() {
                print_error(format!(
                    "Nothing was held of tenant {tenant}; check the id, unless the tenant was erased before"
                ));
            }
            Ok(())
        }
        ServiceCommand::Export { tenant } => {
            let store = open(&settings.config_store_url).await?;
            let export = store.export_tenant(&tenant).await?;
            Ok(print_line(serde_json::to_string_pretty(&export)?)?)
        }
        ServiceCommand::Retention => {
            let store = open(&settings.config_store_url).await?;
            let store = store.keeping_history(settings.config_keep_history_days);
            for Expiring { kind, rows, oldest } in store.expiring().await? {
                let oldest = oldest.map_or_else(String::new, |oldest| format!("\toldest {oldest}"));
                print_line(format!("{kind}\t{rows}{oldest}"))?;
            }
            Ok(())
        }
    }
}

/// Asks for the id of the tenant to be typed.
fn confirm_erasing(tenant: &TenantId) -> Result<(), Failure> {
    let text = format!(
        "Erase everything that the Config Database holds of tenant {tenant}? This cannot be undone."
    );
    match question::ask(&text, &format!("Type {tenant} to go on:"))? {
        Some(answer) if answer == tenant.as_str() => Ok(()),
        Some(_) => Err(Failure::Failed(anyhow!("nothing was done"))),
        None => Err(Failure::BadInput(anyhow!(question::unanswered(&text)))),
    }
}

/// Who erases from the command line, in the list of erasures.
const ACTOR: &str = "command line";

const NAMES: ServerSettingNames = ServerSettingNames {
    store_url: "CONFIG_STORE_URL",
    admin_key: "CONFIG_SERVICE_API_KEY",
};

async fn open(url: &str) -> Result<ConfigStore, Failure> {
    let store = ConfigStore::open(url).await;
    store.map_err(|error| with_setting(error.into()))
}

/// The error, with the setting that mends it.
fn with_setting(error: ServerError) -> Failure {
    match error {
        ServerError::Store(error) if error.is_invalid_url() => {
            Failure::BadInput(anyhow!("CONFIG_STORE_URL: {error}"))
        }
        ServerError::Store(_) => Failure::Failed(anyhow!("{error}; check CONFIG_STORE_URL")),
        ServerError::Listen { .. } => {
            Failure::Failed(anyhow!("{error}; set CONFIG_HTTP_ADDR to a free address"))
        }
        ServerError::Open(_) => Failure::BadInput(anyhow!(
            "{error}; set CONFIG_SERVICE_API_KEY, or listen on 127.0.0.1"
        )),
        ServerError::Key(problem) => Failure::BadInput(anyhow!("CONFIG_SERVICE_API_KEY {problem}")),
        error => error.into(),
    }
}

/// The failure, with the store and what to do where its database refuses to work.
fn with_place(failure: Failure, place: &str) -> Failure {
    let Failure::Failed(error) = failure else {
        return failure;
    };
    match error.downcast_ref::<StoreError>() {
        Some(refused) if refused.is_of_database() => Failure::Failed(anyhow!(
            "the Config Database {place} failed: {refused}; free disk space, release the lock on the store, or \
             bring the database back (CONFIG_STORE_URL)"
        )),
        _ => Failure::Failed(error),
    }
}

async fn import(store: &ConfigStore, file: &Path) -> Result<(), Failure> {
    let report = store.import_file(file).await?;
    print_line(format!(
        "Imported: features {}, configurations {} ({} of them unchanged); rejected {}",
        report.features, report.imported, report.unchanged, report.rejected
    ))?;
    for line in &report.errors {
        let errors = line.errors.join("; ");
        print_error(format!("{}:{}: {errors}", file.display(), line.line));
    }
    if report.rejected > 0 {
        let problem = anyhow!("{} lines were not stored", report.rejected);
        return Err(Failure::BadInput(problem));
    }
    Ok(())
}

async fn keys(store: &ConfigStore, command: Keys) -> Result<(), Failure> {
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
            let created = store.create_key(&new).await;
            let key = created.map_err(|error| match error {
                KeyError::Store(error) => Failure::from(error),
                error => Failure::BadInput(error.into()),
            })?;
            print_line(key.expose_secret())?;
        }
        Keys::List => {
            for key in store.keys().await? {
                let tenant = key
                    .tenant_id
                    .map_or_else(|| "all tenants".to_owned(), |tenant| tenant.to_string());
                let until = key
                    .expires_at
                    .map_or_else(String::new, |until| format!("\tuntil {until}"));
                let name = visible(&key.name);
                print_line(format!("{name}\t{}\t{tenant}{until}", key.scope))?;
            }
        }
        Keys::Rotate { name, overlap } => {
            let rotated = store.rotate_key(&name, TimeDelta::hours(overlap.into()));
            let key = rotated.await?.ok_or_else(|| unknown_key(&name))?;
            print_line(key.expose_secret())?;
        }
        Keys::Revoke { name } => {
            if !store.revoke_key(&name).await? {
                return Err(unknown_key(&name));
            }
        }
    }
    Ok(())
}

fn unknown_key(name: &str) -> Failure {
    Failure::BadInput(anyhow!(
        "key `{name}` does not exist; `keys list` lists the keys"
    ))
}

/// Prints a line on standard output. A reader that has seen enough, such as `head`, causes no error.
fn print_line(text: impl fmt::Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot write to standard output"),
    }
}

/// The same, on standard error.
fn print_error(text: impl fmt::Display) {
    // What reads standard error may be gone.
    let _ = writeln!(io::stderr(), "{}", visible_lines(&text.to_string()));
}
