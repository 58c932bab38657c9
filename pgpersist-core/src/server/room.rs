//! Whether a server would find room to start in: on a full volume it ends in the middle of its recovery, with words that look
//! like damage. There is ballast for this moment, and otherwise a word about what to do.

use std::path::{Path, PathBuf};

use crate::data_directory::ballast;
use crate::data_directory::state::ClusterFiles;
use crate::error::{Error, Result};
use crate::fs::space::Space;
use crate::pg::control_file::ClusterState;
use crate::server::cluster::Cluster;
use crate::wording::size;
use crate::workers;

/// What any start writes: `postmaster.pid`, locks, settings, statistics.
const ANY_START_BYTES: u64 = 1024 * 1024;

/// With less than that left the ballast is given back: four WAL segments of the usual size.
const LITTLE_BYTES: u64 = 64 * 1024 * 1024;

/// What was found, where a server can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is room.
    Enough,
    /// There is some since so many bytes of ballast were given back.
    GivenBack(u64),
}

/// Sees to it that a server would find room to start in. A directory without a cluster, or with a server that runs, has
/// room enough.
///
/// # Errors
/// `Unavailable` when there is none, with what is needed and what to do.
pub(crate) async fn make(cluster: &Cluster) -> Result<Room> {
    let Ok(files) = cluster.directory().state().await?.into_cluster(cluster.path()) else { return Ok(Room::Enough) };
    if cluster.presence().await?.running().is_some() {
        return Ok(Room::Enough);
    }
    let cluster = cluster.clone();
    workers::run(move || make_for(&cluster, &files)).await
}

fn make_for(cluster: &Cluster, files: &ClusterFiles) -> Result<Room> {
    let needs = needs(cluster.path(), files);
    let free = Space::of(cluster.path())?.free_bytes;
    let given_back = if free < LITTLE_BYTES { ballast::give_back(cluster.directory().own_folder())? } else { None };
    for need in needs {
        need.check(given_back)?;
    }
    Ok(given_back.map_or(Room::Enough, Room::GivenBack))
}

/// So much room in a place.
#[derive(Debug, PartialEq, Eq)]
struct Need {
    place: PathBuf,
    bytes: u64,
    what_for: &'static str,
}

/// What the next start writes at least. A recovery ends with a checkpoint, whose record may begin a new segment of WAL.
fn needs(directory: &Path, files: &ClusterFiles) -> Vec<Need> {
    let mut needs = Vec::new();
    if !matches!(files.control.state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery) {
        let bytes = u64::from(files.control.wal_segment_size).max(ANY_START_BYTES);
        // It may be a link to another volume.
        needs.push(Need { place: directory.join("pg_wal"), bytes, what_for: "its recovery needs" });
    }
    needs.push(Need { place: directory.to_owned(), bytes: ANY_START_BYTES, what_for: "starting a server needs" });
    needs
}

impl Need {
    fn check(&self, given_back: Option<u64>) -> Result<()> {
        let free = Space::of(&self.place)?.free_bytes;
        if free >= self.bytes {
            return Ok(());
        }
        let although = given_back.map_or_else(String::new, |bytes| format!(", although {} of ballast were given back", size(bytes)));
        Err(Error::unavailable(
            format!("{} has {} free{although}, and {} {}", self.place.display(), size(free), self.what_for, size(self.bytes)),
            "enlarge the volume, or move something that is not PostgreSQL's off it (old logs, dumps); never remove anything \
             below the data directory, least of all in pg_wal. Nothing is lost: the start after that recovers",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let need = |bytes| Need { place: folder.path().to_owned(), bytes, what_for: "its recovery needs" };
        need(1).check(None).unwrap();
        let error = need(u64::MAX).check(Some(1 << 20)).unwrap_err();
        assert!(error.to_string().contains(" free, although 1.0 MB of ballast were given back, and "), "{error}");
        assert!(error.to_string().ends_with("its recovery needs 16384 PB"), "{error}");
        assert!(error.remedy().unwrap().contains("never remove anything below the data directory"));
    }
}
