//! Drills: do the real thing to prove it.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::arguments::one_of;
use crate::cluster::{Ground, NativeCluster};
use crate::invariant::PythonInvariant;
use crate::operation::{Operation, document, value_answer, with_warnings};
use crate::progress::Told;
use crate::value;
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::config::load::Config;
use pgpersist_core::configured;
use pgpersist_core::data_directory::DataDirectory;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::state::State;
use pgpersist_core::drill::crash::{self, CrashOptions};
use pgpersist_core::drill::ground::Target;
use pgpersist_core::drill::invariants::Invariant;
use pgpersist_core::drill::kill::KillChoice;
use pgpersist_core::drill::report::CrashReport;
use pgpersist_core::drill::restore::{self, RestoreOptions};
use pgpersist_core::drill::restore_report::RestoreReport;
use pgpersist_core::drill::subjects::Subjects;
use pgpersist_core::drill::{KillKind, Plant, history};
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::logical::load_options::Trust;
use pgpersist_core::progress::{Event, ProgressSink};
use pgpersist_core::workers;

const KILLS: &[(&str, KillChoice)] = &[
    ("mix", KillChoice::Mix),
    ("postmaster", KillChoice::Only(KillKind::Postmaster)),
    ("backend", KillChoice::Only(KillKind::Backend)),
    ("group", KillChoice::Only(KillKind::Group)),
];

const PLANTS: &[(&str, Plant)] = &[
    ("deleted-row", Plant::DeletedRow),
    ("truncated-wal", Plant::TruncatedWal),
    ("half-transaction", Plant::HalfTransaction),
    ("synchronous-commit-off", Plant::SynchronousCommitOff),
];

/// What a drill is made on.
#[derive(Debug, Clone, Copy)]
enum On {
    ThrowAway,
    Copy,
    Live,
}

const TARGETS: &[(&str, On)] = &[("throw-away", On::ThrowAway), ("copy", On::Copy), ("live", On::Live)];

/// Kills a server under load, and looks for every acknowledged commit.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the layer above has names and defaults for them")]
pub(crate) fn crash_drill(
    cluster: &NativeCluster,
    target: &str,
    rounds: u32,
    writers: u32,
    seed: Option<u64>,
    kill: &str,
    plant: Option<&str>,
    keep: bool,
    consent: bool,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> PyResult<Operation> {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    let on = one_of(target, "target", TARGETS)?;
    let options = crash_options(rounds, writers, seed, kill, plant, keep)?;
    Ok(Operation::told("`drill crash`", told.clone(), async move {
        let target = crash_target(on, &ground).await?;
        options.check(&target)?;
        if let (Target::Live(_), false) = (&target, consent) {
            return Err(Error::ConsentNeeded { action: "a live crash drill".to_owned(), plan: crash::plan(&target, &options) });
        }
        let report = crash::run(&target, &options, &SystemClock, told.as_ref()).await?;
        // A fault that was put in says nothing about the cluster.
        if report.planted.is_none()
            && let Some(own) = configured::drill::volume(&ground.config)?
            && let Err(error) = history::keep(&own, &report)
        {
            told.event(Event::Warning(format!("this drill will not be listed: {error}")));
        }
        Ok(with_warnings(document(&report)?, &told))
    }))
}

/// What that would do.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the layer above has names and defaults for them")]
pub(crate) fn plan_crash_drill(
    cluster: &NativeCluster,
    target: &str,
    rounds: u32,
    writers: u32,
    seed: Option<u64>,
    kill: &str,
    plant: Option<&str>,
    keep: bool,
) -> PyResult<Operation> {
    let (ground, on) = (cluster.ground.clone(), one_of(target, "target", TARGETS)?);
    let options = crash_options(rounds, writers, seed, kill, plant, keep)?;
    Ok(Operation::new("`drill crash`", async move {
        let target = crash_target(on, &ground).await?;
        options.check(&target)?;
        Ok(value_answer(json!({ "plan": crash::plan(&target, &options) })))
    }))
}

fn crash_options(rounds: u32, writers: u32, seed: Option<u64>, kill: &str, plant: Option<&str>, keep: bool) -> PyResult<CrashOptions> {
    Ok(CrashOptions {
        rounds,
        writers,
        kill: one_of(kill, "kill", KILLS)?,
        plant: plant.map(|plant| one_of(plant, "plant", PLANTS)).transpose()?,
        keep,
        ..CrashOptions::new(seed.unwrap_or_else(crash::draw_seed))
    })
}

async fn crash_target(on: On, ground: &Ground) -> Result<Target> {
    Ok(match on {
        On::Copy => Target::Copy(ground.cluster()?),
        On::Live => Target::Live(ground.cluster()?),
        On::ThrowAway => {
            let major = match &ground.config.cluster.data_directory {
                Some(path) => match LocalDataDirectory::open(path)?.state().await? {
                    State::Cluster(files) => Some(files.major),
                    _ => None,
                },
                None => None,
            };
            Target::ThrowAway { search: configured::cluster::search(&ground.config), os_user: None, major }
        }
    })
}

/// Loads the newest dumps into an empty cluster, and sees what comes back.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the layer above has names and defaults for them")]
pub(crate) fn restore_drill(
    cluster: &NativeCluster,
    databases: Vec<String>,
    dump: Option<String>,
    invariants: Vec<(String, String, Py<PyAny>)>,
    trust: bool,
    keep: bool,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> PyResult<Operation> {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    let wishes = RestoreWishes { databases, dump, invariants: asked(invariants), trust, keep };
    Ok(Operation::told("`drill restore`", told.clone(), async move {
        let (config, shelf) = (&ground.config, ground.shelf()?);
        let options = wishes.options(config)?;
        let (clock, progress): (Arc<dyn Clock>, Arc<dyn ProgressSink>) = (Arc::new(SystemClock), told.clone());
        let report = restore::run(&shelf, &options, &clock, &progress).await?;
        if let Err(error) = history::keep_restore(&report, configured::drill::volume(config)?.as_ref(), &shelf).await {
            told.event(Event::Warning(format!("this drill is not recorded everywhere, and health may not know of it: {error}")));
        }
        Ok(with_warnings(document(&report)?, &told))
    }))
}

/// What that would do.
#[pyfunction]
pub(crate) fn plan_restore_drill(
    cluster: &NativeCluster,
    databases: Vec<String>,
    dump: Option<String>,
    invariants: Vec<(String, String, Py<PyAny>)>,
    trust: bool,
    keep: bool,
) -> Operation {
    let ground = cluster.ground.clone();
    let wishes = RestoreWishes { databases, dump, invariants: asked(invariants), trust, keep };
    Operation::new("`drill restore`", async move {
        let plan = restore::plan(&ground.shelf()?, &wishes.options(&ground.config)?).await?;
        Ok(value_answer(json!({ "plan": plan })))
    })
}

/// What is asked of a restore drill.
struct RestoreWishes {
    databases: Vec<String>,
    dump: Option<String>,
    invariants: Vec<Arc<dyn Invariant>>,
    trust: bool,
    keep: bool,
}

impl RestoreWishes {
    /// With the checks of the configuration before its own.
    fn options(self, config: &Config) -> Result<RestoreOptions> {
        let mut options = configured::drill::scheduled(config)?;
        options.invariants.extend(self.invariants);
        Ok(RestoreOptions {
            subjects: subjects(self.dump, self.databases, &config.cluster.databases)?,
            trust: if self.trust { Trust::Superuser } else { Trust::OwnDump },
            keep: self.keep,
            ..options
        })
    }
}

fn asked(invariants: Vec<(String, String, Py<PyAny>)>) -> Vec<Arc<dyn Invariant>> {
    let one = |(name, database, ask)| Arc::new(PythonInvariant::new(name, database, ask)) as Arc<dyn Invariant>;
    invariants.into_iter().map(one).collect()
}

fn subjects(dump: Option<String>, databases: Vec<String>, configured: &[String]) -> Result<Subjects> {
    Ok(match (dump, &databases[..]) {
        (None, []) => Subjects::Cluster(configured.to_vec()),
        (None, _) => Subjects::Databases(databases),
        (Some(name), []) => Subjects::Dump { name, database: None },
        (Some(name), [one]) => Subjects::Dump { name, database: Some(one.clone()) },
        (Some(_), _) => return Err(Error::invalid("one dump is of one database", "name one database, or leave out `dump`")),
    })
}

/// The reports of past drills, on the volume and in the store, the newest first.
#[pyfunction]
pub(crate) fn past_drills(cluster: &NativeCluster, listener: Py<PyAny>, with_bytes: bool) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`drill list`", told.clone(), async move {
        let directory = ground.config.cluster.data_directory.as_ref().map(LocalDataDirectory::open).transpose()?;
        let shelf = ground.shelf_if_any()?;
        if shelf.is_none() {
            ground.config.data_directory()?;
        }
        let (mut drills, mut unreadable) = (Vec::new(), Vec::new());
        let has_directory = directory.is_some();
        if let Some(directory) = directory {
            let own = directory.own_folder().clone();
            let (reports, others) = workers::run(move || history::list(&own)).await?;
            drills = reports;
            unreadable.extend(others.iter().map(|path| path.display().to_string()));
        }
        if let Some(shelf) = shelf {
            match history::add_from_store(&mut drills, &shelf).await {
                Err(error) if error.kind() == ErrorKind::Cancelled || !has_directory => return Err(error),
                Err(error) => told.event(Event::Warning(format!("drills that only the store knows are left out: {error}"))),
                Ok(others) => unreadable.extend(others),
            }
        }
        unreadable.iter().for_each(|name| told.event(Event::Warning(format!("{name} is no report of a drill"))));
        Ok(value_answer(json!(drills)))
    })
}

/// The report of a crash drill as the command prints it, or as it writes it to a file.
#[pyfunction]
pub(crate) fn render_crash(document: &Bound<'_, PyAny>, format: &str) -> PyResult<String> {
    let formats = [("text", CrashReport::to_text as fn(&CrashReport) -> String), ("markdown", CrashReport::to_markdown)];
    let render = one_of(format, "format", &formats)?;
    Ok(render(&understood(document)?))
}

/// The report of a restore drill as the command prints it.
#[pyfunction]
pub(crate) fn render_restore(document: &Bound<'_, PyAny>) -> PyResult<String> {
    understood(document).map(|report: RestoreReport| report.to_text())
}

fn understood<T: DeserializeOwned>(document: &Bound<'_, PyAny>) -> PyResult<T> {
    let document = value::from_python(document, "document")?;
    serde_json::from_value(document).map_err(|fault| PyValueError::new_err(format!("this report is of another version: {fault}")))
}
