//! `punctual-agent`: schedules and runs every user's recurring work.

mod api;
mod cli;
mod commands;
mod reload;
mod service_manager;
mod settings;
mod terminal;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command, RunOptions},
    commands::Failure,
    settings::Settings,
};

#[tokio::main]
async fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let cli = Cli::parse();
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
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
