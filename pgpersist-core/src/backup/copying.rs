//! Copies files of a [`Source`] into packs: reads them by several threads, and waits for the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;

use crate::backup::compaction::Compaction;
use crate::backup::pace::{Pace, StopWhenDropped};
use crate::backup::parent::Parent;
use crate::backup::physical::BackupOptions;
use crate::backup::reading::{self, Reading, Shared, Writers};
use crate::backup::source::{Source, SourceFile};
use crate::backup::summarized::Summarized;
use crate::backup::unchanged::{self, Unchanged};
use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::progress::{Event, ProgressSink};
use crate::repo::names::RunName;
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_writer::{PackNumbers, PackWriter, WrittenPacks};
use crate::repo::repository::Repository;
use crate::repo::trailer::PackKind;
use crate::server::session::Session;
use crate::workers;

/// What a reading knows of an earlier one.
#[derive(Debug, Default)]
pub(super) struct Known {
    parent: Option<Arc<Parent>>,
    unchanged: Option<Unchanged>,
    compaction: Arc<Compaction>,
    summarized: Option<Summarized>,
}

impl Known {
    /// What the parent, where there is one, tells of the files in `source`, which were looked at before `now`; and what is moved.
    pub(super) async fn of(
        repository: &Repository,
        parent: Option<Arc<Parent>>,
        data_directory: &Path,
        source: &Source,
        options: &BackupOptions,
        now: OffsetDateTime,
    ) -> Result<Self> {
        let Some(parent) = parent else { return Ok(Self::default()) };
        let compaction = Arc::new(Compaction::plan(repository, &parent, options.compaction_percent).await?);
        let locations = source.tablespaces.iter().map(|tablespace| tablespace.location.clone());
        let places: Vec<PathBuf> = locations.chain([data_directory.to_owned()]).collect();
        let folder = data_directory.to_owned();
        let trusted = workers::run(move || on_behalf::as_owner(&folder, || Ok(unchanged::trusted(&places)))).await?;
        let full_read = time::Duration::days(options.full_read_days.into());
        let unchanged = Unchanged::since(&parent.manifest, &source.files, now, full_read, trusted);
        Ok(Self { parent: Some(parent), unchanged, compaction, summarized: None })
    }

    /// With what WAL summaries tell.
    pub(super) fn with_summaries(self, summarized: Option<Summarized>) -> Self {
        Self { summarized, ..self }
    }

    /// Whether anything may be left unread.
    pub(super) fn saves_reading(&self) -> bool {
        self.unchanged.is_some()
    }

    /// What is moved.
    pub(super) fn compaction(&self) -> Arc<Compaction> {
        Arc::clone(&self.compaction)
    }
}

/// Reads files into packs, and waits until those are in the store. Ends when the session does, where there is one. Returns also the bytes that
/// need not be read.
#[expect(clippy::too_many_arguments, reason = "it is a step of one operation, with that operation's parts")]
pub(super) async fn copy(
    repository: &Repository,
    numbers: &PackNumbers,
    options: &BackupOptions,
    files: Arc<[SourceFile]>,
    data_directory: &Path,
    run: RunName,
    known: Known,
    session: Option<&Session>,
    progress: &dyn ProgressSink,
    packs: &mut Vec<PackRecord>,
) -> Result<(Reading, u64)> {
    let (mut writers, mut written): (Vec<Writers>, Vec<WrittenPacks>) = (Vec::new(), Vec::new());
    for _ in 0..options.workers.max(1) {
        let (chunks, chunks_written) = PackWriter::begin(repository, numbers.clone(), PackKind::Chunks, options.compression)?;
        let (maps, maps_written) = PackWriter::begin(repository, numbers.clone(), PackKind::Maps, options.compression)?;
        writers.push(Writers { chunks, maps });
        written.extend([chunks_written, maps_written]);
    }
    let (folder, read_for, effort) = (data_directory.to_owned(), repository.clone(), Arc::clone(numbers.effort()));
    let total = files.iter().map(|file| file.size).sum();
    let counters = Arc::new((Pace::new(options.rate_limit), AtomicU64::new(0), AtomicU64::new(0)));
    let counted = Arc::clone(&counters);
    let reading = workers::run(move || {
        let (pace, done, unread) = &*counted;
        let (parent, unchanged, summarized) = (known.parent.as_deref(), known.unchanged.as_ref(), known.summarized.as_ref());
        let compaction = &*known.compaction;
        let shared = Shared { repository: &read_for, parent, unchanged, summarized, compaction, run, pace, effort: &effort, done, unread };
        reading::read(&files, &folder, shared, writers)
    });
    let (pace, done, unread) = &*counters;
    let _ends = StopWhenDropped(pace);
    tokio::pin!(reading);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut lost = false;
    let reading = loop {
        tokio::select! {
            reading = &mut reading => break reading,
            _ = ticks.tick() => {
                progress.event(Event::Bytes { done: done.load(Ordering::Relaxed), total: Some(total) });
                // Nothing that is read from now on would be of use.
                if session.is_some_and(|session| session.client().is_closed()) {
                    lost = true;
                    pace.stop();
                }
            }
        }
    };
    if lost {
        for written in written {
            // It ends with the writers, which are gone.
            let _ = written.wait().await;
        }
        return Err(Error::unavailable(
            "the server ended the session that the backup hangs on: the backup is void",
            "see its log with `pgpersist status`, and run the backup again",
        ));
    }
    let mut failed: Option<Error> = None;
    for written in written {
        match written.wait().await {
            Ok(records) => packs.extend(records),
            // Of the others, which were stopped for its sake, nobody learns anything.
            Err(error) if matches!(failed, None | Some(Error::Cancelled { .. })) => failed = Some(error),
            Err(_) => {}
        }
    }
    // What the store said comes first: the reader only knows that it was stopped.
    match (failed, reading) {
        (None, reading) => Ok((reading?, unread.load(Ordering::Relaxed))),
        (Some(Error::Cancelled { .. }), Err(error)) | (Some(error), _) => Err(error),
    }
}
