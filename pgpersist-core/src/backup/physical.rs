//! [`back_up`]: a physical backup of a running cluster: start, read, stop, the log, look at the packs, publish.

use std::collections::HashSet;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use time::OffsetDateTime;

use crate::backup::announced;
use crate::backup::copying::{Known, copy};
use crate::backup::outside;
use crate::backup::reading::{ReadFile, Reading};
use crate::backup::source::{self, Source, SourceFile};
use crate::backup::summarized::{Summarized, SummaryUse};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::pg::control_file::{CONTROL_FILE_PATH, ControlFile};
use crate::pg::lsn::Lsn;
use crate::pg::wal_segment::WalSegment;
use crate::progress::{Event, ProgressSink};
use crate::repo::effort::EffortSeconds;
use crate::repo::entry::{self, Entry, EntryKind, EntryPath, FileEntry};
use crate::repo::frame::Compression;
use crate::repo::identity::HashKey;
use crate::repo::layout;
use crate::repo::manifest::{ClusterFacts, DamagedPage, KnownDamage, Manifest, Sizes, Tablespace, WalRange};
use crate::repo::names::{Place, RunName};
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_reader::OpenPack;
use crate::repo::pack_writer::{PackNumbers, PackWriter};
use crate::repo::repository::Repository;
use crate::repo::trailer::PackKind;
use crate::server::base_backup::{BaseBackup, Checkpoint, EndedBackup};
use crate::server::connection::ConnectionOptions;
use crate::server::session::Session;
use crate::workers;

/// How long a session may take to open.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// How often the control file is read until its checksum is right: the server writes it in one piece, which a reader may see halfway.
const CONTROL_FILE_TRIES: u32 = 50;
/// How large a list of entries or packs grows before the next one begins.
const LIST_BYTES: usize = 512 * 1024;

/// After how many days a file is read that does not look changed, unless told otherwise.
const FULL_READ_DAYS: u32 = 7;
/// How much is moved at most, unless told otherwise.
const COMPACTION_PERCENT: u32 = 10;

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// What its user calls it.
    pub label: Option<String>,
    /// How the checkpoint is written that it begins with.
    pub checkpoint: Checkpoint,
    /// How frames are compressed.
    pub compression: Compression,
    /// How many threads read.
    pub workers: usize,
    /// How many bytes they read a second, all together; else as many as they can.
    pub rate_limit: Option<NonZeroU64>,
    /// Each file is read at least so often, whether it looks changed or not. With 0, each time.
    pub full_read_days: u32,
    /// How much of what the backup before it has, in hundredths of its length, is stored anew at most, so that packs go of which little is
    /// needed. With 0, nothing.
    pub compaction_percent: u32,
    /// Damaged pages that do not make the backup a damaged one, as long as they are what they were when somebody looked.
    pub known_damage: Vec<KnownDamage>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        let workers = workers::at_once();
        Self {
            label: None,
            checkpoint: Checkpoint::default(),
            compression: Compression::default(),
            workers,
            rate_limit: None,
            full_read_days: FULL_READ_DAYS,
            compaction_percent: COMPACTION_PERCENT,
            known_damage: Vec::new(),
        }
    }
}

/// What a backup came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupReport {
    /// Its name.
    pub name: String,
    /// The length of all its files.
    pub size_bytes: u64,
    /// What it takes in the store, what it shares with others included.
    pub stored_bytes: u64,
    /// What it added.
    pub new_bytes: u64,
    /// The length of what was not read, since it is what the backup before it read.
    pub unread_bytes: u64,
    /// What the server's WAL summaries were good for.
    pub wal_summaries: SummaryUse,
    /// The length of what was stored anew although the backup before it has it, so that packs go of which little is needed.
    pub moved_bytes: u64,
    /// How long it took.
    pub duration_s: f64,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Where the cluster is consistent.
    pub stop_lsn: Lsn,
    /// How long each phase took, in seconds.
    pub phases: Phases,
    /// Pages that are damaged on the disk.
    pub damaged: Vec<DamagedPage>,
}

/// How long each phase took, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Phases {
    /// The server's checkpoint.
    pub start_s: f64,
    /// Reading, checking, compressing and storing all files.
    pub copy_s: f64,
    /// Ending the backup and storing its log.
    pub stop_s: f64,
    /// Looking at the packs in the store, and publishing.
    pub publish_s: f64,
    /// What all threads together spent their time on meanwhile.
    pub effort: EffortSeconds,
}

/// Makes a backup of the cluster in `data_directory`, whose server `connection` reaches.
///
/// Nothing is published before all of it is in the store; what an interrupted backup has left is no backup.
///
/// # Errors
/// `Unsafe` when the server's log does not make a backup whole, or the repository is of another cluster; `Unavailable` when the server is not
/// there, or ends the session, is restarted or promoted meanwhile, which makes the backup void; what the store says; [`Error::File`].
pub async fn back_up(
    connection: &ConnectionOptions,
    data_directory: &Path,
    repository: &Repository,
    options: &BackupOptions,
    clock: &dyn Clock,
    progress: &dyn ProgressSink,
) -> Result<BackupReport> {
    let began = Instant::now();
    let started_at = clock.now();
    let run = RunName::new(started_at, rand::random());
    repository.prepare_writing(started_at).await?;
    let session = Session::connect(connection, CONNECT_DEADLINE).await?;
    let version = session.version().await?;
    let tablespace_names = tablespace_names(&session).await?;
    progress.event(Event::Step("waiting for the server's checkpoint".to_owned()));
    let label = options.label.clone().unwrap_or_else(|| format!("pgpersist {run}"));
    let base =
        BaseBackup::start(session, &label, &format!("pgpersist_{}", run.to_string().to_lowercase().replace('-', "_")), options.checkpoint)
            .await?;
    let start_lsn = base.start_lsn();
    let start_s = began.elapsed().as_secs_f64();

    progress.event(Event::Step(format!("reading {}", data_directory.display())));
    let copying = Instant::now();
    let control = control_file(data_directory).await?;
    let (facts, version_folder) = facts(&control.1, version.to_string(), version.major);
    let numbers = PackNumbers::new(run);
    let (live, parent) = announced::announce(repository, run, control.1.timeline, started_at).await?;
    let builds_on = parent.as_ref().map(|parent| parent.manifest.backup);
    let outside = outside::gather(base.session(), data_directory, progress).await?;
    repository.begin_run(run).await?;
    let source = look(data_directory, control.1.blocks_per_segment, version_folder).await?;
    let mut packs = Vec::new();
    let checked = control.1.data_checksums();
    let files: Arc<[SourceFile]> =
        source.files.iter().cloned().map(|file| if checked { file } else { SourceFile { first_block: None, ..file } }).collect();
    let known = Known::of(repository, parent.clone(), data_directory, &source, options, clock.now()).await?;
    let compaction = known.compaction();
    let (wal_summaries, summarized) = match &parent {
        Some(parent) if known.saves_reading() => {
            Summarized::read(base.session(), version.major, data_directory, &parent.manifest, start_lsn).await?
        }
        _ => (SummaryUse::None, None),
    };
    let known = known.with_summaries(summarized);
    let copied =
        copy(repository, &numbers, options, Arc::clone(&files), data_directory, run, known, Some(base.session()), progress, &mut packs);
    let (main, unread_bytes) = copied.await?;
    let copy_s = copying.elapsed().as_secs_f64();

    progress.event(Event::Step("ending the backup".to_owned()));
    let stopping = Instant::now();
    // Of a standby, the last of all files: what it says must have been replayed is in the others then.
    let (last_control, last) = control_file(data_directory).await?;
    let (mut ended, session) = base.stop().await?;
    refuse_another_timeline(&ended, &last)?;
    if ended.label.from_standby {
        ended.stop = ended.stop.max(last.min_recovery_point);
    }
    let stopped_at = clock.now();
    let wal = wal_files(data_directory, &ended, start_lsn, control.1.wal_segment_size).await?;
    let copied = copy(repository, &numbers, options, Arc::clone(&wal), data_directory, run, Known::default(), None, progress, &mut packs);
    let (wal_read, _) = copied.await?;
    // The log is in the store: the server need not keep it any longer.
    drop(session);
    let mut entries = entries(&source, &files, &main, run);
    for (file, read) in wal.iter().zip(&wal_read.files) {
        let ReadFile::Read(read) = read else { return Err(gone(&file.location)) };
        entries.push(Entry { path: file.path.clone(), kind: EntryKind::File(read.clone()) });
    }
    let lists = Lists { repository, numbers: &numbers, options };
    let control_entry = lists.control_file(last_control, data_directory, run, &mut packs).await?;
    entries.push(control_entry);
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let entry_places = lists.entries(&entries, &mut packs).await?;
    let stop_s = stopping.elapsed().as_secs_f64();

    progress.event(Event::Step("looking at what was stored".to_owned()));
    let publishing = Instant::now();
    for record in &packs {
        look_at(repository, record).await?;
    }
    let new_bytes = bytes_of(&packs);
    // What the parent has and this backup needs was looked at when it was compared with.
    packs.extend(parent.iter().flat_map(|parent| main.used.keys().filter_map(|name| parent.packs.get(name)).cloned()));
    for record in &mut packs {
        // What is not counted is the backup's own, and all of it is used.
        record.used = main.used.get(&record.pack).map_or(record.bytes, |used| record.bytes.min(*used));
    }
    let mut own_packs = Vec::new();
    let pack_places = lists.packs(&packs, &mut own_packs).await?;
    for record in &own_packs {
        look_at(repository, record).await?;
    }
    let sizes = sizes(&entries, &packs, new_bytes + bytes_of(&own_packs), bytes_of(&own_packs));
    let damaged = damaged(&files, &main, start_lsn, ended.stop, &options.known_damage);
    let manifest = Manifest {
        backup: run,
        parent: builds_on,
        label: options.label.clone(),
        started_at,
        stopped_at,
        cluster: facts,
        wal: WalRange { timeline: ended.label.timeline, start_lsn: start_lsn.to_string(), stop_lsn: ended.stop.to_string() },
        backup_label: ended.label_text,
        tablespace_map: ended.tablespace_map,
        tablespaces: tablespaces(&source, &tablespace_names),
        entries: entry_places,
        packs: pack_places,
        sizes,
        damaged_pages: damaged.clone(),
        outside,
    };
    packs.extend(own_packs);
    announced::publish(repository, &live, &manifest, &packs).await?;
    if let Err(error) = live.end().await {
        progress.event(Event::Warning(format!("what the backup told of itself stays in the store until a later prune: {error}")));
    }
    Ok(BackupReport {
        name: run.to_string(),
        size_bytes: sizes.bytes,
        stored_bytes: sizes.stored_bytes,
        new_bytes: sizes.new_bytes,
        unread_bytes,
        wal_summaries,
        moved_bytes: compaction.moved(),
        duration_s: began.elapsed().as_secs_f64(),
        started_at,
        start_lsn,
        stop_lsn: ended.stop,
        phases: Phases { start_s, copy_s, stop_s, publish_s: publishing.elapsed().as_secs_f64(), effort: numbers.effort().seconds() },
        damaged,
    })
}

async fn tablespace_names(session: &Session) -> Result<Vec<(u32, String)>> {
    let rows = session
        .client()
        .query("SELECT oid, spcname::text FROM pg_catalog.pg_tablespace", &[])
        .await
        .map_err(|error| Error::sql("read the tablespaces", error))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The control file's bytes and what they say.
async fn control_file(data_directory: &Path) -> Result<(Vec<u8>, ControlFile)> {
    let path = data_directory.join(CONTROL_FILE_PATH);
    let folder = data_directory.to_owned();
    workers::run(move || {
        on_behalf::as_owner(&folder, || {
            let mut wrong = None;
            for _ in 0..CONTROL_FILE_TRIES {
                let bytes = fs::read(&path).map_err(|error| Error::file("read", &path, error))?;
                match ControlFile::parse(&bytes) {
                    Ok(control) => return Ok((bytes, control)),
                    Err(error) => wrong = Some(error),
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let why = wrong.map(|error| error.to_string()).unwrap_or_default();
            Err(Error::damaged(
                format!("{} is damaged: {why}", path.display()),
                "stop writing to this cluster, and restore the newest backup elsewhere",
            ))
        })
    })
    .await
}

fn facts(control: &ControlFile, server_version: String, major: u32) -> (ClusterFacts, String) {
    let facts = ClusterFacts {
        system_identifier: control.system_identifier.to_string(),
        server_version,
        major,
        control_version: control.control_version,
        catalog_version: control.catalog_version,
        wal_segment_size: control.wal_segment_size,
        blocks_per_segment: control.blocks_per_segment,
        data_checksums: control.data_checksums(),
    };
    (facts, format!("PG_{major}_{}", control.catalog_version))
}

async fn look(data_directory: &Path, blocks_per_segment: u32, version_folder: String) -> Result<Source> {
    let folder = data_directory.to_owned();
    workers::run(move || on_behalf::as_owner(&folder, || Source::look(&folder, blocks_per_segment, &version_folder))).await
}

/// A standby may follow its primary onto another timeline meanwhile: the log of one alone would not make the backup whole.
fn refuse_another_timeline(ended: &EndedBackup, last: &ControlFile) -> Result<()> {
    let now = last.min_recovery_point_timeline.max(last.timeline);
    if !ended.label.from_standby || now == ended.label.timeline {
        return Ok(());
    }
    Err(Error::unavailable(
        format!("the standby went from timeline {} to {now} while it was backed up: the backup is void", ended.label.timeline),
        "wait until it has replayed a checkpoint of the new timeline, and run the backup again",
    ))
}

/// The segments of the log from START to STOP, and the history of the timeline where it has one.
async fn wal_files(data_directory: &Path, ended: &EndedBackup, start: Lsn, segment_size: u32) -> Result<Arc<[SourceFile]>> {
    let timeline = ended.label.timeline;
    let strange = || Error::damaged(format!("the backup goes from {start} to {}, in segments of {segment_size} bytes", ended.stop), "");
    let first = WalSegment::holding(timeline, start, segment_size).ok_or_else(strange)?;
    let last = WalSegment::ending_at(timeline, ended.stop, segment_size).ok_or_else(strange)?;
    let mut names = Vec::new();
    let mut segment = first;
    while segment.number <= last.number {
        names.push(segment.to_string());
        segment = segment.next();
    }
    if timeline > 1 {
        names.push(format!("{timeline:08X}.history"));
    }
    let folder = data_directory.to_owned();
    workers::run(move || on_behalf::as_owner(&folder, || names.iter().map(|name| wal_file(&folder, name)).collect())).await
}

fn gone(location: &Path) -> Error {
    Error::unavailable(format!("{} is gone: the server did not keep it", location.display()), "run the backup again")
}

fn wal_file(data_directory: &Path, name: &str) -> Result<SourceFile> {
    let relative = PathBuf::from(format!("pg_wal/{name}"));
    let location = data_directory.join(&relative);
    let metadata = fs::metadata(&location).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => gone(&location),
        _ => Error::file("look at", &location, error),
    })?;
    source::file(&relative, location, &metadata, None)
}

fn entries(source: &Source, files: &[SourceFile], read: &Reading, _run: RunName) -> Vec<Entry> {
    let folders = source.folders.iter().map(|(path, mode)| Entry { path: path.clone(), kind: EntryKind::Directory { mode: *mode } });
    let links = source.links.iter().map(|(path, target)| {
        let target = target.to_string_lossy().into_owned();
        Entry { path: path.clone(), kind: EntryKind::Link { target } }
    });
    let files = files.iter().zip(&read.files).filter_map(|(file, read)| match read {
        ReadFile::Read(read) => Some(Entry { path: file.path.clone(), kind: EntryKind::File(read.clone()) }),
        ReadFile::Vanished => None,
    });
    folders.chain(links).chain(files).collect()
}

/// The pages that no log repairs.
fn damaged(files: &[SourceFile], read: &Reading, start: Lsn, stop: Lsn, known: &[KnownDamage]) -> Vec<DamagedPage> {
    let mut told = HashSet::new();
    // What is moved is read twice.
    let bad = read.suspicious.iter().filter(|(file, page)| !page.is_torn(start, stop) && told.insert((*file, page.block)));
    bad.map(|(file, page)| DamagedPage {
        path: String::from_utf8_lossy(files[*file].path.as_bytes()).into_owned(),
        block: page.block,
        stored: page.stored,
        computed: page.computed,
        sha256: page.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        known: false,
    })
    .map(|page| DamagedPage { known: known.iter().any(|known| known.is(&page)), ..page })
    .collect()
}

fn tablespaces(source: &Source, names: &[(u32, String)]) -> Vec<Tablespace> {
    let name = |oid: u32| names.iter().find(|(other, _)| *other == oid).map(|(_, name)| name.clone()).unwrap_or_default();
    let told = source.tablespaces.iter();
    told.map(|one| Tablespace { oid: one.oid, name: name(one.oid), location: one.location.to_string_lossy().into_owned() }).collect()
}

fn bytes_of(packs: &[PackRecord]) -> u64 {
    packs.iter().map(|pack| pack.size).sum()
}

/// `lists` are the bytes of the packs that tell of the others.
fn sizes(entries: &[Entry], packs: &[PackRecord], new_bytes: u64, lists: u64) -> Sizes {
    let mut sizes = Sizes { stored_bytes: bytes_of(packs) + lists, new_bytes, ..Sizes::default() };
    for entry in entries {
        if let EntryKind::File(FileEntry { size, .. }) = entry.kind {
            sizes.files += 1;
            sizes.bytes += size;
        }
    }
    sizes
}

/// A put that was acknowledged is not yet a put that can be read.
async fn look_at(repository: &Repository, record: &PackRecord) -> Result<()> {
    let pack = OpenPack::read(repository, record.pack).await?;
    if pack.digest == record.digest && pack.size == record.size {
        return Ok(());
    }
    Err(Error::damaged(
        format!("{} in {} is not what was put there", layout::pack(record.pack), repository.store()),
        "the store loses or changes what it acknowledges: try `pgpersist store check`",
    ))
}

/// Writes what is no file of the cluster: lists, and the control file.
struct Lists<'a> {
    repository: &'a Repository,
    numbers: &'a PackNumbers,
    options: &'a BackupOptions,
}

impl Lists<'_> {
    async fn items(&self, items: Vec<Vec<u8>>, packs: &mut Vec<PackRecord>) -> Result<Vec<Place>> {
        let (mut writer, written) = PackWriter::begin(self.repository, self.numbers.clone(), PackKind::Maps, self.options.compression)?;
        let key = self.repository.hash_key().clone();
        let places = workers::run(move || {
            let places = items.iter().map(|item| writer.add(item, key.identify(item), None)).collect::<Result<Vec<Place>>>()?;
            writer.finish()?;
            Ok(places)
        })
        .await;
        packs.extend(written.wait().await?);
        places
    }

    async fn entries(&self, entries: &[Entry], packs: &mut Vec<PackRecord>) -> Result<Vec<Place>> {
        let mut lists = vec![Vec::new()];
        for entry in entries {
            if lists.last().is_some_and(|list: &Vec<u8>| list.len() > LIST_BYTES) {
                lists.push(Vec::new());
            }
            let list = lists.last_mut().expect("there is one");
            entry::append(list, entry).map_err(|fault| Error::Bug(format!("an entry cannot be written: {fault}")))?;
        }
        self.items(lists, packs).await
    }

    async fn packs(&self, records: &[PackRecord], packs: &mut Vec<PackRecord>) -> Result<Vec<Place>> {
        let mut lists = vec![Vec::new()];
        for record in records {
            if lists.last().is_some_and(|list: &Vec<u8>| list.len() > LIST_BYTES) {
                lists.push(Vec::new());
            }
            let list = lists.last_mut().expect("there is one");
            serde_json::to_writer(&mut *list, record).map_err(|error| Error::Bug(format!("a pack cannot be told: {error}")))?;
            list.push(b'\n');
        }
        self.items(lists, packs).await
    }

    async fn control_file(&self, bytes: Vec<u8>, data_directory: &Path, run: RunName, packs: &mut Vec<PackRecord>) -> Result<Entry> {
        let size = bytes.len() as u64;
        let relative = PathBuf::from(CONTROL_FILE_PATH);
        let metadata = fs_metadata(data_directory.join(&relative)).await?;
        let file = source::file(&relative, data_directory.join(&relative), &metadata, None)?;
        let (mut writer, written) = PackWriter::begin(self.repository, self.numbers.clone(), PackKind::Chunks, self.options.compression)?;
        let key: HashKey = self.repository.hash_key().clone();
        let path: EntryPath = file.path.clone();
        let chunk = workers::run(move || {
            let owner = crate::repo::pack_builder::Owner { path: path.as_bytes(), chunk: 0 };
            let place = writer.add(&bytes, key.identify(&bytes), Some(owner))?;
            writer.finish()?;
            Ok(place)
        })
        .await;
        packs.extend(written.wait().await?);
        let mut leaf = crate::repo::leaf::Leaf::default();
        leaf.push(crate::repo::leaf::Stretch { chunks: 1, place: Some(chunk?) });
        let leaves = self.items(vec![leaf.encode()], packs).await?;
        let entry = FileEntry { mode: file.mode, size, leaves, stamp: file.stamp, read_fully: run };
        Ok(Entry { path: file.path, kind: EntryKind::File(entry) })
    }
}

async fn fs_metadata(path: PathBuf) -> Result<fs::Metadata> {
    workers::run(move || {
        let folder = path.parent().unwrap_or(&path).to_owned();
        on_behalf::as_owner(&folder, || fs::metadata(&path).map_err(|error| Error::file("look at", &path, error)))
    })
    .await
}
