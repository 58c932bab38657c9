//! [`Shelf`]: the dumps of a cluster in a store: which there are, whose they are, which is the newest, where the next one goes.
//!
//! With one configured database its dumps lie at the top of the store; those of other databases, and all of them when
//! several are configured, lie in a folder for each. Readers look in both places, since the configuration changes over time,
//! and believe the side file's database before the place. Without a side file a dump belongs to the database of its folder;
//! one at the top belongs to the one configured database, or to nobody when there are several.
//!
//! Dumps are ordered by their names, which are in order even when the clock was set back (see
//! [`next_free`]); those dated far ahead of the clock come last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use time::OffsetDateTime;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::logical::cluster_card::ClusterCard;
use crate::logical::name::{DumpKind, DumpName, ENCRYPTED_SUFFIX, SIDE_FILE_SUFFIX, database_of, folder_of, is_ahead, next_free, plain};
use crate::logical::shelf_keys::ShelfKeys;
use crate::logical::side_file::{self, SideFile};
use crate::retention::Retention;
use crate::store::{BackupStore, ObjectKey, ObjectMeta};

/// How many side files are read at a time.
const READERS: usize = 8;
/// An empty text in gzip has 20 bytes: what `pg_dump | gzip` leaves behind when pg_dump fails at once.
const EMPTY_GZIP: u64 = 20;

/// The dumps in one store, as one cluster sees them.
#[derive(Debug, Clone)]
pub struct Shelf {
    store: Arc<dyn BackupStore>,
    cluster: String,
    databases: Vec<String>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: Option<Arc<ShelfKeys>>,
    copies: Vec<CopyShelf>,
}

/// The shelf of the same cluster in another store, which receives copies.
#[derive(Debug, Clone)]
pub struct CopyShelf {
    /// The dumps there. It has no copies of its own.
    pub shelf: Shelf,
    /// What is kept there.
    pub retention: Retention,
}

/// What is known of a dump without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DumpState {
    /// It has the size that its side file tells. Only `verify` knows more.
    Complete,
    /// It has no side file: made elsewhere, or by a pgpersist that was killed just after the dump was stored.
    Unknown,
    /// It cannot be what was written.
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

/// One dump in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DumpEntry {
    /// Its path relative to the store: what `load` and `verify` take.
    pub name: ObjectKey,
    /// The database it holds; nothing when nothing tells.
    pub database: Option<String>,
    /// When it began, by its side file, else by its name.
    #[serde(with = "time::serde::rfc3339")]
    pub taken_at: OffsetDateTime,
    /// Its size in the store, without the side file.
    pub size_bytes: u64,
    /// Whether it is encrypted, by its name.
    pub encrypted: bool,
    /// What is known of it.
    #[serde(flatten)]
    pub state: DumpState,
    /// Its side file, where it has a good one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side_file: Option<SideFile>,
    /// The object of its side file, good or not.
    #[serde(skip)]
    pub(super) side_object: Option<ObjectMeta>,
    #[serde(skip)]
    pub(super) named: DumpName,
}

impl DumpEntry {
    /// The moment in its name, by which dumps are ordered and age.
    pub fn named_time(&self) -> OffsetDateTime {
        self.named.time()
    }

    /// Whether it can be loaded, as far as is known.
    pub fn is_good(&self) -> bool {
        !matches!(self.state, DumpState::Damaged { .. })
    }

    fn is_of(&self, cluster: &str) -> bool {
        self.side_file.as_ref().is_none_or(|side_file| side_file.cluster == cluster)
    }
}

/// Everything in a store that has a dump's name.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    /// This cluster's dumps, newest first.
    pub(super) ours: Vec<DumpEntry>,
    /// Those of other clusters, by their side files.
    pub(super) foreign: Vec<DumpEntry>,
    /// Dumps of roles, of any cluster.
    pub(super) globals: Vec<Globals>,
    /// Side files of nothing.
    pub(super) orphans: Vec<ObjectMeta>,
}

/// A dump of roles.
#[derive(Debug, Clone)]
pub(super) struct Globals {
    pub(super) object: ObjectMeta,
    pub(super) named: DumpName,
    pub(super) side_object: Option<ObjectMeta>,
}

impl Contents {
    /// As [`Shelf::find`]; `place` is what the store is called.
    pub(super) fn find(&self, name: &str, database: Option<&str>, cluster: &str, place: &str) -> Result<&DumpEntry> {
        let Self { ours, foreign, .. } = self;
        let of_database = |entry: &&DumpEntry| database.is_none() || entry.database.as_deref() == database;
        if name == "latest" {
            let foreign = foreign.iter().filter(of_database).count();
            return latest(ours.iter().filter(of_database), foreign, database, cluster, place);
        }
        if let Some(exact) = ours.iter().chain(foreign).find(|entry| entry.name.as_str() == name) {
            return Ok(exact);
        }
        let named = |is_it: &dyn Fn(&DumpEntry) -> bool| ours.iter().filter(of_database).filter(|entry| is_it(entry)).collect::<Vec<_>>();
        let mut found = named(&|entry| entry.name.file_name() == name);
        if found.is_empty() {
            // Where one store is encrypted and another is not, a dump has two names.
            let wanted = name.strip_suffix(ENCRYPTED_SUFFIX).unwrap_or(name);
            let is_it = |entry: &DumpEntry| plain(&entry.name) == wanted || plain(&entry.name).rsplit('/').next() == Some(wanted);
            found = named(&is_it);
        }
        match found[..] {
            [one] => Ok(one),
            [] => Err(Error::not_found(
                format!("there is no dump `{}` in {place}", name.escape_debug()),
                "`pgpersist list` shows the dumps; give a path with a `/` for a file elsewhere",
            )),
            [first, second, ..] => Err(Error::invalid(
                format!("`{name}` may be {} or {}", first.name, second.name),
                "give the name with its folder, or the database with `-d`",
            )),
        }
    }

    /// Puts the dumps of this cluster into their order, newest first.
    pub(super) fn sort(entries: &mut [DumpEntry], now: OffsetDateTime) {
        let order = |entry: &DumpEntry| (is_ahead(entry.named_time(), now), std::cmp::Reverse(entry.named_time()));
        entries.sort_by(|left, right| order(left).cmp(&order(right)).then_with(|| right.name.cmp(&left.name)));
    }
}

fn latest<'a>(
    ours: impl Iterator<Item = &'a DumpEntry>,
    foreign: usize,
    database: Option<&str>,
    cluster: &str,
    place: &str,
) -> Result<&'a DumpEntry> {
    let ours: Vec<_> = ours.collect();
    let databases: BTreeSet<_> = ours.iter().map(|entry| &entry.database).collect();
    if databases.len() > 1 {
        return Err(Error::invalid(
            format!("there are dumps of {} databases in {place}", databases.len()),
            "say of which one with `-d DATABASE`",
        ));
    }
    let of = database.map(|database| format!(" of `{}`", database.escape_debug())).unwrap_or_default();
    match (ours.iter().find(|entry| entry.is_good()), ours.first()) {
        (Some(good), _) => Ok(good),
        (None, Some(damaged)) => Err(Error::damaged(
            format!("all dumps{of} in {place} are damaged, the newest is {}", damaged.name),
            "`pgpersist verify` tells what is wrong; look for copies in other stores",
        )),
        (None, None) if foreign > 0 => Err(Error::not_found(
            format!("there is no dump{of} of the cluster `{cluster}` in {place}, only of others"),
            "name the dump by its path in the store, or set `[cluster] name`",
        )),
        (None, None) => {
            Err(Error::not_found(format!("there is no dump{of} in {place}"), "make one with `pgpersist dump`, or check `--store`"))
        }
    }
}

impl Shelf {
    /// The shelf of the cluster named `cluster`, whose configured databases are `databases`.
    pub fn new(store: Arc<dyn BackupStore>, cluster: impl Into<String>, databases: Vec<String>) -> Self {
        Self { store, cluster: cluster.into(), databases, clock: Arc::new(SystemClock), keys: None, copies: Vec::new() }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The same with other stores that receive copies, in the order in which they are asked where this one does not have
    /// what it should. What is said of this shelf is said of its own store, except where a function says otherwise.
    #[must_use]
    pub fn with_copies(self, copies: Vec<CopyShelf>) -> Self {
        Self { copies, ..self }
    }

    /// The other stores that receive copies.
    pub fn copies(&self) -> &[CopyShelf] {
        &self.copies
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The cluster's name in the stores.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn BackupStore> {
        &self.store
    }

    /// This cluster's dumps of databases, newest first; also those whose cluster nothing tells.
    ///
    /// # Errors
    /// What the store says. Side files that cannot be understood are no error: their dumps are damaged.
    pub async fn list(&self) -> Result<Vec<DumpEntry>> {
        Ok(self.contents().await?.ours)
    }

    /// The same without the dumps of a cluster that had this one's name before, as after `init --new`: of the cluster that the
    /// store serves now, by its card, and of those whose cluster nothing tells.
    ///
    /// # Errors
    /// As [`list`](Self::list); `Damaged` when the card cannot be understood.
    pub async fn list_current(&self) -> Result<Vec<DumpEntry>> {
        let card = ClusterCard::read(self.store.as_ref(), &self.cluster).await?;
        let mut dumps = self.list().await?;
        if let Some(card) = card {
            dumps.retain(|dump| dump.side_file.as_ref().is_none_or(|side_file| side_file.system_identifier == card.system_identifier));
        }
        Ok(dumps)
    }

    /// The names of the dumps of roles in the store, in order.
    ///
    /// # Errors
    /// What the store says.
    pub async fn globals(&self) -> Result<Vec<ObjectKey>> {
        Ok(self.objects().await?.into_iter().filter(|(_, named)| named.kind() == DumpKind::Globals).map(|(meta, _)| meta.key).collect())
    }

    /// Finds the dump with this name, or the `latest` that is not damaged.
    ///
    /// A name may leave out the folder, where that is clear. `database` narrows the choice; `latest` needs it when there are
    /// dumps of several. Dumps of other clusters are found by their exact name only.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the name fits several; `Damaged` when `latest` finds nothing but damage.
    pub async fn find(&self, name: &str, database: Option<&str>) -> Result<DumpEntry> {
        self.contents().await?.find(name, database, &self.cluster, &self.store.to_string()).cloned()
    }

    /// Where a dump of `database` with this time in its name lies.
    ///
    /// # Errors
    /// `Invalid` when the database's name is too long to be a folder.
    pub fn key_for(&self, database: &str, time: OffsetDateTime) -> Result<ObjectKey> {
        self.key(database, DumpName::new(DumpKind::Database, time).encrypted(self.encrypts()))
    }

    /// Where the roles that belong to a dump of `database` lie: beside it.
    ///
    /// # Errors
    /// As [`key_for`](Self::key_for).
    pub fn globals_key_for(&self, database: &str, time: OffsetDateTime) -> Result<ObjectKey> {
        self.key(database, DumpName::new(DumpKind::Globals, time).encrypted(self.encrypts()))
    }

    fn key(&self, database: &str, name: DumpName) -> Result<ObjectKey> {
        if matches!(&self.databases[..], [one] if one == database) {
            name.to_string().parse()
        } else {
            format!("{}/{name}", folder_of(database)).parse()
        }
    }

    /// The time for the name of the next dump of `database`, later than all its names and free in its place, and a warning
    /// when a name is far ahead of the clock.
    ///
    /// # Errors
    /// What the store says.
    pub async fn next_time(&self, database: &str) -> Result<(OffsetDateTime, Option<String>)> {
        let now = self.clock.now();
        let Contents { ours, foreign, globals, orphans } = self.contents().await?;
        let place = self.key_for(database, now)?;
        let here = |key: &ObjectKey| key.folder() == place.folder();
        let dumps = ours.iter().chain(&foreign).filter(|entry| here(&entry.name) || entry.database.as_deref() == Some(database));
        let globals = globals.iter().filter(|globals| here(&globals.object.key)).map(|globals| globals.named.time());
        let orphans = orphans.iter().filter(|orphan| here(&orphan.key));
        let orphans = orphans.filter_map(|orphan| DumpName::parse_side_file(orphan.key.file_name())).map(DumpName::time);
        Ok(next_free(now, dumps.map(DumpEntry::named_time).chain(globals).chain(orphans)))
    }

    /// All objects with exactly the name of a dump or of its side file, in the places where dumps lie.
    pub(super) async fn objects(&self) -> Result<Vec<(ObjectMeta, DumpName)>> {
        let folders = self.store.folders("").await?;
        let places = folders.iter().filter(|folder| database_of(folder).is_some()).map(|folder| format!("{folder}/"));
        let mut found = Vec::new();
        // What else lies in a store may be large, and is never walked through.
        for place in std::iter::once(String::new()).chain(places) {
            for kind in [DumpKind::Database, DumpKind::Globals] {
                let prefix = format!("{place}{}", kind.prefix());
                let mut listed = self.store.list(&prefix);
                while let Some(meta) = listed.try_next().await? {
                    let name = meta.key.as_str().get(place.len()..).unwrap_or_default();
                    let named = DumpName::parse(name).or_else(|| DumpName::parse_side_file(name));
                    found.extend(named.map(|named| (meta, named)));
                }
            }
        }
        Ok(found)
    }

    /// Of these dumps of databases, those of this cluster or of nobody, with what their side files tell.
    pub(super) async fn described(&self, dumps: Vec<ObjectMeta>) -> Result<Vec<DumpEntry>> {
        let mut described = Vec::new();
        for object in dumps {
            let Some(named) = DumpName::parse(object.key.file_name()) else { continue };
            let side_object = match self.store.head(&format!("{}{SIDE_FILE_SUFFIX}", object.key).parse()?).await {
                Ok(meta) => Some(meta),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            described.push(self.entry(object, named, side_object));
        }
        let mut entries: Vec<DumpEntry> = stream::iter(described).buffered(READERS).try_collect().await?;
        entries.retain(|entry| entry.is_of(&self.cluster));
        Ok(entries)
    }

    pub(super) async fn contents(&self) -> Result<Contents> {
        let (mut side_objects, mut dumps) = (BTreeMap::new(), Vec::new());
        for (meta, named) in self.objects().await? {
            match meta.key.as_str().strip_suffix(SIDE_FILE_SUFFIX) {
                Some(dump) => drop(side_objects.insert(dump.to_owned(), meta)),
                None => dumps.push((meta, named)),
            }
        }
        let (mut globals, mut described) = (Vec::new(), Vec::new());
        for (object, named) in dumps {
            let side_object = side_objects.remove(object.key.as_str());
            match named.kind() {
                DumpKind::Globals => globals.push(Globals { object, named, side_object }),
                DumpKind::Database => described.push((object, named, side_object)),
            }
        }
        let read = described.into_iter().map(|(object, named, side_object)| self.entry(object, named, side_object));
        let mut entries: Vec<DumpEntry> = stream::iter(read).buffered(READERS).try_collect().await?;
        let now = self.clock.now();
        Contents::sort(&mut entries, now);
        let (ours, foreign) = entries.into_iter().partition(|entry| entry.is_of(&self.cluster));
        Ok(Contents { ours, foreign, globals, orphans: side_objects.into_values().collect() })
    }

    async fn entry(&self, object: ObjectMeta, named: DumpName, side_object: Option<ObjectMeta>) -> Result<DumpEntry> {
        let (side_file, state) = match &side_object {
            None if object.size_bytes <= EMPTY_GZIP => (None, damaged("it holds nothing")),
            None => (None, DumpState::Unknown),
            Some(side_object) => match self.side_file(side_object).await {
                Ok(Some(side_file)) if side_file.size_bytes == object.size_bytes => (Some(side_file), DumpState::Complete),
                Ok(Some(side_file)) => {
                    let state = damaged(format!("it has {} bytes, and its side file tells {}", object.size_bytes, side_file.size_bytes));
                    (Some(side_file), state)
                }
                Ok(None) => (None, DumpState::Unknown),
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Denied) => (None, damaged(error.to_string())),
                Err(error) => return Err(error),
            },
        };
        let database = match (&side_file, object.key.folder()) {
            (Some(side_file), _) => Some(side_file.database.clone()),
            (None, Some(folder)) => database_of(folder),
            (None, None) => match &self.databases[..] {
                [one] => Some(one.clone()),
                _ => None,
            },
        };
        let taken_at = side_file.as_ref().map_or(named.time(), |side_file| side_file.started_at);
        let (size_bytes, encrypted) = (object.size_bytes, named.is_encrypted());
        Ok(DumpEntry { name: object.key, database, taken_at, size_bytes, encrypted, state, side_file, side_object, named })
    }

    /// `None` when it is gone since it was listed.
    async fn side_file(&self, object: &ObjectMeta) -> Result<Option<SideFile>> {
        if object.size_bytes > side_file::LARGEST {
            return Err(Error::damaged(format!("{} is too large for a side file", object.key), ""));
        }
        // By range, so that one that grew since it was listed stays within the limit.
        match self.store.get_range(&object.key, 0..side_file::LARGEST).await {
            Ok(bytes) => SideFile::parse(&object.key, &bytes).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn damaged(reason: impl Into<String>) -> DumpState {
    DumpState::Damaged { reason: reason.into() }
}
