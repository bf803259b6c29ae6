//! Command-line arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use punctual_config_database::{Reason, Scope};
use punctual_domain::TenantId;
use punctual_web::shell::Shell;

/// Stores the preferences of every tenant and serves them over HTTP.
#[derive(Parser)]
#[command(version, after_help = SETTINGS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const SETTINGS: &str = "\
Settings, from the environment:
  CONFIG_STORE_URL          sqlite://var/config.db (default) or postgres://…
  CONFIG_HTTP_ADDR          address to listen on (default: 127.0.0.1:8000)
  CONFIG_SERVICE_API_KEY    administrator's key
  CONFIG_KEEP_HISTORY_DAYS  days for which earlier versions of preferences are
                            kept (default: 365)
  CONFIG_TZDB_DIR           folder with zone rules in place of the built-in ones,
                            as /usr/share/zoneinfo, or system; give the agents
                            the same
  BATCH_LOG                 filter of the log, such as info or warn
  BATCH_LOG_FORMAT          text (default) or json
To embed the pages:
  CONFIG_EMBED_ORIGINS      sites that may, such as https://shop.example
  CONFIG_LINK_KEYS          keys that sign links, as id:secret
  CONFIG_PUBLIC_URL         address of the pages in browsers
  CONFIG_SITE_NAME          name on the pages
  CONFIG_SITE_LOGO          file with the logo beside it
To show past runs on the pages:
  CONFIG_AGENT_URLS         agents, such as http://127.0.0.1:8080
  CONFIG_AGENT_API_KEY      key for them

Exit codes: 0 done; 1 it could not be done, or failed; 2 the input is wrong.";

#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Service(ServiceCommand),
    #[command(flatten)]
    Shell(ShellCommand),
}

// The commands that read the settings. A doc comment would become the description of the program.
#[derive(Subcommand)]
pub(crate) enum ServiceCommand {
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
        /// Erase without asking
        #[arg(long)]
        yes: bool,
    },
    /// Print everything that is held of a tenant, as JSON
    Export {
        /// Tenant to export
        tenant: TenantId,
    },
    /// Show what is older than it is kept, and goes within the hour while the service runs
    Retention,
}

impl ServiceCommand {
    /// Whether it reads preferences, whose time zones have to be those of the agents.
    pub(crate) fn needs_zone_rules(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Import { .. })
    }
}

// The commands that work without settings.
#[derive(Subcommand)]
pub(crate) enum ShellCommand {
    /// Print a script that completes commands and options in a shell
    Completions {
        /// Shell
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands
    Man {
        /// Write a page for each command into this folder
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
}

#[derive(Args, Default)]
pub(crate) struct ServeOptions {
    /// When the service is ready, write its address to this file or pipe, as one line of JSON
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Keys {
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
