//! Command-line arguments.

mod examples;
mod values;

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use punctual_application::Role;
use punctual_domain::{
    AfterRestore, BatchStatus, EmailAddress, FailureKind, FeatureType, ItemStatus, JobId,
    RestoreChoice, TenantId,
};
use punctual_web::shell::Shell;
use uuid::Uuid;

use self::values::{batch_id, date, dead_letter_id, duration, instant, whole_number, word};

/// Runs every user's recurring work at the time, and in the way, that user chose.
#[derive(Parser)]
#[command(version, after_help = examples::AGENT)]
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
    #[command(after_help = examples::RUN)]
    Run(RunOptions),
    /// Write a first job, its purpose and its template
    #[command(after_help = examples::INIT)]
    Init {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check jobs, purposes and templates, and report every mistake at once
    #[command(after_help = examples::CHECK)]
    Check {
        /// Print the mistakes as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is wrong, the jobs, the running batches and the Config Database; requires a running agent
    #[command(after_help = examples::STATUS)]
    Status(StatusOptions),
    /// End with 0 if the agent on this machine is alive and with 1 if it is not, as a health check does; requires no key
    #[command(after_help = examples::HEALTH)]
    Health,
    /// List the jobs with their state and next run; requires a running agent
    #[command(after_help = examples::JOBS)]
    Jobs(JobsOptions),
    /// List batches, newest first, or show one; requires a running agent
    #[command(after_help = examples::BATCHES)]
    Batches(BatchesOptions),
    /// Print the results of a batch or a tenant; requires a running agent
    #[command(after_help = examples::RESULTS)]
    Results(ResultsOptions),
    /// Explain why a tenant ran, will run or did not run; requires a running agent
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainOptions),
    /// Run a job now, for all or some of its tenants; requires a running agent
    #[command(after_help = examples::TRIGGER)]
    Trigger(TriggerOptions),
    /// Run the missed occurrences of past dates; requires a running agent
    #[command(after_help = examples::BACKFILL)]
    Backfill(BackfillOptions),
    /// Pause a job until it is resumed; requires a running agent
    #[command(after_help = examples::PAUSE)]
    Pause(JobOptions),
    /// Resume a paused job with the occurrences due from now on; requires a running agent
    #[command(after_help = examples::RESUME)]
    Resume(JobOptions),
    /// Cancel a batch, skipping the items that have not begun; requires a running agent
    #[command(after_help = examples::CANCEL)]
    Cancel(CancelOptions),
    /// List, replay or discard dead letters (items that failed for good); requires a running agent
    #[command(subcommand, after_help = examples::DEAD_LETTERS)]
    DeadLetters(DeadLetters),
    /// List the deliveries of results that fail or were given up; requires a running agent
    #[command(after_help = examples::DELIVERIES)]
    Deliveries {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the items whose work goes on elsewhere; requires a running agent
    #[command(after_help = examples::WAITING)]
    Waiting(WaitingOptions),
    /// List unusable preferences with the reasons; requires a running agent
    #[command(after_help = examples::QUARANTINE)]
    Quarantine {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List, add or remove addresses that no e-mail is sent to; requires a running agent
    #[command(subcommand, after_help = examples::SUPPRESSIONS)]
    Suppressions(Suppressions),
    /// Show how long what has run is kept, and what would be removed now; requires a running agent
    #[command(after_help = examples::RETENTION)]
    Retention {
        /// Only look, which is what the command does anyway
        #[arg(long)]
        preview: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Test the channels that alerts go out by; requires a running agent
    #[command(subcommand, after_help = examples::ALERTS)]
    Alerts(Alerts),
    /// Write everything that the agent holds of a tenant as JSON; requires a running agent
    #[command(after_help = examples::EXPORT)]
    Export {
        /// Tenant id
        tenant: TenantId,
        /// Write to this file, which must not exist (default: standard output)
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Erase everything that the agent holds of a tenant; requires a running agent
    #[command(after_help = examples::ERASE)]
    Erase(EraseOptions),
    /// List, add or revoke API keys of operators; requires a running agent
    #[command(subcommand, after_help = examples::KEYS)]
    Keys(Keys),
    /// List the actions of operators, newest first; requires a running agent
    #[command(after_help = examples::AUDIT_LOG)]
    AuditLog(AuditLogOptions),
    /// Show the next occurrences of a preference, or what a run would send for a tenant
    #[command(after_help = examples::PREVIEW)]
    Preview(PreviewOptions),
    /// Simulate days in virtual time, and show when users fall due and how long they wait
    #[command(after_help = examples::SIMULATE)]
    Simulate(SimulateOptions),
    /// Copy the `SQLite` store in `BATCH_STORE_URL` to an empty `PostgreSQL` database; stop the agent first
    #[command(after_help = examples::MOVE_STORE)]
    MoveStore {
        /// Database URL, e.g. `postgres://user@host/database`; put the password in PGPASSWORD or ~/.pgpass
        #[arg(long, value_name = "URL")]
        to: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy the `SQLite` store to a file and check the copy, while the agent runs
    #[command(after_help = examples::BACKUP)]
    Backup(BackupOptions),
    /// Decide about a store that was restored from an older copy, or show what it lacks; requires a running agent
    #[command(after_help = examples::RESTORE)]
    Restore(RestoreOptions),
    /// Compare rules of time zones: which zones change, and when
    #[command(subcommand, after_help = examples::ZONES)]
    Zones(Zones),
    /// Print the reference of the settings, of the metrics or of an HTTP API
    #[command(after_help = examples::REFERENCE)]
    Reference {
        /// Subject of the reference
        what: Reference,
    },
    /// Print a script that completes commands and options in a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// Shell
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands
    #[command(after_help = examples::MAN)]
    Man {
        /// Write a page for each command into this folder
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
}

impl Command {
    /// Whether it reads jobs or preferences itself. The others ask the running agent, or copy its files.
    pub(crate) fn needs_zone_rules(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Init { .. }
                | Self::Check { .. }
                | Self::Preview(_)
                | Self::Simulate(_)
                | Self::Zones(_)
        )
    }
}

#[derive(Args)]
pub(crate) struct StatusOptions {
    /// Keep showing the state until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct JobsOptions {
    /// Only this job
    pub(crate) job: Option<JobId>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct BatchesOptions {
    /// Only this batch
    #[arg(value_parser = batch_id, conflicts_with_all = ["job", "status", "limit"])]
    pub(crate) batch: Option<Uuid>,
    /// Only batches of this job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// Only batches in this status
    #[arg(long, value_name = "STATUS", value_parser = word::<BatchStatus>(BatchStatus::WORDS))]
    pub(crate) status: Option<BatchStatus>,
    /// Number of batches
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = whole_number(1..=100_000_usize))]
    pub(crate) limit: usize,
    /// Keep showing the batches until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `pause` and `resume` take.
#[derive(Args)]
pub(crate) struct JobOptions {
    /// Job id
    pub(crate) job: JobId,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct CancelOptions {
    /// Batch id
    #[arg(value_parser = batch_id)]
    pub(crate) batch: Uuid,
    /// Cancel without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct AuditLogOptions {
    /// Number of entries
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = whole_number(1..=100_000_usize))]
    pub(crate) limit: usize,
    /// Print all entries as JSON, one object per line; requires the role administer
    #[arg(long, conflicts_with_all = ["limit", "json"])]
    pub(crate) export: bool,
    /// Only entries since this date (YYYY-MM-DD, in UTC)
    #[arg(long, value_name = "DATE", requires = "export", value_parser = date)]
    pub(crate) since: Option<NaiveDate>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct WaitingOptions {
    /// Only items of this job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// Only this tenant
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
    /// Only items of this batch
    #[arg(long, value_name = "ID", value_parser = batch_id)]
    pub(crate) batch: Option<Uuid>,
    /// Number of calls
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = whole_number(1..=100_000_usize))]
    pub(crate) limit: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Suppressions {
    /// List the addresses with their reasons, newest first
    #[command(after_help = examples::SUPPRESSIONS_LIST)]
    List {
        /// Number of addresses
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = whole_number(1..=100_000_usize))]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send no e-mail to these addresses
    #[command(after_help = examples::SUPPRESSIONS_ADD)]
    Add {
        /// Addresses
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<EmailAddress>,
        /// Why nothing is to be sent to them
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send e-mails to an address again
    #[command(after_help = examples::SUPPRESSIONS_REMOVE)]
    Remove {
        /// Address
        address: EmailAddress,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct EraseOptions {
    /// Tenant id
    pub(crate) tenant: TenantId,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Erase without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Alerts {
    /// Send a test by every channel, and show what each answered
    #[command(after_help = examples::ALERTS_TEST)]
    Test {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Keys {
    /// List active keys (secrets are not shown)
    #[command(after_help = examples::KEYS_LIST)]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a key for an operator, and show it once
    #[command(after_help = examples::KEYS_ADD)]
    Add {
        /// Name by which the audit log names who uses the key
        name: String,
        /// What the key may do
        #[arg(long, value_name = "ROLE", value_parser = word::<Role>(&["view", "operate", "administer"]))]
        role: Role,
        /// Days until the key expires (default: it does not)
        #[arg(long, value_name = "DAYS", value_parser = whole_number(1..=3_650_u32))]
        expires_in: Option<u32>,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key; sessions that began with it end
    #[command(after_help = examples::KEYS_REVOKE)]
    Revoke {
        /// Name of the key
        name: String,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum DeadLetters {
    /// List dead letters, newest first
    #[command(after_help = examples::LIST)]
    List {
        /// Only dead letters of this job
        #[arg(long, value_name = "JOB")]
        job: Option<JobId>,
        /// Only dead letters of this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<TenantId>,
        /// Only failures of this kind
        #[arg(long, value_name = "KIND", value_parser = word::<FailureKind>(FailureKind::WORDS))]
        failure_kind: Option<FailureKind>,
        /// Include replayed and discarded dead letters
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Replay dead letters (run their items again)
    #[command(after_help = examples::REPLAY)]
    Replay(ReplayOptions),
    /// Discard dead letters
    #[command(after_help = examples::DISCARD)]
    Discard(DiscardOptions),
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["id", "job", "tenant", "failure_kind", "all"]))]
pub(crate) struct LetterSelection {
    /// Dead letter ids
    #[arg(value_name = "ID", value_parser = dead_letter_id, conflicts_with_all = ["job", "tenant", "failure_kind", "all"])]
    pub(crate) id: Vec<i64>,
    /// All open dead letters of this job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// All open dead letters of this tenant
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<TenantId>,
    /// All open dead letters of failures of this kind
    #[arg(long, value_name = "KIND", value_parser = word::<FailureKind>(FailureKind::WORDS))]
    pub(crate) failure_kind: Option<FailureKind>,
    /// All open dead letters
    #[arg(long, conflicts_with_all = ["job", "tenant", "failure_kind"])]
    pub(crate) all: bool,
}

#[derive(Args)]
pub(crate) struct ReplayOptions {
    #[command(flatten)]
    pub(crate) which: LetterSelection,
    /// Idempotency key: repeating the call with it within 24 hours replays nothing twice
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Replay all of a job, of a tenant or of all without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Wait until the batches are over
    #[arg(long)]
    pub(crate) wait: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct DiscardOptions {
    #[command(flatten)]
    pub(crate) which: LetterSelection,
    /// Discard without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("of").required(true).args(["batch", "tenant"]))]
pub(crate) struct ResultsOptions {
    /// Results of this batch
    #[arg(long, value_name = "BATCH", value_parser = batch_id)]
    pub(crate) batch: Option<Uuid>,
    /// Results of this tenant, newest first
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<TenantId>,
    /// Only results with this status
    #[arg(long, value_name = "STATUS", requires = "batch", value_parser = word::<ItemStatus>(ItemStatus::WORDS))]
    pub(crate) status: Option<ItemStatus>,
    /// Print JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Default)]
pub(crate) struct RunOptions {
    /// Import the preferences in this file into the embedded Config Database before the start
    #[arg(long, value_name = "FILE")]
    pub(crate) import: Option<PathBuf>,
    /// Look-back window for a job's first run, e.g. `24h`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) look_back: Option<Duration>,
    /// When the agent is ready, write its addresses to this file or pipe, as one line of JSON
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
    /// What to do when the store turns out to be an older copy, in place of `BATCH_AFTER_RESTORE`
    #[arg(long, value_name = "CHOICE", value_parser = word::<AfterRestore>(AfterRestore::WORDS))]
    pub(crate) after_restore: Option<AfterRestore>,
}

#[derive(Subcommand)]
pub(crate) enum Zones {
    /// List the zones whose clocks differ by the rules in a folder
    #[command(after_help = examples::ZONES)]
    Diff(ZonesDiffOptions),
}

#[derive(Args)]
pub(crate) struct ZonesDiffOptions {
    /// Folder with the new rules, as `/usr/share/zoneinfo`, or `system`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: PathBuf,
    /// Folder with the old rules (default: those in effect)
    #[arg(long, value_name = "FOLDER")]
    pub(crate) from: Option<PathBuf>,
    /// Number of days from now on that are compared
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = whole_number(1..=3_660_u32))]
    pub(crate) days: u32,
    /// Maximum number of users listed per zone whose runs move (default: 3; with --json: 1000)
    #[arg(long, value_name = "N", value_parser = whole_number(0..=10_000_usize))]
    pub(crate) users: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct BackupOptions {
    /// File of the copy of the store in `BATCH_STORE_URL`; it must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Also copy the store of the embedded Config Database, in `CONFIG_STORE_URL`, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) config_to: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct RestoreOptions {
    /// What becomes of what fell due in the lost time; without it, show what is lost
    #[arg(value_parser = word::<RestoreChoice>(RestoreChoice::WORDS))]
    pub(crate) choice: Option<RestoreChoice>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct SimulateOptions {
    /// Simulate this many generated users (default: the users in the Config Database)
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = whole_number(0..=100_000_000_usize))]
    pub(crate) users: Option<usize>,
    /// Simulate the users in this preference file (one JSON object per line)
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Number of days to simulate
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = whole_number(1..=366_u32))]
    pub(crate) days: u32,
    /// Start of the simulation (RFC 3339; default: the start of today in UTC)
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Job id (default: the first job that follows preferences)
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<JobId>,
    /// Spread the users of a slot over this many minutes (default: the setting of the job)
    #[arg(long, value_name = "MINUTES", value_parser = whole_number(0..=1440_u32))]
    pub(crate) spread: Option<u32>,
    /// Number of items that run at once
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = whole_number(1..=1_000_000_000_u32))]
    pub(crate) concurrency: u32,
    /// Duration of an item, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = whole_number(1..=1_000_000_000_u32))]
    pub(crate) item_ms: u32,
    /// Seed of the generated users
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = whole_number(0..=u64::MAX))]
    pub(crate) seed: u64,
    /// Write an HTML page with a chart to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
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
    /// Run for all tenants without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Wait until the batch is over
    #[arg(long)]
    pub(crate) wait: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub(crate) struct BackfillOptions {
    /// Job id
    pub(crate) job: JobId,
    /// First date (YYYY-MM-DD, in each tenant's time zone)
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(crate) from: NaiveDate,
    /// Last date (YYYY-MM-DD, inclusive)
    #[arg(long, value_name = "DATE", value_parser = date)]
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
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    pub(crate) preview: bool,
    /// Run for all tenants without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Wait until the batches are over
    #[arg(long)]
    pub(crate) wait: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
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
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(crate) date: Option<NaiveDate>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).args(["preference", "tenant", "stdin"]),
    group = clap::ArgGroup::new("of_tenant").args(["feature", "job"]),
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub(crate) struct PreviewOptions {
    /// Preference as JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) preference: Option<String>,
    /// Tenant in the Config Database
    #[arg(long, value_name = "ID", requires = "of_tenant")]
    pub(crate) tenant: Option<TenantId>,
    /// Feature of that tenant
    #[arg(long, value_name = "FEATURE", requires = "tenant")]
    pub(crate) feature: Option<FeatureType>,
    /// Job whose run for that tenant is rendered
    #[arg(long, value_name = "JOB", requires_all = ["tenant", "render"])]
    pub(crate) job: Option<JobId>,
    /// Show what a run would send now, and send nothing; requires a running agent
    #[arg(long, requires_all = ["tenant", "job"], conflicts_with_all = ["from", "count"])]
    pub(crate) render: bool,
    /// Call the webhook or the language model, with the header Punctual-Dry-Run: 1, or run the program, with
    /// `PUNCTUAL_DRY_RUN=1`; what ignores the mark does its work
    #[arg(long, requires = "render")]
    pub(crate) call: bool,
    /// Preview many preferences: reads lines {"id","preference","from","count"} from standard input, writes lines
    /// {"id","occurrences"|"error"}
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Show occurrences strictly after this instant (RFC 3339; default: now)
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Number of occurrences
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole_number(1..=10_000_u32))]
    pub(crate) count: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// A command and all below it.
    fn all(command: &clap::Command) -> Vec<clap::Command> {
        let below = command.get_subcommands().flat_map(all);
        [command.clone()].into_iter().chain(below).collect()
    }

    /// The words of a line, as a shell reads them: what is in single quotes is one word, and a redirection is none.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (place, part) in line.split('\'').enumerate() {
            if place % 2 == 1 {
                words.push(part.to_owned());
            } else {
                let part = part
                    .split_once(['<', '>'])
                    .map_or(part, |(before, _)| before);
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }

    #[test]
    fn every_command_has_examples_and_every_example_is_understood() {
        for command in all(&Cli::command()) {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_else(|| panic!("{} has no examples", command.get_name()));
            let examples: Vec<&str> = help
                .lines()
                .filter(|line| line.starts_with("  punctual-agent "))
                .collect();
            assert!(!examples.is_empty(), "{help}");
            for example in examples {
                let read = Cli::try_parse_from(words(example));
                assert!(read.is_ok(), "{example}: {}", read.err().unwrap());
            }
        }
    }

    #[test]
    fn help_fits_a_narrow_terminal() {
        for command in all(&Cli::command()) {
            for width in [80, 40] {
                let mut command = command.clone().term_width(width);
                let help = command.render_long_help().to_string();
                let (usage_and_options, _) = help.split_once("Examples:").unwrap();
                for line in usage_and_options
                    .lines()
                    .filter(|line| !line.contains("Usage:"))
                {
                    // A word that is longer than the rest of the line stands as it is.
                    let words = line.split_whitespace().count();
                    let fits = line.chars().count() <= width || words <= 2;
                    assert!(fits, "{}: {line}", command.get_name());
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_words_of_a_parser() {
        for (line, expected) in [
            ("cancel 1234", "expected the id of a batch, e.g. "),
            (
                "explain --tenant ann --job j --date yesterday",
                "expected a date, e.g. 2026-",
            ),
            (
                "backfill j --from 2026-13-01 --to 2026-01-02",
                "expected a date",
            ),
            ("preview --stdin --from noon", "expected an instant, e.g. "),
            (
                "preview --stdin --count many",
                "expected a whole number from 1 to 10000",
            ),
            (
                "run --look-back soon",
                "expected a length of time, e.g. 24h",
            ),
            (
                "results --batch 9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10 --status nonsense",
                "[possible values: running, waiting, succeeded, failed, nothing_to_do, skipped]",
            ),
            (
                "batches --status done",
                "[possible values: queued, running, completed, cancelled]",
            ),
            (
                "dead-letters replay seventeen",
                "expected the number of a dead letter, e.g. 17",
            ),
            ("simulate --users none", "expected a whole number from 0 to"),
            ("simulate --days 0", "expected a whole number from 1 to 366"),
        ] {
            let words = ["punctual-agent"].into_iter().chain(line.split(' '));
            let error = Cli::try_parse_from(words).err().unwrap().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
