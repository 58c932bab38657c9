//! `store`: what concerns a store as such.

mod check;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use pgpersist_core::error::Result;

/// Find out whether a store is good for us
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist store check s3://acme-backups/prod")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(check::Args),
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    match &args.action {
        Action::Check(args) => check::run(args, context),
    }
}
