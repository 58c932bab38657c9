//! How far a copy is behind: told from names, so that asking is cheap. Side files are read only of what seems to be missing.
//!
//! What counts is what is newer than the newest dump there: gaps further back are found by syncing, which fills them.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::error::Result;
use crate::logical::name::DumpKind;
use crate::logical::shelf::{DumpEntry, Shelf};
use crate::store::{ObjectKey, ObjectMeta};

/// How many dumps that seem to be missing are looked at. More are missing for certain, whatever some of them are.
const LOOKED_AT: usize = 50;

/// What a store has, and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behind {
    /// How many dumps of databases there are, of whichever cluster.
    pub dumps: u64,
    /// The newest of them, and the time in its name.
    pub newest: Option<(ObjectKey, OffsetDateTime)>,
    /// How many dumps of the primary store are newer than those there.
    pub missing: u64,
    /// The time in the name of the oldest of these.
    pub missing_since: Option<OffsetDateTime>,
    /// The time in the name of the newest of these.
    pub missing_until: Option<OffsetDateTime>,
}

/// What a store has.
///
/// # Errors
/// What the store says.
pub async fn standing(shelf: &Shelf) -> Result<Behind> {
    Ok(of(&dumps(shelf).await?))
}

/// What a copy has, and what it lacks of its primary store.
///
/// # Errors
/// What the stores say.
pub async fn behind(primary: &Shelf, copy: &Shelf) -> Result<Behind> {
    let (here, there) = tokio::try_join!(dumps(primary), dumps(copy))?;
    let mut behind = of(&there);
    let mut newest: BTreeMap<Option<&str>, OffsetDateTime> = BTreeMap::new();
    for (meta, time) in &there {
        let newest = newest.entry(meta.key.folder()).or_insert(*time);
        *newest = (*newest).max(*time);
    }
    let mut missing: Vec<(ObjectMeta, OffsetDateTime)> =
        here.into_iter().filter(|(meta, time)| newest.get(&meta.key.folder()).is_none_or(|newest| newest < time)).collect();
    missing.sort_by_key(|(_, time)| *time);
    if missing.len() <= LOOKED_AT {
        // What is damaged, or another cluster's, is not copied.
        let ours = primary.described(missing.iter().map(|(meta, _)| meta.clone()).collect()).await?;
        missing.retain(|(meta, _)| ours.iter().any(|entry| entry.name == meta.key && DumpEntry::is_good(entry)));
    }
    behind.missing = missing.len() as u64;
    behind.missing_since = missing.first().map(|(_, time)| *time);
    behind.missing_until = missing.last().map(|(_, time)| *time);
    Ok(behind)
}

fn of(dumps: &[(ObjectMeta, OffsetDateTime)]) -> Behind {
    let newest = dumps.iter().max_by_key(|(meta, time)| (*time, &meta.key)).map(|(meta, time)| (meta.key.clone(), *time));
    Behind { dumps: dumps.len() as u64, newest, ..Behind::default() }
}

async fn dumps(shelf: &Shelf) -> Result<Vec<(ObjectMeta, OffsetDateTime)>> {
    let is_side_file = |meta: &ObjectMeta| meta.key.as_str().ends_with(crate::logical::name::SIDE_FILE_SUFFIX);
    let objects = shelf.objects().await?.into_iter();
    Ok(objects
        .filter(|(meta, named)| named.kind() == DumpKind::Database && !is_side_file(meta))
        .map(|(meta, named)| (meta, named.time()))
        .collect())
}
