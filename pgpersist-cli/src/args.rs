//! The options that mean the same everywhere, and the tree of commands that hangs below them.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::commands::Command;
use pgpersist_core::error::{Error, Result};

const EVERYWHERE: &str = "Options that every command knows";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "pgpersist",
    version,
    about = "Makes a PostgreSQL cluster outlive the machine it runs on",
    before_help = "Example:\n  pgpersist init -D /app/pgdata --store /app/backups/postgres && pgpersist start -D /app/pgdata",
    after_help = "Exit codes: 0 done, 3 done with warnings, 2 invalid, 4 not found,\n5 unsafe or in conflict, 6 unavailable, 7 damaged, 1 denied and all else,\n130 cancelled",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How a command's result is written to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One document, whose fields are promised.
    Json,
    /// Prometheus' text format; `health` alone.
    Prometheus,
    /// One line, with the exit codes of Nagios; `health` alone.
    Nagios,
    /// A page in Markdown; `report` alone.
    Markdown,
    /// A page in HTML; `report` alone.
    Html,
}

/// The options with the same meaning everywhere.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = EVERYWHERE)]
pub(crate) struct Common {
    /// The configuration file; else PGPERSIST_CONFIG, ./pgpersist.toml, /etc/pgpersist/pgpersist.toml
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERYWHERE)]
    pub(crate) config: Option<PathBuf>,
    /// The data directory; else the configuration's, else PGDATA
    #[arg(short = 'D', long, global = true, value_name = "DIR", help_heading = EVERYWHERE)]
    pub(crate) data_directory: Option<PathBuf>,
    /// The store: a path, a URL (file://, s3://, gs://, az://), or the place of a configured one, such as 2; again for copies
    #[arg(long, global = true, value_name = "URL", help_heading = EVERYWHERE)]
    pub(crate) store: Vec<String>,
    /// Write one JSON document to stdout, and an error as one to stderr
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// How to write the result: text or json; health also knows prometheus and nagios, report markdown and html
    #[arg(long, global = true, value_enum, value_name = "FORMAT", hide_possible_values = true, help_heading = EVERYWHERE)]
    pub(crate) format: Option<Format>,
    /// No progress; warnings and errors are still shown
    #[arg(long, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE)]
    pub(crate) quiet: bool,
    /// Every step on a line of its own; with --json none, since stderr is left to the document of an error
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) verbose: bool,
    /// Go on with what destroys or moves something, without asking
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) yes: bool,
    /// Print the plan and change nothing
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) dry_run: bool,
}

impl Common {
    /// The format of the result, where the options agree about it. `--json` is short for `--format json`.
    ///
    /// # Errors
    /// `Invalid` when they contradict each other.
    pub(crate) fn format(&self) -> Result<Format> {
        match (self.json, self.format) {
            (true, Some(format)) if format != Format::Json => {
                Err(Error::invalid("`--json` and `--format` ask for two formats at once", "give one of them; `--json` is `--format json`"))
            }
            (true, _) => Ok(Format::Json),
            (false, format) => Ok(format.unwrap_or(Format::Text)),
        }
    }

    /// Whether the result, and so an error, is to be a JSON document.
    pub(crate) fn wants_json(&self) -> bool {
        self.json || self.format == Some(Format::Json)
    }
}
