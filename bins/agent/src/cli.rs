//! What a user types.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use punctual_domain::{FeatureType, JobId, TenantId};

/// Runs every user's recurring work at the time, and in the way, that user chose.
///
/// Settings come from the environment, or from a file with the same names; docs/usage lists them.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// A settings file (TOML or JSON); the environment wins over it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Schedule and run until SIGTERM or Ctrl-C (the default)
    Run(RunOptions),
    /// Check jobs, purposes and templates, and show every mistake at once
    Check {
        /// Print the mistakes as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say why a tenant ran, will run, or did not; asks the running agent
    Explain(ExplainOptions),
    /// Copy the SQLite store of BATCH_STORE_URL to an empty PostgreSQL database; stop the agent before
    MoveStore {
        /// The database, as postgres://user@host/database; a password is better in PGPASSWORD or ~/.pgpass
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Print what there is to know of the settings, or of the HTTP API
    Reference {
        /// What about
        what: Reference,
    },
    /// Run virtual days, and show how many users fall due when and how long they would wait
    Simulate(SimulateOptions),
    /// Run a job now, for all its tenants or for some; asks the running agent
    Trigger(TriggerOptions),
    /// Run what fell due on dates that have passed and was not run; asks the running agent
    Backfill(BackfillOptions),
    /// Let nothing of a job fall due until it is resumed; asks the running agent
    Pause {
        /// The job
        job: JobId,
    },
    /// Let a paused job go on with what falls due from now on; asks the running agent
    Resume {
        /// The job
        job: JobId,
    },
    /// Cancel a batch: items that have not begun are skipped; asks the running agent
    Cancel {
        /// The batch
        batch: uuid::Uuid,
    },
    /// List what failed for good, run it again, or let it go; asks the running agent
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// List the preferences that cannot be used or read, with the reasons; asks the running agent
    Quarantine {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the results of a batch or a tenant, one JSON object a line; asks the running agent
    Results(ResultsOptions),
    /// Show the next occurrences of a preference
    Preview(PreviewOptions),
}

#[derive(Subcommand)]
pub(crate) enum DeadLetters {
    /// List them, newest first
    List {
        /// Of this job only
        #[arg(long, value_name = "JOB")]
        job: Option<JobId>,
        /// Of this tenant only
        #[arg(long, value_name = "ID")]
        tenant: Option<TenantId>,
        /// Also those that were replayed or discarded
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run them again
    Replay(WhichLetters),
    /// Let them go
    Discard(WhichLetters),
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["id", "job", "tenant", "all"]))]
pub(crate) struct WhichLetters {
    /// By number
    #[arg(value_name = "ID", conflicts_with_all = ["job", "tenant", "all"])]
    pub(crate) id: Vec<i64>,
    /// All of this job that are open
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// All of this tenant that are open
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<TenantId>,
    /// All that are open
    #[arg(long, conflicts_with_all = ["job", "tenant"])]
    pub(crate) all: bool,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("of").required(true).args(["batch", "tenant"]))]
pub(crate) struct ResultsOptions {
    /// Of this batch
    #[arg(long, value_name = "BATCH")]
    pub(crate) batch: Option<uuid::Uuid>,
    /// Of this tenant, newest first
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
    /// In this status only: succeeded, failed, skipped
    #[arg(long, value_name = "STATUS", requires = "batch")]
    pub(crate) status: Option<String>,
}

#[derive(Args, Default)]
pub(crate) struct RunOptions {
    /// Before the start, store the preferences of a file in the embedded Config Database
    #[arg(long, value_name = "FILE")]
    pub(crate) import: Option<PathBuf>,
    /// How far back the first plan of a job reaches that has never been planned, as 24h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) look_back: Option<Duration>,
}

#[derive(Args)]
pub(crate) struct SimulateOptions {
    /// Made-up users, so many; without this or --file, those of the Config Database
    #[arg(long, value_name = "N", conflicts_with = "file")]
    pub(crate) users: Option<usize>,
    /// The users of a file of preferences, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How many days
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub(crate) days: u32,
    /// The first instant (RFC 3339); the beginning of this UTC day unless given
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<DateTime<Utc>>,
    /// The job; the first that follows preferences unless given
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// Spread the users of a slot over so many minutes; as the job says unless given
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(0..=1440))]
    pub(crate) spread: Option<u32>,
    /// Items running at once
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
    /// How long an item takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) item_ms: u32,
    /// Which made-up users
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write a page with a chart
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct TriggerOptions {
    /// The job
    pub(crate) job: JobId,
    /// Only for this tenant; may be given several times
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Vec<TenantId>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Reference {
    /// The settings, with defaults, as a table in Markdown
    Settings,
    /// The agent's HTTP API, as OpenAPI in JSON
    Agent,
    /// The Config Database's HTTP API, as OpenAPI in JSON
    ConfigDatabase,
}

#[derive(Args)]
pub(crate) struct BackfillOptions {
    /// The job
    pub(crate) job: JobId,
    /// The first date, YYYY-MM-DD, in each tenant's zone
    #[arg(long, value_name = "DATE")]
    pub(crate) from: NaiveDate,
    /// The last date, YYYY-MM-DD
    #[arg(long, value_name = "DATE")]
    pub(crate) to: NaiveDate,
    /// Only for this tenant; may be given several times
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Vec<TenantId>,
    /// Only count what would run
    #[arg(long)]
    pub(crate) preview: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ExplainOptions {
    /// Whose run
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: TenantId,
    /// Of which job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: JobId,
    /// On which date, where the tenant is; today unless given
    #[arg(long, value_name = "DATE")]
    pub(crate) date: Option<NaiveDate>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["preference", "tenant", "stdin"]))]
pub(crate) struct PreviewOptions {
    /// A preference as JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) preference: Option<String>,
    /// A tenant of the Config Database
    #[arg(long, value_name = "ID", requires = "feature")]
    pub(crate) tenant: Option<TenantId>,
    /// The feature of that tenant
    #[arg(long, value_name = "FEATURE", requires = "tenant")]
    pub(crate) feature: Option<FeatureType>,
    /// Many: reads lines {"id","preference","from","count"}, writes lines {"id","occurrences"|"error"}
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Show occurrences strictly after this instant (RFC 3339); now unless given
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<DateTime<Utc>>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) count: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
