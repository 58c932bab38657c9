//! The backend of `customerInvoice`: customers, orders and invoices over HTTP, with a PostgreSQL of its own that outlives it.
//!
//!     cargo run --package pgpersist-rust-service [-- pgpersist.toml]
//!
//! [`service`] is the order of its life. What stands below it: [`cluster_user`], what becomes of root; [`listener`], connections
//! and their limits; [`routes`], the table of paths; [`probes`], the agent's pages; [`customers`], [`orders`] and [`invoices`],
//! one file a path, on [`pool`], sessions that may break at any time, and [`failure`], what is answered then; [`migrations`], the
//! schema; [`money`], exact rupees; [`log`], lines.

mod cluster_user;
mod customers;
mod failure;
mod invoices;
mod listener;
mod log;
mod migrations;
mod money;
mod orders;
mod pool;
mod probes;
mod requests;
mod routes;
mod service;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use pgpersist_core::config::load::Config;
use pgpersist_core::config::sources::Sources;
use pgpersist_core::pg::log_line::Severity;
use pgpersist_core::{Error, Result};

/// The configuration that is used where none is named.
const DEFAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pgpersist.toml");

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    log::say(Severity::Fatal, &error.to_string());
    for cause in error.causes() {
        log::say(Severity::Fatal, &format!("caused by: {cause}"));
    }
    if let Some(remedy) = error.remedy() {
        log::say(Severity::Fatal, &format!("remedy: {remedy}"));
    }
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    let file = std::env::args_os().nth(1).map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from);
    let here = std::env::current_dir().map_err(|error| Error::file("find", Path::new("."), error))?;
    let sources = Sources::gather(Some(&file), std::env::vars_os(), &here, Vec::new())?;
    let config = Config::load(&sources)?;
    // Before there is any other thread.
    cluster_user::settle(&sources, &config)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Error::Bug(format!("there are no threads: {error}")))?;
    let outcome = runtime.block_on(service::run(&config));
    // Something that hangs on a dead volume must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
