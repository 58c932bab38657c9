//! [`Survey`]: all that a restore must know of a backup before it writes a byte, read from the repository: is all there that the backup names,
//! and how much room does it take?

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::error::{Error, ErrorKind, Result};
use crate::migrate::configuration::Setting;
use crate::pg::control_file::{CONTROL_FILE_PATH, ControlFile};
use crate::pg::recovery_settings::AUTO_CONF;
use crate::pg::relation_file::{Fork, RelationFile};
use crate::progress::{Event, ProgressSink};
use crate::repo::contents::Contents;
use crate::repo::entry::{Entry, EntryKind, EntryPath, FileEntry};
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::leaf::LEAF_CHUNKS;
use crate::repo::manifest::Manifest;
use crate::repo::names::{PackName, Place, RunName};
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_reader::OpenPack;
use crate::repo::repository::Repository;
use crate::repo::trailer::CHUNK_BYTES;
use crate::restore::configuration::MAIN;
use crate::restore::damage::{Damage, Losses, is_damage, vital};
use crate::restore::tree;

/// How many packs are looked at together.
const PACKS_AT_ONCE: usize = 8;
/// What a file takes on a disk at least.
const BLOCK_BYTES: u64 = 4096;
/// What a small file has at most: configuration has far less.
const SMALL_BYTES: u64 = 1 << 20;
/// How many files an error names.
const NAMED: usize = 5;
/// Settings that a machine must be able to follow.
const OF_THE_HOST: [&str; 6] = ["archive_library", "archive_mode", "huge_pages", "shared_buffers", "shared_preload_libraries", "wal_level"];

/// Room on a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes of all files, without their holes.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
}

/// A backup that is all there.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Which one.
    pub backup: RunName,
    /// What its manifest says.
    pub manifest: Manifest,
    /// Its entries.
    pub entries: Arc<[Entry]>,
    /// What its data directory takes.
    pub data_directory: Room,
    /// What its tablespaces take, by OID.
    pub tablespaces: BTreeMap<u32, Room>,
    /// How many relations come back empty, since nobody logs them.
    pub unlogged: u64,
    /// What its control file says, where it can be understood.
    pub control: Option<ControlFile>,
    /// What its configuration says of settings that a machine must be able to follow.
    pub settings: BTreeMap<String, String>,
    /// What of it is known to be gone, where it was looked at all the same.
    pub damage: Option<Damage>,
}

/// Whether a backup of which something is gone is looked at all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// It is an error.
    Nothing,
    /// The rest is what is wanted.
    Damage,
}

impl Survey {
    /// Looks at a backup: its lists and maps, and each pack's length and trailer.
    ///
    /// # Errors
    /// `NotFound` when there is no such backup; `Damaged` with the files that cannot be restored; what the store says.
    pub async fn look(repository: &Repository, backup: RunName, progress: &dyn ProgressSink) -> Result<Self> {
        Self::look_with(repository, backup, Tolerance::Nothing, progress).await
    }

    /// As [`look`](Self::look); where damage is tolerated, it is told in what is returned. Only what is found without reading all pages is known
    /// then.
    ///
    /// # Errors
    /// As [`look`](Self::look); `Damaged` also when the backup is nothing without what is gone.
    pub async fn look_with(repository: &Repository, backup: RunName, tolerance: Tolerance, progress: &dyn ProgressSink) -> Result<Self> {
        let manifest = repository.manifest(backup).await.map_err(|error| missing(backup, error))?;
        // Who has public keys only reads names, and no file.
        repository.require_data(backup).await?;
        progress.event(Event::Step(format!("looking at what {backup} needs")));
        let mut contents = Contents::new(repository);
        let records = contents.packs(&manifest).await.map_err(damaged)?;
        let wrong = wrong_packs(repository, &records).await?;
        let entries: Arc<[Entry]> = match contents.all_entries(&manifest).await {
            Ok(entries) => entries.into(),
            Err(error) => return Err(damaged(first_of(wrong).unwrap_or(error))),
        };
        let mut survey = Self {
            backup,
            manifest,
            entries: Arc::clone(&entries),
            data_directory: Room::default(),
            tablespaces: BTreeMap::new(),
            unlogged: 0,
            control: None,
            settings: BTreeMap::new(),
            damage: None,
        };
        let losses = Losses::default();
        for entry in entries.iter() {
            let mut bytes = 0;
            if let EntryKind::File(file) = &entry.kind {
                let relation = RelationFile::classify(Path::new(OsStr::from_bytes(entry.path.as_bytes())));
                survey.unlogged += u64::from(relation.is_some_and(|relation| relation.fork == Fork::Init && relation.segment == 0));
                let written = written(&mut contents, (&entry.path, file), &wrong, tolerance, &losses).await?;
                bytes = written.next_multiple_of(BLOCK_BYTES);
            }
            let room = match tree::in_tablespace(&entry.path) {
                Some((oid, Some(_))) if survey.manifest.tablespaces.iter().any(|one| one.oid == oid) => {
                    survey.tablespaces.entry(oid).or_default()
                }
                _ => &mut survey.data_directory,
            };
            room.bytes = room.bytes.saturating_add(bytes);
            room.inodes += 1;
        }
        let files = losses.files();
        if !wrong.is_empty() || !files.is_empty() || tolerance == Tolerance::Damage {
            let packs = wrong.values().map(ToString::to_string).collect();
            let damage = Damage { packs, files, backups: others_touched(repository, backup, &wrong).await };
            if tolerance == Tolerance::Nothing {
                return Err(unrestorable(repository, backup, &damage));
            }
            if let Some(error) = vital(&damage.files) {
                return Err(error);
            }
            survey.damage = Some(damage);
        }
        match survey.look_into_files(&mut contents).await {
            Err(error) if tolerance == Tolerance::Damage && is_damage(&error) => {}
            looked => looked?,
        }
        Ok(survey)
    }

    /// The bytes of all its files, without their holes.
    pub fn bytes(&self) -> u64 {
        self.tablespaces.values().fold(self.data_directory.bytes, |bytes, room| bytes.saturating_add(room.bytes))
    }

    async fn look_into_files(&mut self, contents: &mut Contents<'_>) -> Result<()> {
        self.control = self.small(contents, CONTROL_FILE_PATH).await?.and_then(|bytes| ControlFile::parse(&bytes).ok());
        self.settings = self.settings_of_the_host(contents).await?;
        Ok(())
    }

    async fn settings_of_the_host(&self, contents: &mut Contents<'_>) -> Result<BTreeMap<String, String>> {
        let mut texts = Vec::new();
        for name in [MAIN, AUTO_CONF] {
            texts.extend(self.small(contents, name).await?);
            // What lay outside comes before what ALTER SYSTEM wrote.
            if name == MAIN {
                texts.extend(self.manifest.outside.iter().map(|file| file.content.clone().into_bytes()));
            }
        }
        let lines = texts.iter().flat_map(|text| text.split(|byte| *byte == b'\n'));
        let settings = lines.filter_map(Setting::parse).filter(|setting| OF_THE_HOST.contains(&setting.name.as_str()));
        Ok(settings.map(|setting| (setting.name, setting.value)).collect())
    }

    /// A small file's content; nothing where there is none.
    pub(crate) async fn small(&self, contents: &mut Contents<'_>, path: &str) -> Result<Option<Vec<u8>>> {
        let Ok(at) = self.entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path.as_bytes())) else { return Ok(None) };
        let EntryKind::File(file) = &self.entries[at].kind else { return Ok(None) };
        if file.size > SMALL_BYTES {
            return Ok(None);
        }
        let mut bytes: Vec<u8> = Vec::new();
        for place in &file.leaves {
            let leaf = contents.leaf(*place).await?;
            for stretch in leaf.stretches() {
                for nth in 0..stretch.chunks {
                    match stretch.place {
                        Some(first) => {
                            bytes.extend_from_slice(&contents.item(Place { item: first.item.saturating_add(nth), ..first }).await?)
                        }
                        None => bytes.resize(bytes.len() + CHUNK_BYTES as usize, 0),
                    }
                }
            }
        }
        bytes.truncate(file.size as usize);
        Ok(Some(bytes))
    }
}

fn missing(backup: RunName, error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        Error::not_found(format!("there is no backup {backup}"), "see `pgpersist list` for those that there are")
    } else {
        error
    }
}

/// What a backup names must be there.
fn damaged(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        Error::damaged(error.to_string(), "restore another backup (`pgpersist list`), or bring what is missing from a copy of the store")
    } else {
        error
    }
}

/// What is wrong with packs.
type Wrong = BTreeMap<PackName, Error>;

async fn wrong_packs(repository: &Repository, records: &[PackRecord]) -> Result<Wrong> {
    let mut wrong = Wrong::new();
    for some in records.chunks(PACKS_AT_ONCE) {
        let looks = join_all(some.iter().map(|record| OpenPack::read(repository, record.pack))).await;
        for (record, look) in some.iter().zip(looks) {
            let error = match look {
                Ok(pack) if pack.digest == record.digest && pack.size == record.size => continue,
                Ok(_) => repository.wrong(&layout::pack(record.pack), Fault::Digest),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => error,
                Err(error) => return Err(error),
            };
            wrong.insert(record.pack, error);
        }
    }
    Ok(wrong)
}

fn first_of(wrong: Wrong) -> Option<Error> {
    wrong.into_values().next()
}

/// How many bytes of a file are written, its holes not among them. What is in the way of its pages is noted.
async fn written(
    contents: &mut Contents<'_>,
    (path, file): (&EntryPath, &FileEntry),
    wrong: &Wrong,
    tolerance: Tolerance,
    losses: &Losses,
) -> Result<u64> {
    let (mut at, mut stored) = (0_u64, 0_u64);
    for place in &file.leaves {
        let leaf = if wrong.contains_key(&place.pack) {
            None
        } else {
            match contents.leaf(*place).await {
                Ok(leaf) => Some(leaf),
                Err(error) if tolerance == Tolerance::Damage && is_damage(&error) => None,
                Err(error) => return Err(error),
            }
        };
        let Some(leaf) = leaf else {
            let count = file.chunks().saturating_sub(at).min(LEAF_CHUNKS.into());
            losses.add(path, at, count);
            at += count;
            continue;
        };
        for stretch in leaf.stretches() {
            let chunks = u64::from(stretch.chunks);
            if let Some(first) = stretch.place {
                stored += chunks;
                if wrong.contains_key(&first.pack) {
                    losses.add(path, at, chunks);
                }
            }
            at += chunks;
        }
    }
    if at != file.chunks() {
        return Err(Error::damaged(
            format!("the map of {} does not fit its length", String::from_utf8_lossy(path.as_bytes())),
            "choose another backup: see `pgpersist list`",
        ));
    }
    Ok(file.size.min(stored.saturating_mul(CHUNK_BYTES.into())))
}

/// The other backups that name a pack with which something is wrong. One that cannot be read is left out: it is nobody's any more.
async fn others_touched(repository: &Repository, backup: RunName, wrong: &Wrong) -> Vec<String> {
    let mut touched = Vec::new();
    for other in repository.backups().await.unwrap_or_default() {
        if other == backup {
            continue;
        }
        let Ok(manifest) = repository.manifest(other).await else { continue };
        if let Ok(records) = Contents::new(repository).packs(&manifest).await
            && records.iter().any(|record| wrong.contains_key(&record.pack))
        {
            touched.push(other.to_string());
        }
    }
    touched
}

fn unrestorable(repository: &Repository, backup: RunName, damage: &Damage) -> Error {
    let named = |all: &[String]| {
        let more = if all.len() > NAMED { format!(", and {} more", all.len() - NAMED) } else { String::new() };
        format!("{}{more}", all[..all.len().min(NAMED)].join("; "))
    };
    let files: Vec<String> = damage.files.iter().map(ToString::to_string).collect();
    let files = match files.len() {
        0 => "no file of it is touched, but what tells of its packs".to_owned(),
        number => format!("{number} files are touched: {}", named(&files)),
    };
    let backups = match damage.backups.len() {
        0 => "no other backup needs them".to_owned(),
        _ => format!("these backups need them, too: {}", damage.backups.join(", ")),
    };
    Error::damaged(
        format!("{backup} in {} cannot be restored whole: {}; {files}; {backups}", repository.store(), named(&damage.packs)),
        "restore another backup (`pgpersist list`), bring the packs from a copy of the store, or restore what is left, for salvage alone, with `--without-damaged`; nothing was touched",
    )
}
