//! Command-line arguments.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use punctual_domain::{FeatureType, JobId, TenantId};

/// Runs every user's recurring work at the time, and in the way, that user chose.
///
/// Settings come from environment variables or a settings file with the same names; see docs/reference/settings.md.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// Settings file (TOML or JSON); environment variables take precedence
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Schedule and run jobs until SIGTERM or Ctrl-C (the default)
    Run(RunOptions),
    /// Check jobs, purposes and templates, and report every mistake at once
    Check {
        /// Print the mistakes as JSON
        #[arg(long)]
        json: bool,
    },
    /// Explain why a tenant ran, will run or did not run; requires a running agent
    Explain(ExplainOptions),
    /// Copy the `SQLite` store in `BATCH_STORE_URL` to an empty `PostgreSQL` database; stop the agent first
    MoveStore {
        /// Database URL, e.g. `postgres://user@host/database`; put the password in PGPASSWORD or ~/.pgpass
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Print the reference of the settings, of the metrics or of an HTTP API
    Reference {
        /// Subject of the reference
        what: Reference,
    },
    /// Simulate days in virtual time, and show when users fall due and how long they wait
    Simulate(SimulateOptions),
    /// Run a job now, for all or some of its tenants; requires a running agent
    Trigger(TriggerOptions),
    /// Run the missed occurrences of past dates; requires a running agent
    Backfill(BackfillOptions),
    /// Pause a job until it is resumed; requires a running agent
    Pause {
        /// Job id
        job: JobId,
    },
    /// Resume a paused job with the occurrences due from now on; requires a running agent
    Resume {
        /// Job id
        job: JobId,
    },
    /// Cancel a batch, skipping the items that have not begun; requires a running agent
    Cancel {
        /// Batch id
        batch: uuid::Uuid,
    },
    /// List, replay or discard dead letters (items that failed for good); requires a running agent
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// List unusable preferences with the reasons; requires a running agent
    Quarantine {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the results of a batch or a tenant, one JSON object per line; requires a running agent
    Results(ResultsOptions),
    /// Show the next occurrences of a preference
    Preview(PreviewOptions),
}

#[derive(Subcommand)]
pub(crate) enum DeadLetters {
    /// List dead letters, newest first
    List {
        /// Only dead letters of this job
        #[arg(long, value_name = "JOB")]
        job: Option<JobId>,
        /// Only dead letters of this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<TenantId>,
        /// Include replayed and discarded dead letters
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Replay dead letters (run their items again)
    Replay(ReplayOptions),
    /// Discard dead letters
    Discard(LetterSelection),
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["id", "job", "tenant", "all"]))]
pub(crate) struct LetterSelection {
    /// Dead letter ids
    #[arg(value_name = "ID", conflicts_with_all = ["job", "tenant", "all"])]
    pub(crate) id: Vec<i64>,
    /// All open dead letters of this job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// All open dead letters of this tenant
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<TenantId>,
    /// All open dead letters
    #[arg(long, conflicts_with_all = ["job", "tenant"])]
    pub(crate) all: bool,
}

#[derive(Args)]
pub(crate) struct ReplayOptions {
    #[command(flatten)]
    pub(crate) which: LetterSelection,
    /// Idempotency key: repeating the call with it within 24 hours replays nothing twice
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("of").required(true).args(["batch", "tenant"]))]
pub(crate) struct ResultsOptions {
    /// Results of this batch
    #[arg(long, value_name = "BATCH")]
    pub(crate) batch: Option<uuid::Uuid>,
    /// Results of this tenant, newest first
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
    /// Only results with this status: succeeded, failed or skipped
    #[arg(long, value_name = "STATUS", requires = "batch")]
    pub(crate) status: Option<String>,
}

#[derive(Args, Default)]
pub(crate) struct RunOptions {
    /// Import the preferences in this file into the embedded Config Database before the start
    #[arg(long, value_name = "FILE")]
    pub(crate) import: Option<PathBuf>,
    /// Look-back window for a job's first run, e.g. `24h`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) look_back: Option<Duration>,
    /// When the agent is ready, write its addresses to this file or pipe, as one line of JSON
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct SimulateOptions {
    /// Simulate this many generated users (default: the users in the Config Database)
    #[arg(long, value_name = "N", conflicts_with = "file")]
    pub(crate) users: Option<usize>,
    /// Simulate the users in this preference file (one JSON object per line)
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Number of days to simulate
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub(crate) days: u32,
    /// Start of the simulation (RFC 3339; default: the start of today in UTC)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Job id (default: the first job that follows preferences)
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// Spread the users of a slot over this many minutes (default: the setting of the job)
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(0..=1440))]
    pub(crate) spread: Option<u32>,
    /// Number of items that run at once
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
    /// Duration of an item, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) item_ms: u32,
    /// Seed of the generated users
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write an HTML page with a chart to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct TriggerOptions {
    /// Job id
    pub(crate) job: JobId,
    /// Run only for this tenant; repeatable
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Vec<TenantId>,
    /// Include named tenants without a stored preference, using the job's defaults
    #[arg(long)]
    pub(crate) allow_unknown: bool,
    /// Idempotency key: repeating the call with it within 24 hours returns the same batch
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Reference {
    /// Settings and their defaults, as a Markdown table
    Settings,
    /// Metrics and their labels, as a Markdown table
    Metrics,
    /// HTTP API of the agent, as an `OpenAPI` document (JSON)
    Agent,
    /// HTTP API of the Config Database, as an `OpenAPI` document (JSON)
    ConfigDatabase,
}

#[derive(Args)]
pub(crate) struct BackfillOptions {
    /// Job id
    pub(crate) job: JobId,
    /// First date (YYYY-MM-DD, in each tenant's time zone)
    #[arg(long, value_name = "DATE")]
    pub(crate) from: NaiveDate,
    /// Last date (YYYY-MM-DD, inclusive)
    #[arg(long, value_name = "DATE")]
    pub(crate) to: NaiveDate,
    /// Run only for this tenant; repeatable
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Vec<TenantId>,
    /// Include named tenants without a stored preference, using the job's defaults
    #[arg(long)]
    pub(crate) allow_unknown: bool,
    /// Idempotency key: repeating the call with it within 24 hours enqueues nothing twice
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Count the occurrences without running them
    #[arg(long)]
    pub(crate) preview: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ExplainOptions {
    /// Tenant id
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: TenantId,
    /// Job id
    #[arg(long, value_name = "JOB")]
    pub(crate) job: JobId,
    /// Date in the tenant's time zone (default: today)
    #[arg(long, value_name = "DATE")]
    pub(crate) date: Option<NaiveDate>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["preference", "tenant", "stdin"]))]
pub(crate) struct PreviewOptions {
    /// Preference as JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) preference: Option<String>,
    /// Tenant in the Config Database
    #[arg(long, value_name = "ID", requires = "feature")]
    pub(crate) tenant: Option<TenantId>,
    /// Feature of that tenant
    #[arg(long, value_name = "FEATURE", requires = "tenant")]
    pub(crate) feature: Option<FeatureType>,
    /// Preview many preferences: reads lines {"id","preference","from","count"} from standard input, writes lines
    /// {"id","occurrences"|"error"}
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Show occurrences strictly after this instant (RFC 3339; default: now)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Number of occurrences
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) count: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
