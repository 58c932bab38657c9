//! `store`: what concerns a store as a whole. `check` finds out what it can do, `key` are the keys that open what is encrypted in it.

mod check;
mod key;

use clap::Subcommand;

use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::privileges::{AsRoot, Place};
use pgpersist_core::config::sources::Flag;
use pgpersist_core::error::Result;

/// Look after a store: what it can do, and the keys that open what is encrypted in it
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist store check s3://acme-backups/prod")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(check::Args),
    Key(key::Args),
}

impl Args {
    pub(super) fn run(&self, context: &Context) -> Result<Exit> {
        match &self.action {
            Action::Check(args) => check::run(args, context),
            Action::Key(args) => args.run(context),
        }
    }

    pub(super) fn only_looks(&self) -> bool {
        match &self.action {
            Action::Check(_) => false,
            Action::Key(args) => args.only_looks(),
        }
    }

    pub(super) fn as_root(&self) -> AsRoot {
        match &self.action {
            Action::Check(_) => AsRoot::ContinueOnPlan(&[Place::Store]),
            Action::Key(args) => args.as_root(),
        }
    }

    pub(super) fn flags(&self) -> Vec<Flag> {
        match &self.action {
            Action::Check(args) => args.flags(),
            Action::Key(_) => Vec::new(),
        }
    }

    pub(super) fn reading(&self) -> Reading {
        match &self.action {
            Action::Check(_) => Reading::default(),
            Action::Key(args) => args.reading(),
        }
    }
}
