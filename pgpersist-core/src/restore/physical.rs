//! [`restore`]: a backup becomes a data directory: planned, staged, made durable, published as a whole, with `pg_control` last.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{Clock, SystemClock};
use crate::data_directory::own_folder::OwnFolder;
use crate::data_directory::staged_tablespaces::{self, StagedTablespace};
use crate::data_directory::{DataDirectory, staging};
use crate::error::{Error, Result};
use crate::fs::durable;
use crate::migrate::configuration::Setting;
use crate::pg::lsn::Lsn;
use crate::pg::recovery_settings::{self, AUTO_CONF, RECOVERY_SIGNAL, Target};
use crate::progress::{Event, ProgressSink};
use crate::repo::entry::Entry;
use crate::repo::manifest::{Manifest, OutsideFile};
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::restore::configuration::{self, Configuration, MAIN, Restored};
use crate::restore::damage::{DamagedFile, Losses, vital};
use crate::restore::ground::Ground;
use crate::restore::newest::Newest;
use crate::restore::plan::{RestorePlan, may_take};
use crate::restore::record::RestoreRecord;
use crate::restore::survey::{Survey, Tolerance};
use crate::restore::tablespaces::{self, PlacedTablespace, TablespaceMapping};
use crate::restore::tree::{self, Places, TablespacePlace};
use crate::server::process::Presence;
use crate::server::promotion::Promotion;
use crate::workers;

/// What is being done, as a marker tells it.
const OPERATION: &str = "restore";

/// How a backup is restored.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// How many files are written at once.
    pub at_once: usize,
    /// Where tablespaces go that do not go back to where they were.
    pub tablespaces: Vec<TablespaceMapping>,
    /// Whether a stopped cluster that is in its place makes room, and is kept aside.
    pub in_place: bool,
    /// Whether the files of a stopped cluster that is in its place are made those of the backup, and kept where they are already.
    pub delta: bool,
    /// Where the log of that cluster ends, from somebody who gives up what of it no backup holds.
    pub discard_unshipped_wal: Option<Lsn>,
    /// Whether what of the backup cannot be had any more is left out, for a cluster to salvage from.
    pub without_damaged: bool,
    /// Somebody has seen the plan and said yes.
    pub consent: bool,
}

impl RestoreOptions {
    /// Whether damage is an error.
    pub fn tolerance(&self) -> Tolerance {
        if self.without_damaged { Tolerance::Damage } else { Tolerance::Nothing }
    }
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            at_once: workers::at_once(),
            tablespaces: Vec::new(),
            in_place: false,
            delta: false,
            discard_unshipped_wal: None,
            without_damaged: false,
            consent: false,
        }
    }
}

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreReport {
    /// The backup.
    pub name: String,
    /// Where it is now.
    pub data_directory: PathBuf,
    /// The length of all files.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// How long it took.
    pub duration_s: f64,
    /// Every byte was held against its hash, and is there.
    pub verified: bool,
    /// Where each tablespace was and is now.
    pub tablespaces: Vec<PlacedTablespace>,
    /// Files of the configuration that were made or rewritten, since it did not lie in the data directory as a whole.
    pub configuration: Vec<String>,
    /// Where the cluster is kept that was in its place.
    pub kept_aside: Option<PathBuf>,
    /// Settings of another recovery that were taken out of `postgresql.auto.conf`.
    pub settings_removed: Vec<String>,
    /// How many bytes stayed as they were, where a cluster was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_bytes: Option<u64>,
    /// How many files stayed as they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_files: Option<u64>,
    /// How many bytes were written over what was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
    /// The pages that could not be had, and are zero now. Where there are any, the cluster is for salvage alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedFile>,
}

/// The newest good backup.
///
/// # Errors
/// As [`Newest::find`].
pub async fn newest(repository: &Repository) -> Result<RunName> {
    Newest::find(repository).await.map(|newest| newest.backup)
}

/// Decides what a restore would do, and touches nothing.
///
/// # Errors
/// The refusals of [`restore`], but for the consent that is missing.
pub async fn plan(survey: &Survey, directory: &dyn DataDirectory, options: &RestoreOptions) -> Result<RestorePlan> {
    let state = directory.state().await?;
    let path = directory.path().to_owned();
    may_take(&state, &path, options.in_place)?;
    let placed = tablespaces::place(&survey.manifest.tablespaces, &options.tablespaces, &path)?;
    let locations: Vec<PathBuf> = placed.iter().map(|tablespace| tablespace.to.clone()).collect();
    let (folder, own) = (path.clone(), directory.own_folder().clone());
    let ground = workers::run(move || {
        refuse_server(&folder)?;
        Ground::look(&folder, &own, state, &locations, SystemClock.now())
    })
    .await?;
    RestorePlan::decide(survey, &ground, placed, &path, options.in_place)
}

/// Restores a backup, ready to be started: into an absent or empty data directory, or in the place of a stopped cluster that is kept aside. The
/// caller holds the claim.
///
/// # Errors
/// `Unsafe` when the directory, or a place of a tablespace, holds anything that is not to make room; `Unavailable` when there is not enough
/// room; `Damaged` when something in the repository is not what was written; [`Error::File`]; what the store says. The directory is as it was
/// then, but for a staging folder that the next run removes.
pub async fn restore(
    repository: &Repository,
    backup: RunName,
    directory: &dyn DataDirectory,
    options: &RestoreOptions,
    progress: &dyn ProgressSink,
) -> Result<RestoreReport> {
    may_take(&directory.state().await?, directory.path(), options.in_place)?;
    let survey = Survey::look_with(repository, backup, options.tolerance(), progress).await?;
    restore_surveyed(repository, &survey, directory, options, progress).await
}

/// As [`restore`], of a backup that was looked at.
///
/// # Errors
/// As [`restore`].
pub async fn restore_surveyed(
    repository: &Repository,
    survey: &Survey,
    directory: &dyn DataDirectory,
    options: &RestoreOptions,
    progress: &dyn ProgressSink,
) -> Result<RestoreReport> {
    let began = Instant::now();
    let plan = plan(survey, directory, options).await?;
    plan.ask(options.consent)?;
    for warning in &plan.warnings {
        progress.event(Event::Warning(warning.clone()));
    }
    progress.event(Event::Step(format!("restoring {} to {}", survey.backup, directory.path().display())));
    let losses = options.without_damaged.then(|| Arc::new(Losses::default()));
    let filled = fill(repository, survey, directory.own_folder(), &plan, (options.at_once, losses.clone()), progress).await;
    let damaged = losses.map_or_else(Vec::new, |losses| losses.files());
    let filled = filled.and_then(|filled| vital(&damaged).map_or(Ok(filled), Err));
    let (path, own, aside) = (directory.path().to_owned(), directory.own_folder().clone(), plan.kept_aside.clone());
    let (manifest, entries) = (survey.manifest.clone(), Arc::clone(&survey.entries));
    let (name, bytes) = (plan.name.clone(), plan.bytes);
    let started = workers::run(move || {
        let finished = filled.and_then(|tablespaces| {
            let started = make_startable(&manifest, &entries, &own.staging())?;
            staged_tablespaces::publish(&own, &tablespaces)?;
            // One that somebody has started meanwhile would go on in what is kept aside.
            refuse_server(&path)?;
            match &aside {
                Some(aside) => staging::publish_replacing(&path, &own, OPERATION, aside)?,
                None => staging::publish(&path, &own, OPERATION)?,
            }
            Ok(started)
        });
        if finished.is_err() {
            // The error is what matters; what cannot be removed now, the next run removes.
            let _ = staging::recover(&path, &own);
            return finished;
        }
        let duration_s = began.elapsed().as_secs_f64();
        let record = RestoreRecord { format: 1, name, restored_at: SystemClock.now(), bytes, duration_s, kept_aside: aside };
        // A memory for the next plan, and no part of the cluster.
        let _ = record.write(&own);
        finished
    })
    .await?;
    for warning in started.configuration.warnings {
        progress.event(Event::Warning(warning));
    }
    Ok(RestoreReport {
        name: plan.name,
        data_directory: plan.data_directory,
        bytes: survey.manifest.sizes.bytes,
        files: plan.files,
        duration_s: began.elapsed().as_secs_f64(),
        verified: damaged.is_empty(),
        tablespaces: plan.tablespaces,
        configuration: started.configuration.files.into_keys().collect(),
        kept_aside: plan.kept_aside,
        settings_removed: started.settings_removed,
        kept_bytes: None,
        kept_files: None,
        written_bytes: None,
        damaged,
    })
}

/// Writes all files into the staging folder, and those of tablespaces into folders of their own.
async fn fill(
    repository: &Repository,
    survey: &Survey,
    own: &OwnFolder,
    plan: &RestorePlan,
    (at_once, losses): (usize, Option<Arc<Losses>>),
    progress: &dyn ProgressSink,
) -> Result<Vec<StagedTablespace>> {
    let cluster = &survey.manifest.cluster;
    let version_folder = format!("PG_{}_{}", cluster.major, cluster.catalog_version);
    let wanted: Vec<(PathBuf, String)> =
        plan.tablespaces.iter().map(|tablespace| (tablespace.to.clone(), version_folder.clone())).collect();
    let begun = own.clone();
    let staged = workers::run(move || {
        staging::begin(&begun)?;
        staged_tablespaces::begin(&begun, &wanted)
    })
    .await?;
    let place = |staged: &StagedTablespace| TablespacePlace { staged: staged.path(), location: staged.location().to_owned() };
    let tablespaces = plan.tablespaces.iter().zip(&staged).map(|(tablespace, staged)| (tablespace.oid, place(staged))).collect();
    let places = Places::new(own.staging(), tablespaces);
    let done = Arc::new(AtomicU64::new(0));
    let writing = tree::write(repository, Arc::clone(&survey.entries), &places, at_once, Arc::clone(&done), losses);
    tokio::pin!(writing);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            written = &mut writing => return written.map(|()| staged),
            _ = ticks.tick() => progress.event(Event::Bytes { done: done.load(Ordering::Relaxed), total: Some(plan.bytes) }),
        }
    }
}

pub(crate) fn refuse_server(directory: &Path) -> Result<()> {
    match Presence::of(directory)? {
        Presence::Running(server) => Err(Error::conflict(
            format!("a server runs in {} (process {})", directory.display(), server.pid),
            "stop it with `pgpersist stop`, or restore into another directory (`-D`)",
        )),
        Presence::None | Presence::Stale(_) => Ok(()),
    }
}

/// What was made so that the server starts.
pub(crate) struct Started {
    pub(crate) settings_removed: Vec<String>,
    pub(crate) configuration: Configuration,
}

/// Label, settings and signal: without the label a server would recover from a checkpoint that is too late. No `tablespace_map`: by it the server
/// would make its links anew, to where the tablespaces were.
pub(crate) fn make_startable(manifest: &Manifest, entries: &[Entry], staging: &Path) -> Result<Started> {
    durable::write(&staging.join("backup_label"), manifest.backup_label.as_bytes(), 0o600)?;
    let auto_conf = staging.join(AUTO_CONF);
    let target = Target::of_backup(&manifest.backup_label);
    let settings = recovery_settings::settings(&target, manifest.wal.timeline);
    let (text, settings_removed) = recovery_settings::auto_conf(&text(&auto_conf)?.unwrap_or_default(), &settings);
    let text = without_lost_rules(&text, &manifest.outside);
    durable::write(&auto_conf, text.as_bytes(), 0o600)?;
    durable::write(&staging.join(RECOVERY_SIGNAL), b"", 0o600)?;
    Promotion::new(manifest.backup.to_string(), manifest.wal.timeline, &target).write(staging)?;
    let main = self::text(&staging.join(MAIN))?;
    let top = entries.iter().map(|entry| String::from_utf8_lossy(entry.path.as_bytes()).into_owned());
    let names: BTreeSet<String> = top.filter(|name| !name.contains('/')).collect();
    let readable = |path: &Path| File::open(path).is_ok();
    let restored = Restored { main: main.as_deref(), names: &names, readable: &readable };
    let configuration = configuration::bring_in(&manifest.outside, &restored);
    for (name, text) in &configuration.files {
        let path = staging.join(name);
        durable::create_directories(path.parent().unwrap_or(staging), 0o700)?;
        durable::write(&path, text.as_bytes(), 0o600)?;
    }
    Ok(Started { settings_removed, configuration })
}

/// Without the names of access rules that come into the data directory, under the names that a server looks for by itself.
fn without_lost_rules(text: &str, outside: &[OutsideFile]) -> String {
    let is_kept = |line: &&str| {
        !Setting::parse(line.as_bytes()).is_some_and(|found| {
            matches!(found.name.as_str(), "hba_file" | "ident_file") && outside.iter().any(|file| file.setting == found.name)
        })
    };
    text.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect()
}

/// A file of settings; nothing where there is none.
fn text(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}
