//! Which subcommand runs which file. Each file has the options of its command beside its code.

mod backup;
mod completions;
mod config;
mod drill;
mod dump;
mod export;
mod fence;
mod health;
mod init;
mod lifecycle;
mod list;
mod listed_backup;
mod load;
mod migrate;
mod prune;
mod report;
mod restart;
mod restore;
mod run;
mod start;
mod status;
mod stop;
mod store;
mod sync;
mod temp;
mod verify;

use clap::Subcommand;

use crate::args::Format;
use crate::context::{Context, Reading};
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
    Run(run::Args),
    Fence(fence::FenceArgs),
    Unfence(fence::UnfenceArgs),
    Health(health::Args),
    Report(report::Args),
    Migrate(migrate::Args),
    Dump(dump::Args),
    Load(load::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Export(export::Args),
    List(list::Args),
    Show(list::ShowArgs),
    Verify(verify::Args),
    Prune(prune::Args),
    Sync(sync::Args),
    Drill(drill::Args),
    Store(store::Args),
    Temp(temp::Args),
    Config(config::Args),
    Completions(completions::Args),
}

/// The formats of most commands.
pub(crate) const TEXT_AND_JSON: &[Format] = &[Format::Text, Format::Json];

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
            Self::Run(args) => run::run(args, context),
            Self::Fence(args) => fence::fence(args, context),
            Self::Unfence(args) => fence::unfence(args, context),
            Self::Health(args) => health::run(args, context),
            Self::Report(args) => report::run(args, context),
            Self::Migrate(args) => migrate::run(args, context),
            Self::Dump(args) => dump::run(args, context),
            Self::Load(args) => load::run(args, context),
            Self::Backup(args) => backup::run(args, context),
            Self::Restore(args) => restore::run(args, context),
            Self::Export(args) => export::run(args, context),
            Self::List(args) => list::run(args, context),
            Self::Show(args) => list::show(args, context),
            Self::Verify(args) => verify::run(args, context),
            Self::Prune(args) => prune::run(args, context),
            Self::Sync(args) => sync::run(args, context),
            Self::Drill(args) => drill::run(args, context),
            Self::Store(args) => args.run(context),
            Self::Temp(args) => temp::run(args, context),
            Self::Config(args) => config::run(args, context),
            Self::Completions(args) => completions::run(args, context),
        }
    }

    /// Whether it is made to be the first process of a container.
    pub(crate) fn is_a_containers(&self) -> bool {
        matches!(self, Self::Run(_))
    }

    /// The command's own options that set a key of the configuration, such as `prune --keep-days`.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        match self {
            Self::Migrate(args) => args.flags(),
            Self::Prune(args) => args.flags(),
            Self::Store(args) => args.flags(),
            _ => Vec::new(),
        }
    }

    /// What its options say of what is encrypted.
    pub(crate) fn reading(&self) -> Reading {
        match self {
            Self::Load(args) => args.reading(),
            Self::Verify(args) => args.reading(),
            Self::Drill(args) => args.reading(),
            Self::Init(args) => args.reading(),
            Self::Store(args) => args.reading(),
            Self::List(args) => args.reading(),
            Self::Restore(args) => args.reading(),
            Self::Export(args) => args.reading(),
            _ => Reading::default(),
        }
    }

    /// The formats it knows.
    pub(crate) fn formats(&self) -> &'static [Format] {
        match self {
            Self::Health(_) => &[Format::Text, Format::Json, Format::Prometheus, Format::Nagios],
            Self::Report(_) => &[Format::Text, Format::Json, Format::Markdown, Format::Html],
            _ => TEXT_AND_JSON,
        }
    }

    /// Whether it changes nothing anyway, so that its dry run is told without running it.
    pub(crate) fn only_looks(&self) -> bool {
        match self {
            Self::Status(_) | Self::Health(_) | Self::List(_) | Self::Show(_) | Self::Verify(_) => true,
            Self::Config(_) | Self::Completions(_) => true,
            Self::Drill(args) => args.only_looks(),
            Self::Store(args) => args.only_looks(),
            _ => false,
        }
    }

    /// What becomes of root.
    pub(crate) fn as_root(&self) -> AsRoot {
        match self {
            // The command that `temp` runs is the caller's own; only the server becomes another user.
            Self::Config(_) | Self::Completions(_) | Self::Temp(_) => AsRoot::Stay,
            Self::Run(args) if args.allow_ephemeral => AsRoot::ContinueOnPlan(&[Place::Store, Place::Log, Place::DataAnywhere]),
            Self::Run(_) => AsRoot::ContinueOnPlan(&[Place::Store, Place::Log, Place::Data]),
            Self::Init(args) if args.allow_ephemeral => AsRoot::ContinueOnPlan(&[Place::Store, Place::Log, Place::DataAnywhere]),
            Self::Init(_) => AsRoot::ContinueOnPlan(&[Place::Store, Place::Log, Place::Data]),
            Self::Start(_) | Self::Restart(_) => AsRoot::Continue(&[Place::Log]),
            Self::Migrate(_) => AsRoot::ContinueOnPlan(&[Place::DataAnywhere, Place::Log]),
            Self::Restore(_) => AsRoot::ContinueOnPlan(&[Place::Data]),
            Self::Backup(_) | Self::Dump(_) | Self::Sync(_) => AsRoot::ContinueOnPlan(&[Place::Store]),
            Self::Store(args) => args.as_root(),
            _ => AsRoot::Continue(&[]),
        }
    }
}
