//! `punctual-agent`: schedules and runs every user's recurring work.

mod cli;
mod client;
mod commands;
mod output;
mod reload;
mod remedies;
mod settings;
mod sign_in;
mod terminal;
mod wiring;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use punctual_infrastructure::{RENDERER, check_alive, render_in, serve};
use punctual_web::process;
use tokio::runtime::Runtime;

use crate::{
    cli::{Cli, Command, RunOptions},
    commands::Failure,
    output::print_error,
    settings::Settings,
};

/// What threads have not ended by then, such as one that waits for a disk, ends with the process.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    process::begin();
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == RENDERER)
    {
        return match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let cli = Cli::parse();
    if let Some(program) = this_program() {
        render_in(program);
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(format!("error: cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli));
    runtime.shutdown_timeout(THREADS_TIMEOUT);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Shown) => Failure::Shown.exit_code(),
        Err(failure) => {
            print_error(&failure);
            failure.exit_code()
        }
    }
}

/// The program that runs, also when its file has been replaced since.
fn this_program() -> Option<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        Some(link.to_owned())
    } else {
        std::env::current_exe().ok()
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    process::outlive_file_size_limit().map_err(Failure::failed)?;
    let command = cli.command.unwrap_or(Command::Run(RunOptions::default()));
    let needs_zone_rules = command.needs_zone_rules();
    let settings = || {
        Settings::load(cli.settings.as_deref(), needs_zone_rules)
            .map_err(|error| Failure::BadInput(format!("{error:#}")))
    };
    match command {
        Command::Run(options) => commands::run::run(settings()?, options).await,
        Command::Init { json } => commands::init::init(&settings()?, json),
        Command::Check { json } => commands::check::check(&settings()?, json),
        Command::Status(options) => commands::status::status(&settings()?, options).await,
        Command::Jobs(options) => commands::jobs::jobs(&settings()?, options).await,
        Command::Batches(options) => commands::batches::batches(&settings()?, options).await,
        Command::Results(options) => commands::results::results(&settings()?, options).await,
        Command::Explain(options) => commands::explain::explain(&settings()?, options).await,
        Command::Trigger(options) => commands::start::trigger(&settings()?, options).await,
        Command::Backfill(options) => commands::start::backfill(&settings()?, options).await,
        Command::Pause(options) => commands::jobs::set_paused(&settings()?, options, true).await,
        Command::Resume(options) => commands::jobs::set_paused(&settings()?, options, false).await,
        Command::Cancel(options) => commands::batches::cancel(&settings()?, options).await,
        Command::DeadLetters(what) => {
            commands::dead_letters::dead_letters(&settings()?, what).await
        }
        Command::Deliveries { json } => commands::lists::deliveries(&settings()?, json).await,
        Command::Quarantine { json } => commands::lists::quarantine(&settings()?, json).await,
        Command::Suppressions(what) => {
            commands::suppressions::suppressions(&settings()?, what).await
        }
        Command::Alerts(what) => commands::alerts::alerts(&settings()?, what).await,
        Command::Export { tenant, to } => {
            commands::tenants::export(&settings()?, &tenant, to.as_deref()).await
        }
        Command::Erase(options) => commands::tenants::erase(&settings()?, options).await,
        Command::Waiting(options) => commands::waiting::waiting(&settings()?, options).await,
        Command::Retention {
            preview: _preview,
            json,
        } => commands::retention::retention(&settings()?, json).await,
        Command::Keys(what) => commands::keys::keys(&settings()?, what).await,
        Command::AuditLog(options) => commands::lists::audit_log(&settings()?, options).await,
        Command::Preview(options) => commands::preview::preview(&settings()?, options).await,
        Command::Simulate(options) => commands::simulate::simulate(&settings()?, options).await,
        Command::MoveStore { to, json } => {
            commands::move_store::move_store(&settings()?, &to, json).await
        }
        Command::Backup(options) => commands::backup::backup(&settings()?, options).await,
        Command::Restore(options) => commands::restore::restore(&settings()?, options).await,
        Command::Health => check_alive(settings()?.batch_http_addr)
            .await
            .map_err(Failure::failed),
        Command::Zones(what) => commands::zones::zones(&settings()?, what).await,
        Command::Reference { what } => what.print(),
        Command::Completions { shell } => {
            commands::shell::completions(shell);
            Ok(())
        }
        Command::Man { to } => commands::shell::man(to.as_deref()),
    }
}
