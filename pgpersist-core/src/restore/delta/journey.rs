//! [`restore`]: makes the files of a stopped cluster those of a backup.
//!
//! The order keeps a kill at any moment harmless: marker, control file away, log away, what is not in the backup away, files, label and signal, all
//! of it durable, control file. Until the last step no server starts there, and whoever comes again does all of it again: what was written is
//! found as it should be, and kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::clock::{Clock, SystemClock};
use crate::data_directory::DataDirectory;
use crate::data_directory::mixed::Mixed;
use crate::error::{Error, Result};
use crate::fs::durable;
use crate::pg::control_file::CONTROL_FILE_PATH;
use crate::progress::{Event, ProgressSink};
use crate::repo::contents::Contents;
use crate::repo::entry::EntryKind;
use crate::repo::repository::Repository;
use crate::restore::delta::bring::{Doing, Tally, bring};
use crate::restore::delta::existing;
use crate::restore::delta::plan::{Decided, ask, decide};
use crate::restore::physical::{RestoreOptions, RestoreReport, make_startable, refuse_server};
use crate::restore::plan::RestorePlan;
use crate::restore::record::RestoreRecord;
use crate::restore::survey::Survey;
use crate::workers;

/// What it would come to: also how much would stay as it is, for which all files are read.
///
/// # Errors
/// The refusals of [`restore`], but for what must be said and was not.
pub async fn look(
    repository: &Repository,
    survey: &Survey,
    directory: &dyn DataDirectory,
    options: &RestoreOptions,
    progress: &dyn ProgressSink,
) -> Result<RestorePlan> {
    let mut decided = decide(survey, directory, options).await?;
    progress.event(Event::Step(format!("comparing {} with {}", directory.path().display(), survey.backup)));
    let tally = watched(repository, survey, &decided, options, Doing::Looking, progress).await?;
    if let Some(delta) = &mut decided.plan.delta {
        delta.kept_bytes = Some(tally.kept_bytes.load(Ordering::Relaxed));
        delta.kept_files = Some(tally.kept_files.load(Ordering::Relaxed));
        delta.written_bytes = Some(tally.written_bytes.load(Ordering::Relaxed));
    }
    decided.plan.steps = decided.plan.tell(survey);
    Ok(decided.plan)
}

/// Decides what may be done, before a lock is taken.
///
/// # Errors
/// As [`restore`].
pub async fn ask_first(survey: &Survey, directory: &dyn DataDirectory, options: &RestoreOptions) -> Result<()> {
    let decided = decide(survey, directory, options).await?;
    ask(&decided.plan, options)
}

/// Makes the cluster that of the backup. The caller holds the claim and the server's lock.
///
/// # Errors
/// `Unsafe` when there is no cluster of the same system identifier, when the consent is missing, or when its log goes past what the backup holds
/// and nobody gave that up; `Conflict` while a server runs; `Unavailable` when there is not enough room; `Damaged` when something in the repository
/// is not what was written; [`Error::File`]; what the store says. Once it has begun to write the directory is half-made after an error, and the
/// next run goes on.
pub async fn restore(
    repository: &Repository,
    survey: &Survey,
    directory: &dyn DataDirectory,
    options: &RestoreOptions,
    progress: &dyn ProgressSink,
) -> Result<RestoreReport> {
    let began = Instant::now();
    // What was interrupted before anything changed, or after everything had, is a cluster like any other.
    let (path, own) = (directory.path().to_owned(), directory.own_folder().clone());
    workers::run(move || Mixed::interrupted(&path, &own)).await?;
    let decided = decide(survey, directory, options).await?;
    ask(&decided.plan, options)?;
    for warning in &decided.plan.warnings {
        progress.event(Event::Warning(warning.clone()));
    }
    // All that is needed last is at hand before anything changes.
    let control = control_file(repository, survey).await?;
    progress.event(Event::Step(format!("making {} what {} holds", directory.path().display(), survey.backup)));
    let (path, own) = (directory.path().to_owned(), directory.own_folder().clone());
    let (mixed, room) = (decided.mixed.clone(), decided.existing.clone());
    workers::run(move || {
        refuse_server(&path)?;
        if Mixed::peek(&own)?.is_none() {
            mixed.begin(&path, &own)?;
        }
        existing::set_log_aside(&path, &mixed.aside)?;
        room.make_room(&mixed.aside)
    })
    .await?;
    let tally = watched(repository, survey, &decided, options, Doing::Writing, progress).await?;
    let (path, own, manifest) = (directory.path().to_owned(), directory.own_folder().clone(), survey.manifest.clone());
    let (mixed, entries, plan) = (decided.mixed.clone(), Arc::clone(&survey.entries), decided.plan.clone());
    let started = workers::run(move || {
        let started = make_startable(&manifest, &entries, &path)?;
        for tablespace in &plan.tablespaces {
            durable::sync_tree(&tablespace.to)?;
        }
        durable::sync_tree(&path)?;
        mixed.finish(&path, &own, &control.0, control.1)?;
        let duration_s = began.elapsed().as_secs_f64();
        // It wrote little of what it has, so its speed says nothing of another's.
        let record = RestoreRecord {
            format: 1,
            name: plan.name,
            restored_at: SystemClock.now(),
            bytes: 0,
            duration_s,
            kept_aside: Some(mixed.aside),
        };
        // A memory for the next plan, and no part of the cluster.
        let _ = record.write(&own);
        Ok(started)
    })
    .await?;
    for warning in started.configuration.warnings {
        progress.event(Event::Warning(warning));
    }
    let plan = decided.plan;
    Ok(RestoreReport {
        name: plan.name,
        data_directory: plan.data_directory,
        bytes: survey.manifest.sizes.bytes,
        files: plan.files,
        duration_s: began.elapsed().as_secs_f64(),
        verified: true,
        tablespaces: plan.tablespaces,
        configuration: started.configuration.files.into_keys().collect(),
        kept_aside: plan.kept_aside,
        settings_removed: started.settings_removed,
        kept_bytes: Some(tally.kept_bytes.load(Ordering::Relaxed)),
        kept_files: Some(tally.kept_files.load(Ordering::Relaxed)),
        written_bytes: Some(tally.written_bytes.load(Ordering::Relaxed)),
        damaged: Vec::new(),
    })
}

async fn watched(
    repository: &Repository,
    survey: &Survey,
    decided: &Decided,
    options: &RestoreOptions,
    doing: Doing,
    progress: &dyn ProgressSink,
) -> Result<Arc<Tally>> {
    let tally = Arc::new(Tally::default());
    let bringing = bring(repository, Arc::clone(&survey.entries), &decided.places, options.at_once, doing, Arc::clone(&tally));
    tokio::pin!(bringing);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            brought = &mut bringing => break brought?,
            _ = ticks.tick() => {
                let done = tally.done.load(Ordering::Relaxed);
                progress.event(Event::Bytes { done, total: Some(survey.manifest.sizes.bytes) });
            }
        }
    }
    Ok(tally)
}

/// The control file's bytes, and its permissions.
async fn control_file(repository: &Repository, survey: &Survey) -> Result<(Vec<u8>, u32)> {
    let none = || Error::damaged(format!("{} has no {CONTROL_FILE_PATH}", survey.backup), "choose another backup: see `pgpersist list`");
    let mut contents = Contents::new(repository);
    let bytes = survey.small(&mut contents, CONTROL_FILE_PATH).await?.ok_or_else(none)?;
    let entry = survey.entries.iter().find(|entry| entry.path.as_bytes() == CONTROL_FILE_PATH.as_bytes()).ok_or_else(none)?;
    match &entry.kind {
        EntryKind::File(file) => Ok((bytes, file.mode.bits())),
        _ => Err(none()),
    }
}
