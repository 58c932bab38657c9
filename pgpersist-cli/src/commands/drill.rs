//! `drill`: do the real thing to prove it. `crash` kills a server under load; `restore` loads the dumps; `list` shows past
//! drills.

mod restore;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use rustix::fs::Access;
use serde_json::{Value, json};

use crate::cluster;
use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::output::printable;
use crate::runtime;
use pgpersist_core::clock::SystemClock;
use pgpersist_core::configured;
use pgpersist_core::data_directory::DataDirectory;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::state::State;
use pgpersist_core::drill::crash::{self, CrashOptions, MOST_ROUNDS, MOST_WRITERS};
use pgpersist_core::drill::ground::Target;
use pgpersist_core::drill::kill::KillChoice;
use pgpersist_core::drill::report::CrashReport;
use pgpersist_core::drill::{KillKind, Plant, Verdict, history};
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::fs::durable;

/// Prove by doing: kill a server under load and see what it still knows, or load the dumps and see what comes back
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist drill crash --rounds 5 --report drill.md")]
pub(crate) struct Args {
    #[command(subcommand)]
    which: Which,
}

impl Args {
    pub(super) fn reading(&self) -> Reading {
        if let Which::Restore(args) = &self.which { args.reading() } else { Reading::default() }
    }
}

#[derive(Debug, Subcommand)]
enum Which {
    Crash(CrashArgs),
    Restore(restore::RestoreArgs),
    List(ListArgs),
}

/// Kill a server under load with SIGKILL, and look for every acknowledged commit after its recovery
///
/// It runs on a cluster of its own, unless told otherwise. SIGKILL proves crash recovery; it does not prove power loss.
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist drill crash --rounds 5 --report drill.md")]
#[command(after_help = "Exit codes: 0 nothing acknowledged was lost, 7 something is missing or torn, 5 refused")]
struct CrashArgs {
    /// How many kills
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_ROUNDS)))]
    rounds: u32,
    /// How many writers at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_WRITERS)))]
    writers: u32,
    /// What repeats a drill's choices; else drawn, and told in the report
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Whom to kill
    #[arg(long, value_enum, default_value = "mix")]
    kill: Kill,
    /// Drill a copy of the cluster in the data directory, with everything outward switched off
    #[arg(long, conflicts_with = "live")]
    copy: bool,
    /// Drill the running cluster itself: all of its sessions end at each kill; needs --yes
    #[arg(long)]
    live: bool,
    /// Keep the cluster (stopped) and the ledger, to be looked at
    #[arg(long)]
    keep: bool,
    /// Also write the report to this file: .md or .json
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Put a fault in on purpose, to see the drill fail; on a cluster of its own only
    #[arg(long, value_enum, value_name = "FAULT")]
    plant: Option<Fault>,
}

/// Show past drills of the cluster in the data directory, and of its dumps, newest first
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist drill list -D /app/pgdata")]
struct ListArgs {}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kill {
    /// Each of them by turns
    Mix,
    /// The postmaster alone
    Postmaster,
    /// One writer's backend
    Backend,
    /// The postmaster and all of its descendants at once
    Group,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Fault {
    /// Delete an acknowledged row after the recovery
    DeletedRow,
    /// Cut the WAL before the recovery
    TruncatedWal,
    /// Undo one half of an acknowledged transaction
    HalfTransaction,
    /// Let the writers commit without waiting for the WAL
    SynchronousCommitOff,
}

impl Args {
    /// Whether it changes nothing anyway.
    pub(crate) fn only_looks(&self) -> bool {
        matches!(self.which, Which::List(_))
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    match &args.which {
        Which::Crash(args) => crash(args, context),
        Which::Restore(args) => restore::run(args, context),
        Which::List(args) => list(args, context),
    }
}

fn crash(args: &CrashArgs, context: &Context) -> Result<Exit> {
    let options = CrashOptions {
        rounds: args.rounds,
        writers: args.writers,
        kill: match args.kill {
            Kill::Mix => KillChoice::Mix,
            Kill::Postmaster => KillChoice::Only(KillKind::Postmaster),
            Kill::Backend => KillChoice::Only(KillKind::Backend),
            Kill::Group => KillChoice::Only(KillKind::Group),
        },
        plant: args.plant.map(|fault| match fault {
            Fault::DeletedRow => Plant::DeletedRow,
            Fault::TruncatedWal => Plant::TruncatedWal,
            Fault::HalfTransaction => Plant::HalfTransaction,
            Fault::SynchronousCommitOff => Plant::SynchronousCommitOff,
        }),
        keep: args.keep,
        ..CrashOptions::new(args.seed.unwrap_or_else(crash::draw_seed))
    };
    let file = args.report.as_deref().map(|path| ReportFile::named(path, context)).transpose()?;
    let directory = directory_of(context)?;
    let report = runtime::block_on("`drill crash`", async {
        let target = target(args, &directory, context).await?;
        options.check(&target)?;
        if context.common.dry_run {
            context.output.write(|| json!({ "plan": crash::plan(&target, &options) }), || lines(&crash::plan(&target, &options)))?;
            return Ok(None);
        }
        if args.live {
            context.consent("`drill crash --live`", crash::plan(&target, &options))?;
        }
        crash::run(&target, &options, &SystemClock, context.progress.as_ref()).await.map(Some)
    })?;
    let Some(report) = report else { return Ok(Exit::DONE) };
    remember(&report, &directory, context);
    let written = file.map_or(Ok(()), |file| file.write(&report));
    context.output.write(|| document(&report), || report.to_text())?;
    written?;
    Ok(if report.verdict == Verdict::Pass { Exit::DONE } else { Exit(7) })
}

/// The data directory, where one is configured: throw-away drills need none.
fn directory_of(context: &Context) -> Result<Option<LocalDataDirectory>> {
    context.config()?.cluster.data_directory.as_ref().map(LocalDataDirectory::open).transpose()
}

async fn target(args: &CrashArgs, directory: &Option<LocalDataDirectory>, context: &Context) -> Result<Target> {
    if args.copy {
        return Ok(Target::Copy(cluster::open(context)?));
    }
    if args.live {
        return Ok(Target::Live(cluster::open(context)?));
    }
    let major = match directory {
        Some(directory) => match directory.state().await? {
            State::Cluster(files) => Some(files.major),
            _ => None,
        },
        None => None,
    };
    Ok(Target::ThrowAway { search: configured::cluster::search(context.config()?), os_user: None, major })
}

/// Keeps the report beside the cluster. A drill is not undone by a folder that cannot be written.
fn remember(report: &CrashReport, directory: &Option<LocalDataDirectory>, context: &Context) {
    let Some(directory) = directory else { return };
    // A fault that was put in says nothing about the cluster.
    if report.planted.is_some() || !matches!(directory.state_now(), Ok(State::Cluster(_))) {
        return;
    }
    if let Err(error) = history::keep(directory.own_folder(), report) {
        context.progress.warn(&format!("this drill will not be listed: {error}"));
    }
}

/// A file for the report, whose name says its format.
struct ReportFile {
    path: PathBuf,
    markdown: bool,
}

impl ReportFile {
    fn named(path: &Path, context: &Context) -> Result<Self> {
        let markdown = match path.extension().and_then(|extension| extension.to_str()) {
            Some("md") => true,
            Some("json") => false,
            _ => {
                return Err(Error::invalid(
                    format!("the name of the report {} says no format", path.display()),
                    "end it with `.md` or `.json`",
                ));
            }
        };
        let path = context.sources()?.working_directory.join(path);
        // A drill takes a while: better told before it than after it.
        let folder = path.parent().unwrap_or(Path::new("/"));
        rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|e| Error::file("write the report into", folder, e.into()))?;
        Ok(Self { path, markdown })
    }

    fn write(&self, report: &CrashReport) -> Result<()> {
        let text = if self.markdown { report.to_markdown() } else { format!("{:#}\n", document(report)) };
        durable::write(&self.path, text.as_bytes(), 0o644)
    }
}

fn lines(plan: &[String]) -> String {
    plan.iter().enumerate().map(|(number, step)| format!("{}. {}\n", number + 1, printable(step))).collect()
}

/// The reports on the cluster's volume and in its store, newest first, and the names of what is none. Where the cluster's
/// files are not at hand, as after the loss of its volume, the store alone tells.
fn past_drills(context: &Context) -> Result<(Vec<Value>, Vec<String>)> {
    let config = context.config()?;
    if config.stores.is_empty() {
        config.data_directory()?;
    }
    let (mut drills, mut unreadable) = (Vec::new(), Vec::new());
    let directory = directory_of(context)?;
    if let Some(directory) = &directory {
        let (reports, others) = history::list(directory.own_folder())?;
        drills = reports;
        unreadable.extend(others.iter().map(|path| path.display().to_string()));
    }
    if !config.stores.is_empty() {
        let shelf = configured::stores::shelf(config)?;
        match runtime::block_on("`drill list`", history::add_from_store(&mut drills, &shelf)) {
            Ok(others) => unreadable.extend(others),
            Err(error) if error.kind() == ErrorKind::Cancelled || directory.is_none() => return Err(error),
            Err(error) => context.progress.warn(&format!("drills that only the store knows are left out: {error}")),
        }
    }
    if let (Some(directory), true) = (directory, drills.is_empty() && unreadable.is_empty()) {
        // No drills of a cluster that was never drilled, or no cluster: the second is most often a wrong path.
        directory.state_now()?.into_cluster(directory.path())?;
    }
    Ok((drills, unreadable))
}

fn list(_args: &ListArgs, context: &Context) -> Result<Exit> {
    let (drills, unreadable) = past_drills(context)?;
    for name in unreadable {
        context.progress.warn(&format!("{name} is no report of a drill"));
    }
    context.output.write(
        || json!({ "drills": drills }),
        || {
            if drills.is_empty() {
                return "No drill yet; `pgpersist drill crash` and `pgpersist drill restore` make one.\n".to_owned();
            }
            let text = |drill: &Value, field: &str| match &drill[field] {
                Value::String(text) => printable(text).into_owned(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let row = |drill: &Value| {
                format!(
                    "{:<20}  {:<6}  {:<7}  {:<10}  {:>6}  {:>12}  {:>4}  {:>4}  {}\n",
                    text(drill, "started_at"),
                    text(drill, "kind"),
                    text(drill, "verdict"),
                    text(drill, "target"),
                    text(drill, "rounds"),
                    text(drill, "acknowledged"),
                    text(drill, "lost"),
                    text(drill, "torn"),
                    text(drill, "seed")
                )
            };
            let head = json!({
                "started_at": "started", "kind": "kind", "verdict": "verdict", "target": "cluster", "rounds": "rounds",
                "acknowledged": "acknowledged", "lost": "lost", "torn": "torn", "seed": "seed",
            });
            std::iter::once(&head).chain(&drills).map(row).collect()
        },
    )?;
    Ok(Exit::DONE)
}
