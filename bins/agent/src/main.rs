//! `punctual-agent`: schedules and runs every user's recurring work.

mod cli;
mod client;
mod commands;
mod reload;
mod remedies;
mod service_manager;
mod settings;
mod terminal;
mod wiring;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use punctual_infrastructure::{RENDERER, render_in, serve};
use punctual_web::process;
use tokio::runtime::Runtime;

use crate::{
    cli::{Cli, Command, RunOptions},
    commands::Failure,
    settings::Settings,
    terminal::print_error,
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
    let settings = || {
        Settings::load(cli.settings.as_deref())
            .map_err(|error| Failure::BadInput(format!("{error:#}")))
    };
    match cli.command.unwrap_or(Command::Run(RunOptions::default())) {
        Command::Run(options) => commands::run::run(settings()?, options).await,
        Command::Check { json } => commands::check::check(&settings()?, json),
        Command::MoveStore { to } => commands::move_store::move_store(&settings()?, &to).await,
        Command::Reference { what } => what.print(),
        Command::Explain(options) => commands::remote::explain(&settings()?, options).await,
        Command::Simulate(options) => commands::simulate::simulate(&settings()?, options).await,
        Command::Backfill(options) => commands::remote::backfill(&settings()?, options).await,
        Command::Trigger(options) => commands::remote::trigger(&settings()?, options).await,
        Command::Pause { job } => commands::remote::set_paused(&settings()?, &job, true).await,
        Command::Resume { job } => commands::remote::set_paused(&settings()?, &job, false).await,
        Command::Cancel { batch } => commands::remote::cancel(&settings()?, batch).await,
        Command::Quarantine { json } => commands::remote::quarantine(&settings()?, json).await,
        Command::DeadLetters(what) => commands::remote::dead_letters(&settings()?, what).await,
        Command::Results(options) => commands::remote::results(&settings()?, options).await,
        Command::Preview(options) => commands::preview::preview(&settings()?, options).await,
    }
}
