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
use crate::repo::entry::{Entry, EntryKind, FileEntry};
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::manifest::Manifest;
use crate::repo::names::{PackName, Place, RunName};
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_reader::OpenPack;
use crate::repo::repository::Repository;
use crate::repo::trailer::CHUNK_BYTES;
use crate::restore::configuration::MAIN;
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
}

impl Survey {
    /// Looks at a backup: its lists and maps, and each pack's length and trailer.
    ///
    /// # Errors
    /// `NotFound` when there is no such backup; `Damaged` with the files that cannot be restored; what the store says.
    pub async fn look(repository: &Repository, backup: RunName, progress: &dyn ProgressSink) -> Result<Self> {
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
        };
        let mut touched = Vec::new();
        for entry in entries.iter() {
            let mut bytes = 0;
            if let EntryKind::File(file) = &entry.kind {
                let relation = RelationFile::classify(Path::new(OsStr::from_bytes(entry.path.as_bytes())));
                survey.unlogged += u64::from(relation.is_some_and(|relation| relation.fork == Fork::Init && relation.segment == 0));
                match written(&mut contents, entry, file, &wrong).await? {
                    Some(written) => bytes = written.next_multiple_of(BLOCK_BYTES),
                    None => touched.push(String::from_utf8_lossy(entry.path.as_bytes()).into_owned()),
                }
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
        if !wrong.is_empty() {
            return Err(unrestorable(repository, backup, &wrong, &touched));
        }
        survey.control = survey.small(&mut contents, CONTROL_FILE_PATH).await?.and_then(|bytes| ControlFile::parse(&bytes).ok());
        survey.settings = survey.settings_of_the_host(&mut contents).await?;
        Ok(survey)
    }

    /// The bytes of all its files, without their holes.
    pub fn bytes(&self) -> u64 {
        self.tablespaces.values().fold(self.data_directory.bytes, |bytes, room| bytes.saturating_add(room.bytes))
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
    async fn small(&self, contents: &mut Contents<'_>, path: &str) -> Result<Option<Vec<u8>>> {
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

/// How many bytes of a file are written, its holes not among them; nothing where a pack is in the way.
async fn written(contents: &mut Contents<'_>, entry: &Entry, file: &FileEntry, wrong: &Wrong) -> Result<Option<u64>> {
    let (mut chunks, mut stored, mut whole) = (0_u64, 0_u64, true);
    for place in &file.leaves {
        if wrong.contains_key(&place.pack) {
            return Ok(None);
        }
        let leaf = contents.leaf(*place).await?;
        chunks += u64::from(leaf.chunks());
        for stretch in leaf.stretches() {
            if let Some(first) = stretch.place {
                stored += u64::from(stretch.chunks);
                whole &= !wrong.contains_key(&first.pack);
            }
        }
    }
    if chunks != file.chunks() {
        return Err(Error::damaged(
            format!("the map of {} does not fit its length", String::from_utf8_lossy(entry.path.as_bytes())),
            "choose another backup: see `pgpersist list`",
        ));
    }
    Ok(whole.then(|| file.size.min(stored.saturating_mul(CHUNK_BYTES.into()))))
}

fn unrestorable(repository: &Repository, backup: RunName, wrong: &Wrong, touched: &[String]) -> Error {
    let packs: Vec<String> = wrong.values().take(NAMED).map(ToString::to_string).collect();
    let more = |number: usize| if number > NAMED { format!(", and {} more", number - NAMED) } else { String::new() };
    let files = match touched.len() {
        0 => "no file of it is touched, but what tells of its packs".to_owned(),
        number => format!("{number} files are touched: {}{}", touched[..number.min(NAMED)].join(", "), more(number)),
    };
    Error::damaged(
        format!("{backup} in {} cannot be restored whole: {}{}; {files}", repository.store(), packs.join("; "), more(wrong.len())),
        "restore another backup (`pgpersist list`), or bring the packs from a copy of the store; nothing was touched",
    )
}
