//! [`Ground`]: the places that a restore writes to, as they are before it does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::data_directory::identity::IdentityCard;
use crate::data_directory::own_folder::{OwnFolder, Whereabouts};
use crate::data_directory::state::State;
use crate::error::{Error, Result};
use crate::fs::mounts;
use crate::fs::on_behalf;
use crate::fs::space::Space;
use crate::restore::record::RestoreRecord;

const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]_[hour][minute][second]");

/// A place, and the file system that it lies on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spot {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Which file system: the same number is the same one.
    pub(crate) device: (u32, u32),
    /// The room there.
    pub(crate) space: Space,
    /// Whether the mount takes no writes.
    pub(crate) read_only: bool,
}

/// A tablespace's location.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Location {
    pub(crate) spot: Spot,
    /// The path without links, as far as it exists.
    pub(crate) real: PathBuf,
    /// What stands in the way there, such as names of files.
    pub(crate) occupied: Vec<String>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ground {
    /// What the data directory is.
    pub(crate) state: State,
    /// Which cluster it is, by its control file, else by the card on the volume.
    pub(crate) system_identifier: Option<u64>,
    pub(crate) data_directory: Spot,
    /// The locations of the tablespaces, in their order.
    pub(crate) tablespaces: Vec<Location>,
    /// Where `pg_wal` leads to, where it is a link.
    pub(crate) wal_link: Option<PathBuf>,
    /// Where the cluster that is there could be kept.
    pub(crate) aside: PathBuf,
    /// Bytes a second, as the last restore here wrote them.
    pub(crate) speed: Option<f64>,
}

impl Ground {
    /// Looks. Blocking.
    ///
    /// # Errors
    /// [`Error::File`] for what may not be looked at; `Invalid` for a location that is a file.
    pub(crate) fn look(directory: &Path, own: &OwnFolder, state: State, tablespaces: &[PathBuf], now: OffsetDateTime) -> Result<Self> {
        let system_identifier = match &state {
            State::Cluster(files) => Some(files.control.system_identifier),
            State::Damaged { .. } => IdentityCard::read(own)?.map(|card| card.system_identifier),
            _ => None,
        };
        let locations = tablespaces.iter().map(|location| look_at_location(location)).collect::<Result<Vec<Location>>>()?;
        Ok(Self {
            state,
            system_identifier,
            // There it grows, and is moved from by a rename.
            data_directory: Spot { path: directory.to_owned(), ..spot(own.path())? },
            tablespaces: locations,
            wal_link: fs::read_link(directory.join("pg_wal")).ok(),
            aside: aside(directory, own, now),
            speed: RestoreRecord::read(own).and_then(|record| record.speed()),
        })
    }
}

fn spot(path: &Path) -> Result<Spot> {
    let mount = mounts::mount_of(path)?;
    Ok(Spot { path: path.to_owned(), device: mount.device, space: Space::of(path)?, read_only: mount.read_only })
}

fn look_at_location(location: &Path) -> Result<Location> {
    on_behalf::as_owner(location, || {
        let occupied = match fs::read_dir(location) {
            Ok(entries) => {
                let mut names = Vec::new();
                for entry in entries {
                    let name = entry.map_err(|error| Error::file("list", location, error))?.file_name();
                    if name != "lost+found" && !name.to_string_lossy().starts_with(".pgpersist-restore-") {
                        names.push(name.to_string_lossy().into_owned());
                    }
                }
                names.sort();
                names
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::invalid(
                    format!("{} is no directory, and a tablespace is to be there", location.display()),
                    "name another place with `--tablespace`",
                ));
            }
            Err(error) => return Err(Error::file("list", location, error)),
        };
        let real = location.canonicalize().unwrap_or_else(|_| location.to_owned());
        Ok(Location { spot: spot(location)?, real, occupied })
    })
}

/// Where a cluster is kept that makes room: beside it, or in our own folder where nothing can be renamed.
fn aside(directory: &Path, own: &OwnFolder, now: OffsetDateTime) -> PathBuf {
    let stamp = now.format(STAMP).unwrap_or_else(|_| now.unix_timestamp().to_string());
    let named = |name: String| match own.whereabouts() {
        Whereabouts::Beside => {
            let mut beside = directory.as_os_str().to_owned();
            beside.push(format!(".{name}"));
            PathBuf::from(beside)
        }
        Whereabouts::Inside => own.path().join(name),
    };
    let mut place = named(format!("before_restore_{stamp}"));
    let mut number = 1;
    while place.symlink_metadata().is_ok() {
        number += 1;
        place = named(format!("before_restore_{stamp}_{number}"));
    }
    place
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-02-08 09:33:16 UTC);

    #[test]
    fn an_old_cluster_is_kept_beside_its_place_under_a_name_that_is_free() {
        let volume = tempfile::tempdir().unwrap();
        let directory = volume.path().join("pgdata");
        fs::create_dir(&directory).unwrap();
        let own = OwnFolder::locate(&directory).unwrap();
        let first = aside(&directory, &own, NOW);
        assert_eq!(first, volume.path().join("pgdata.before_restore_20260208_093316"));
        fs::create_dir(&first).unwrap();
        assert_eq!(aside(&directory, &own, NOW), volume.path().join("pgdata.before_restore_20260208_093316_2"));
        fs::create_dir(directory.join(".pgpersist")).unwrap();
        let own = OwnFolder::locate(&directory).unwrap();
        assert_eq!(aside(&directory, &own, NOW), directory.join(".pgpersist/before_restore_20260208_093316"));
    }

    #[test]
    fn a_location_is_seen_as_it_is() {
        let volume = tempfile::tempdir().unwrap();
        let absent = look_at_location(&volume.path().join("absent/below")).unwrap();
        assert!(absent.occupied.is_empty() && absent.spot.space.total_bytes > 0);
        fs::create_dir(volume.path().join("lost+found")).unwrap();
        assert!(look_at_location(volume.path()).unwrap().occupied.is_empty());
        fs::create_dir(volume.path().join("PG_15_202209061")).unwrap();
        assert_eq!(look_at_location(volume.path()).unwrap().occupied, ["PG_15_202209061"]);
        fs::File::create(volume.path().join("file")).unwrap();
        assert_eq!(look_at_location(&volume.path().join("file")).unwrap_err().kind(), crate::error::ErrorKind::Invalid);
    }
}
