//! Which subcommand runs which file. Each file has the options of its command beside its code.

mod completions;
mod config;
mod init;
mod restart;
mod start;
mod status;
mod stop;

use clap::Subcommand;

use crate::args::Format;
use crate::context::Context;
use crate::exit::Exit;
use crate::privileges::{AsRoot, Place};
use pgpersist_core::config::sources::Flag;
use pgpersist_core::error::Result;

/// Every subcommand that exists. One whose code is not there is not here either.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    Status(status::Args),
    Config(config::Args),
    Completions(completions::Args),
}

/// The formats of most commands.
const TEXT_AND_JSON: &[Format] = &[Format::Text, Format::Json];

impl Command {
    /// Whether a word names one.
    pub(crate) fn exists(word: &str) -> bool {
        Self::has_subcommand(word)
    }

    /// Runs it. What waits for processes or networks goes through [`crate::runtime::block_on`].
    pub(crate) fn run(&self, context: &Context) -> Result<Exit> {
        match self {
            Self::Init(args) => init::run(args, context),
            Self::Start(args) => start::run(args, context),
            Self::Stop(args) => stop::run(args, context),
            Self::Restart(args) => restart::run(args, context),
            Self::Status(args) => status::run(args, context),
            Self::Config(args) => config::run(args, context),
            Self::Completions(args) => completions::run(args, context),
        }
    }

    /// The command's own options that set a key of the configuration, such as `prune --keep-days`.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        Vec::new()
    }

    /// The formats it knows.
    pub(crate) fn formats(&self) -> &'static [Format] {
        TEXT_AND_JSON
    }

    /// What becomes of root.
    pub(crate) fn as_root(&self) -> AsRoot {
        match self {
            Self::Config(_) | Self::Completions(_) => AsRoot::Stay,
            Self::Init(args) if args.allow_ephemeral => AsRoot::Continue(&[Place::DataAnywhere, Place::Store, Place::Log]),
            Self::Init(_) => AsRoot::Continue(&[Place::Data, Place::Store, Place::Log]),
            Self::Start(_) | Self::Restart(_) => AsRoot::Continue(&[Place::Log]),
            Self::Stop(_) | Self::Status(_) => AsRoot::Continue(&[]),
        }
    }
}
