//! [`AllStores`]: the dumps of a cluster wherever they are, in its primary store and in its copies.
//!
//! A store that does not answer keeps nobody from what the others have. Where several have a dump, the first one that has it
//! whole is the one that counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::future::join_all;

use crate::error::{Error, ErrorKind, Result};
use crate::logical::cluster_card::ClusterCard;
use crate::logical::name::plain;
use crate::logical::shelf::{Contents, DumpEntry, Shelf};
use crate::logical::verify::told;
use crate::progress::{Event, ProgressSink};
use crate::store::ObjectKey;

/// How long a store may take to say what it has, where others can be asked.
const LOOK: Duration = Duration::from_secs(60);

/// What all stores have, at the moment when they were asked.
#[derive(Debug)]
pub struct AllStores {
    shelves: Vec<Shelf>,
    /// What each of them has, by its place; nothing for one that did not answer.
    found: Vec<Option<Contents>>,
    /// The stores that did not answer, and why.
    silent: Vec<(usize, String)>,
    merged: Contents,
}

/// A dump as one store has it.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The store's place; the primary has 1.
    pub place: usize,
    /// The dumps in that store.
    pub shelf: Shelf,
    /// The dump.
    pub entry: DumpEntry,
}

impl AllStores {
    /// Asks the store of a shelf, and its copies. One that does not answer is a warning, as long as another one does.
    ///
    /// # Errors
    /// What the primary store says, where none answers.
    pub fn look<'a>(shelf: &'a Shelf, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<Self>> {
        Box::pin(async move {
            let shelves: Vec<Shelf> = std::iter::once(shelf).chain(shelf.copies().iter().map(|copy| &copy.shelf)).cloned().collect();
            let alone = shelves.len() == 1;
            let look = |shelf: &Shelf| {
                let shelf = shelf.clone();
                async move {
                    if alone {
                        return shelf.contents().await;
                    }
                    tokio::time::timeout(LOOK, shelf.contents()).await.unwrap_or_else(|_| {
                        let what = format!("the store {} did not answer", shelf.store());
                        Err(Error::Deadline {
                            what,
                            after: LOOK,
                            remedy: Some("see whether it is reachable: `pgpersist health`".to_owned()),
                        })
                    })
                }
            };
            let answers = join_all(shelves.iter().map(look)).await;
            if answers.iter().all(Result::is_err) {
                return Err(answers.into_iter().find_map(Result::err).unwrap_or_else(|| Error::Bug("no store was asked".to_owned())));
            }
            let (mut found, mut silent) = (Vec::new(), Vec::new());
            for (place, answer) in answers.into_iter().enumerate() {
                found.push(match answer {
                    Ok(contents) => Some(contents),
                    Err(error) => {
                        let why = told(&error);
                        progress.event(Event::Warning(format!("the store {} is left out: {why}", shelves[place].store())));
                        silent.push((place, why));
                        None
                    }
                });
            }
            let merged = merge(&found, shelf);
            Ok(Self { shelves, found, silent, merged })
        })
    }

    /// The stores by their places, and for those that did not answer, why.
    pub fn stores(&self) -> impl Iterator<Item = (usize, &Shelf, Option<&str>)> {
        let why = |place: usize| self.silent.iter().find(|(silent, _)| *silent == place).map(|(_, why)| why.as_str());
        self.shelves.iter().enumerate().map(move |(place, shelf)| (place + 1, shelf, why(place)))
    }

    /// Whether the store of a shelf answered.
    pub fn answered(&self, shelf: &Shelf) -> bool {
        let is_it = |(_, other, why): &(usize, &Shelf, Option<&str>)| Arc::ptr_eq(other.store(), shelf.store()) && why.is_none();
        self.stores().any(|store| is_it(&store))
    }

    /// This cluster's dumps, newest first, as [`Shelf::list`].
    pub fn list(&self) -> &[DumpEntry] {
        &self.merged.ours
    }

    /// The same as [`Shelf::list_current`], by the card of the first store that has one.
    ///
    /// # Errors
    /// `Damaged` when the card cannot be understood; what the stores say.
    pub async fn list_current(&self) -> Result<Vec<DumpEntry>> {
        let mut dumps = self.list().to_vec();
        for (shelf, found) in self.shelves.iter().zip(&self.found) {
            if found.is_none() {
                continue;
            }
            if let Some(card) = ClusterCard::read(shelf.store().as_ref(), shelf.cluster()).await? {
                dumps.retain(|dump| dump.side_file.as_ref().is_none_or(|side_file| side_file.system_identifier == card.system_identifier));
                break;
            }
        }
        Ok(dumps)
    }

    /// Finds a dump as [`Shelf::find`] does, in whichever store has it.
    ///
    /// # Errors
    /// As [`Shelf::find`]; `Unavailable` when it is not found, and a store that may have it did not answer.
    pub fn find(&self, name: &str, database: Option<&str>) -> Result<&DumpEntry> {
        let found = self.merged.find(name, database, self.shelves[0].cluster(), &self.called());
        match (found, self.silent.first()) {
            (Err(error), Some((place, why))) if error.kind() == ErrorKind::NotFound => Err(Error::unavailable(
                format!("{error}, and {} could not be asked: {why}", self.shelves[*place].store()),
                "run it again when that store answers, or make a new dump with `pgpersist dump`",
            )),
            (found, _) => found,
        }
    }

    /// Where a dump is, in the order in which it is to be read: whole ones first, each in the order of the stores.
    /// A copy may be encrypted where the primary store is not, and has another name then.
    pub fn places(&self, name: &ObjectKey) -> Vec<Placed> {
        let mut places: Vec<Placed> = Vec::new();
        for (place, (shelf, found)) in self.shelves.iter().zip(&self.found).enumerate() {
            let Some(found) = found else { continue };
            let entry = found.ours.iter().chain(&found.foreign).find(|entry| plain(&entry.name) == plain(name));
            places.extend(entry.map(|entry| Placed { place: place + 1, shelf: shelf.clone(), entry: entry.clone() }));
        }
        places.sort_by_key(|placed| !placed.entry.is_good());
        places
    }

    /// The dumps of [`list`](Self::list), each with the places of all stores that have it.
    pub fn list_with_places(&self) -> Vec<(&DumpEntry, Vec<usize>)> {
        let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, found) in self.found.iter().enumerate() {
            for entry in found.iter().flat_map(|found| &found.ours) {
                places.entry(plain(&entry.name)).or_default().push(place + 1);
            }
        }
        self.list().iter().map(|entry| (entry, places.remove(plain(&entry.name)).unwrap_or_default())).collect()
    }

    /// What each store has that answered: its dumps, those of other clusters too where that is wanted, and its dumps of roles.
    pub(super) fn contents(
        &self,
        with_foreign: bool,
    ) -> impl Iterator<Item = (&Shelf, impl Iterator<Item = &DumpEntry>, impl Iterator<Item = &ObjectKey>)> {
        self.shelves.iter().zip(&self.found).filter_map(move |(shelf, found)| {
            let found = found.as_ref()?;
            let dumps = found.ours.iter().chain(found.foreign.iter().filter(move |_| with_foreign));
            Some((shelf, dumps, found.globals.iter().map(|globals| &globals.object.key)))
        })
    }

    /// What is to be said of a dump that is not read from the primary store, or nothing.
    pub fn instead(&self, placed: &Placed) -> Option<String> {
        if placed.place == 1 {
            return None;
        }
        let primary = self.shelves[0].store();
        let why = match self.found[0]
            .as_ref()
            .map(|found| found.ours.iter().chain(&found.foreign).find(|entry| plain(&entry.name) == plain(&placed.entry.name)))
        {
            None => format!("{primary} does not answer"),
            Some(None) => format!("{primary} does not have it"),
            Some(Some(_)) => format!("it is damaged in {primary}"),
        };
        Some(format!("{} comes from {}: {why}", placed.entry.name, placed.shelf.store()))
    }

    /// The newest dump of roles of those that are acceptable where they are: its name in each store that has it, in their order. Nothing
    /// where there is none.
    pub(super) fn newest_globals(&self, accepts: impl Fn(&Shelf, &ObjectKey) -> bool) -> Vec<(&ObjectKey, &Shelf)> {
        let each = self
            .shelves
            .iter()
            .zip(&self.found)
            .flat_map(|(shelf, found)| found.iter().flat_map(|found| &found.globals).map(move |globals| (&globals.object.key, shelf)))
            .filter(|(key, shelf)| accepts(shelf, key))
            .collect::<Vec<_>>();
        let file_name = |key: &ObjectKey| plain(key).rsplit('/').next().map(ToOwned::to_owned);
        let Some(newest) = each.iter().map(|(key, _)| *key).max_by_key(|key| file_name(key)) else { return Vec::new() };
        each.into_iter().filter(|(key, _)| plain(key) == plain(newest)).collect()
    }

    fn called(&self) -> String {
        match &self.shelves[..] {
            [one] => one.store().to_string(),
            several => several.iter().map(|shelf| shelf.store().to_string()).collect::<Vec<_>>().join(" and "),
        }
    }
}

/// Each name once, as the first store has it that has it whole, else as the first one has it.
fn merge(found: &[Option<Contents>], shelf: &Shelf) -> Contents {
    let (mut ours, mut foreign) = (BTreeMap::new(), BTreeMap::new());
    for contents in found.iter().flatten() {
        for (entries, all) in [(&contents.ours, &mut ours), (&contents.foreign, &mut foreign)] {
            for entry in entries {
                let standing = all.entry(plain(&entry.name)).or_insert_with(|| entry.clone());
                if !standing.is_good() && entry.is_good() {
                    *standing = entry.clone();
                }
            }
        }
    }
    let mut ours: Vec<DumpEntry> = ours.into_values().collect();
    Contents::sort(&mut ours, shelf.clock().now());
    Contents { ours, foreign: foreign.into_values().collect(), ..Contents::default() }
}
