//! What stands at a path, told from files alone, never from a process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::data_directory::mixed::DELTA;
use crate::data_directory::own_folder::{FOLDER_NAME, OwnFolder};
use crate::data_directory::staging::Marker;
use crate::error::{Error, Result};
use crate::pg::control_file::{CONTROL_FILE_PATH, ControlFile};

/// The operation of an interrupted migration.
pub(crate) const MIGRATE: &str = "migrate";
/// What a migration renames the source's control file to, so that no server starts there any more.
pub const MIGRATED_CONTROL_FILE: &str = "global/pg_control.migrated";

/// What a data directory is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Nothing has this name.
    Absent,
    /// A directory with nothing of anybody's in it; a fresh volume's `lost+found` and our own folder do not count.
    Empty,
    /// Our own interrupted work: the next `init` finishes or undoes it.
    HalfMade {
        /// What was being done, such as `init`.
        operation: String,
    },
    /// A PostgreSQL cluster.
    Cluster(ClusterFiles),
    /// Somebody else's files.
    Foreign {
        /// Some of their names.
        examples: Vec<String>,
    },
    /// A cluster whose own files contradict each other or cannot be read.
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

/// What a cluster's files say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterFiles {
    /// The major version in `PG_VERSION`.
    pub major: u32,
    /// What `global/pg_control` says.
    pub control: ControlFile,
}

impl State {
    /// Looks at a path.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be looked at; [`Error::Invalid`] when it is a file.
    pub fn of(directory: &Path, own: &OwnFolder) -> Result<Self> {
        if let Some(marker) = Marker::read(&own.half_made_marker())? {
            return Ok(Self::HalfMade { operation: marker.operation });
        }
        let migrating = own.migration_marker().exists();
        let interrupted = || Self::HalfMade { operation: MIGRATE.to_owned() };
        let names = match entries(directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(if migrating { interrupted() } else { Self::Absent }),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::invalid(
                    format!("{} is a file, not a directory", directory.display()),
                    "name the directory that is to hold the cluster",
                ));
            }
            Err(error) => return Err(Error::file("list", directory, error)),
        };
        if names.is_empty() {
            return Ok(if migrating { interrupted() } else { Self::Empty });
        }
        let has_version = names.iter().any(|name| name == "PG_VERSION");
        let control_path = directory.join(CONTROL_FILE_PATH);
        if !has_version && !names.iter().any(|name| name == "global") {
            let mut examples = names;
            examples.truncate(5);
            return Ok(Self::Foreign { examples });
        }
        Ok(match cluster_files(directory, &control_path) {
            Ok(files) => Self::Cluster(files),
            Err(_) if was_migrated(directory) => {
                Self::Damaged { reason: "it was migrated to another directory, and its pg_control set aside".to_owned() }
            }
            Err(reason) => Self::Damaged { reason },
        })
    }

    /// The word for JSON documents, as far as files can tell: a cluster is `stopped` until a process says otherwise.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Empty => "empty",
            Self::HalfMade { .. } => "half_made",
            Self::Cluster(_) => "stopped",
            Self::Foreign { .. } => "foreign",
            Self::Damaged { .. } => "damaged",
        }
    }

    /// The cluster's files, or the error that tells what stands there instead.
    ///
    /// # Errors
    /// One for each other state, with its remedy.
    pub fn into_cluster(self, directory: &Path) -> Result<ClusterFiles> {
        let place = directory.display();
        match self {
            Self::Cluster(files) => Ok(files),
            Self::Absent => Err(Error::not_found(
                format!("there is no data directory at {place}"),
                "make one with `pgpersist init`, or mount the volume that holds it",
            )),
            Self::Empty => Err(Error::not_found(
                format!("{place} is empty"),
                "make a cluster in it with `pgpersist init`; if there was one, mount its volume",
            )),
            Self::HalfMade { operation } if operation == MIGRATE => Err(Error::unavailable(
                format!("{place} is half-made: a migration to it was interrupted"),
                "run the same `pgpersist migrate` again: it goes on where it stopped",
            )),
            Self::HalfMade { operation } if operation == DELTA => Err(interrupted_delta(directory)),
            Self::HalfMade { operation } => Err(Error::unavailable(
                format!("{place} is half-made: `{operation}` was interrupted"),
                "run `pgpersist init` again: it finishes or undoes it",
            )),
            Self::Foreign { examples } => Err(foreign(directory, &examples)),
            Self::Damaged { .. } if was_migrated(directory) => Err(Error::refused(
                format!("the cluster of {place} was migrated to another directory, and this copy was set aside"),
                format!(
                    "use the new place; to go back to this old state, stop the new server for good and rename {0}/{MIGRATED_CONTROL_FILE} to {0}/{CONTROL_FILE_PATH}",
                    directory.display()
                ),
            )),
            Self::Damaged { reason } => Err(Error::damaged(
                format!("the cluster in {place} is damaged: {reason}"),
                "keep the directory as it is, and load the newest dump into a new one (`pgpersist list`, `pgpersist init --restore-latest -D OTHER`)",
            )),
        }
    }
}

/// The refusal to touch what a restore has half made in place.
pub(crate) fn interrupted_delta(directory: &Path) -> Error {
    Error::unavailable(
        format!("{} is half-made: `{DELTA}` was interrupted, and what is there is no cluster now", directory.display()),
        "run `pgpersist restore --delta` again: it goes on where it stopped; the old log is kept",
    )
}

fn was_migrated(directory: &Path) -> bool {
    directory.join(MIGRATED_CONTROL_FILE).exists() && !directory.join(CONTROL_FILE_PATH).exists()
}

/// The refusal to touch somebody else's files.
pub(crate) fn foreign(directory: &Path, examples: &[String]) -> Error {
    Error::refused(
        format!("{} holds files that are no PostgreSQL cluster: {}", directory.display(), examples.join(", ")),
        "name an empty or absent directory, such as a subfolder of it; nothing was touched",
    )
}

/// The names in a directory that are somebody's: neither `lost+found` nor our own folder.
fn entries(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "lost+found" && name != FOLDER_NAME {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn cluster_files(directory: &Path, control_path: &PathBuf) -> std::result::Result<ClusterFiles, String> {
    let version_path = directory.join("PG_VERSION");
    let text = fs::read(&version_path).map_err(|e| format!("could not read PG_VERSION: {e}"))?;
    let text = String::from_utf8_lossy(&text[..text.len().min(64)]).trim().to_owned();
    let major = text.parse().map_err(|_| format!("PG_VERSION holds `{}`, which is no major version", text.escape_default()))?;
    Ok(ClusterFiles { major, control: read_control_file(control_path)? })
}

/// Reads `pg_control`. A running server rewrites it in place, so a checksum that fails once is looked at again.
fn read_control_file(path: &PathBuf) -> std::result::Result<ControlFile, String> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let bytes = fs::read(path).map_err(|e| format!("could not read global/pg_control: {e}"))?;
        match ControlFile::parse(&bytes) {
            Ok(control) => return Ok(control),
            Err(error) if attempt == 5 => return Err(format!("global/pg_control: {error}")),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
}
