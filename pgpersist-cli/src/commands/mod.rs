//! Which subcommand runs which file. Each file has the options of its command beside its code.

mod completions;
mod config;

use clap::Subcommand;

use crate::args::Format;
use crate::context::Context;
use crate::exit::Exit;
use crate::privileges::AsRoot;
use pgpersist_core::config::sources::Flag;
use pgpersist_core::error::Result;

/// Every subcommand that exists. One whose code is not there is not here either.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
            Self::Config(args) => config::run(args, context),
            Self::Completions(args) => completions::run(args, context),
        }
    }

    /// The command's own options that set a key of the configuration, such as `prune --keep-days`.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        match self {
            Self::Config(_) | Self::Completions(_) => Vec::new(),
        }
    }

    /// The formats it knows.
    pub(crate) fn formats(&self) -> &'static [Format] {
        match self {
            Self::Config(_) | Self::Completions(_) => TEXT_AND_JSON,
        }
    }

    /// What becomes of root.
    pub(crate) fn as_root(&self) -> AsRoot {
        match self {
            Self::Config(_) | Self::Completions(_) => AsRoot::Stay,
        }
    }
}
