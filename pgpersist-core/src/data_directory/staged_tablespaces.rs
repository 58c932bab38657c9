//! Tablespaces in the making: what of a cluster that is restored lies outside its data directory.
//!
//! Each is made in a folder with a name of its own *in* its location, which may be a mount point, and gets its real name when all of the
//! cluster is durable, just before the data directory is published. A record in our own folder names all of them before the first
//! one is made. As long as the staged data directory waits, they are not published: whoever comes after a kill takes them away, and nothing
//! else. Once it is published they stay, and only the record and the folders' names go.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::fs::durable;

/// The record's name in our own folder.
const RECORD: &str = "tablespaces.json";
/// How the folder's name begins that a tablespace is made in.
const STAGED: &str = ".pgpersist-restore-";

/// A tablespace in the making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedTablespace {
    location: PathBuf,
    /// The folder that a server keeps its files in, such as `PG_15_202209061`.
    folder: String,
    /// The name of the folder that it is made in.
    staged: String,
    /// Whether the location was made for it.
    made: bool,
    /// The finished folder's inode, known before it gets its name: so it is told from one that somebody else puts there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    tablespaces: Vec<StagedTablespace>,
}

impl StagedTablespace {
    /// Where it is to be.
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// Where it is made: in here its files have the paths that they are to have in the location.
    pub fn path(&self) -> PathBuf {
        self.location.join(&self.staged)
    }

    fn inner(&self) -> PathBuf {
        self.path().join(&self.folder)
    }

    fn placed(&self) -> PathBuf {
        self.location.join(&self.folder)
    }
}

/// Makes the folders for tablespaces, each a location and the folder in it that a server keeps its files in. The caller holds the claim, has
/// [begun to stage](crate::data_directory::staging::begin), and knows that the locations are absent or empty.
///
/// # Errors
/// [`Error::File`]; what was made is found again by the record.
pub fn begin(own: &OwnFolder, wanted: &[(PathBuf, String)]) -> Result<Vec<StagedTablespace>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let staged: Vec<StagedTablespace> = wanted
        .iter()
        .map(|(location, folder)| StagedTablespace {
            location: location.clone(),
            folder: folder.clone(),
            staged: format!("{STAGED}{:016x}", rand::random::<u64>()),
            made: !exists(location),
            inode: None,
        })
        .collect();
    write(own, &staged)?;
    for one in &staged {
        durable::create_directories(&one.location, 0o700)?;
        durable::create_directory(&one.path(), 0o700)?;
    }
    Ok(staged)
}

/// Makes them durable and gives them their names. The data directory is published next.
///
/// # Errors
/// [`Error::File`], also when somebody has taken the name meanwhile.
pub fn publish(own: &OwnFolder, staged: &[StagedTablespace]) -> Result<()> {
    if staged.is_empty() {
        return Ok(());
    }
    let mut finished = Vec::new();
    for one in staged {
        durable::sync_tree(&one.path())?;
        let inner = one.inner();
        let metadata = fs::symlink_metadata(&inner).map_err(|error| Error::file("look at", &inner, error))?;
        finished.push(StagedTablespace { inode: Some(metadata.ino()), ..one.clone() });
    }
    write(own, &finished)?;
    finished.iter().try_for_each(|one| durable::rename_new(&one.inner(), &one.placed()))
}

/// Takes away what was never published. The data directory that it belongs to still waits in the staging folder.
pub(super) fn undo(own: &OwnFolder) -> Result<()> {
    for one in read(own)? {
        let is_ours = |metadata: fs::Metadata| Some(metadata.ino()) == one.inode;
        if exists(&one.path()) && !exists(&one.inner()) && fs::symlink_metadata(one.placed()).is_ok_and(is_ours) {
            durable::rename_new(&one.placed(), &one.inner())?;
        }
        durable::remove_tree(&one.path())?;
        if one.made {
            // What somebody has put into it meanwhile keeps it.
            let _ = durable::remove_directory(&one.location);
        }
    }
    Ok(())
}

/// Ends it: the data directory is published, or everything was taken away.
pub(super) fn settle(own: &OwnFolder) -> Result<()> {
    for one in read(own)? {
        durable::remove_tree(&one.path())?;
    }
    durable::remove_file(&own.path().join(RECORD))
}

fn read(own: &OwnFolder) -> Result<Vec<StagedTablespace>> {
    let path = own.path().join(RECORD);
    let record: Record = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Error::damaged(
                format!("{} cannot be read: {error}", path.display()),
                format!("it names folders `{STAGED}…` in tablespaces that a restore did not finish: look at them by hand, then remove it"),
            )
        })?,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", &path, error)),
    };
    Ok(record.tablespaces)
}

fn write(own: &OwnFolder, staged: &[StagedTablespace]) -> Result<()> {
    let record = Record { format: 1, tablespaces: staged.to_vec() };
    let bytes = serde_json::to_vec_pretty(&record).map_err(|error| Error::Bug(format!("could not tell of tablespaces: {error}")))?;
    durable::write(&own.path().join(RECORD), &bytes, 0o600)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_directory::staging;

    const FOLDER: &str = "PG_15_202209061";

    struct Scene {
        volume: tempfile::TempDir,
        directory: PathBuf,
        own: OwnFolder,
        staged: Vec<StagedTablespace>,
    }

    /// A staged cluster with a tablespace whose location is there, and one whose location is not.
    fn scene() -> Scene {
        let volume = tempfile::tempdir().unwrap();
        let directory = volume.path().join("pgdata");
        let own = OwnFolder::locate(&directory).unwrap();
        fs::create_dir(volume.path().join("there")).unwrap();
        staging::begin(&own).unwrap();
        fs::create_dir(own.staging().join("global")).unwrap();
        durable::write(&own.staging().join("global/pg_control"), b"control", 0o600).unwrap();
        let wanted = ["there", "absent"].map(|name| (volume.path().join(name), FOLDER.to_owned()));
        let staged = begin(&own, &wanted).unwrap();
        for one in &staged {
            fs::create_dir(one.inner()).unwrap();
            durable::write(&one.inner().join("file"), b"rows", 0o600).unwrap();
        }
        Scene { volume, directory, own, staged }
    }

    impl Scene {
        fn names(&self, name: &str) -> Vec<String> {
            let entries = fs::read_dir(self.volume.path().join(name)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }

        fn is_undone(&self) {
            assert!(self.names("there").is_empty());
            assert!(!exists(&self.volume.path().join("absent")) && !exists(&self.directory));
            assert!(!exists(&self.own.path().join(RECORD)) && !exists(&self.own.staging()));
        }
    }

    #[test]
    fn what_is_published_stays_and_nothing_else_is_left() {
        let scene = scene();
        publish(&scene.own, &scene.staged).unwrap();
        staging::publish(&scene.directory, &scene.own, "restore").unwrap();
        for name in ["there", "absent"] {
            assert_eq!(scene.names(name), [FOLDER]);
            assert_eq!(fs::read(scene.volume.path().join(name).join(FOLDER).join("file")).unwrap(), b"rows");
        }
        assert!(!exists(&scene.own.path().join(RECORD)));
        assert!(!staging::recover(&scene.directory, &scene.own).unwrap());
        assert_eq!(scene.names("there"), [FOLDER]);
    }

    #[test]
    fn what_was_interrupted_before_the_data_directory_came_is_taken_away() {
        // Before any, after one and after all of them got their names.
        for named in 0..=2 {
            let scene = scene();
            if named > 0 {
                let mut finished = scene.staged.clone();
                for one in &mut finished {
                    one.inode = Some(fs::metadata(one.inner()).unwrap().ino());
                }
                write(&scene.own, &finished).unwrap();
                finished.iter().take(named).try_for_each(|one| durable::rename_new(&one.inner(), &one.placed())).unwrap();
            }
            assert!(staging::recover(&scene.directory, &scene.own).unwrap());
            scene.is_undone();
        }
    }

    #[test]
    fn what_was_interrupted_after_the_data_directory_came_is_kept() {
        let scene = scene();
        publish(&scene.own, &scene.staged).unwrap();
        durable::rename(&scene.own.staging(), &scene.directory).unwrap();
        staging::recover(&scene.directory, &scene.own).unwrap();
        for name in ["there", "absent"] {
            assert_eq!(scene.names(name), [FOLDER]);
        }
        assert!(!exists(&scene.own.path().join(RECORD)) && exists(&scene.directory.join("global/pg_control")));
    }

    #[test]
    fn what_somebody_else_put_there_meanwhile_is_not_touched() {
        let scene = scene();
        let theirs = scene.volume.path().join("there").join(FOLDER);
        fs::create_dir(&theirs).unwrap();
        fs::create_dir(scene.volume.path().join("absent/mine")).unwrap();
        assert!(publish(&scene.own, &scene.staged).is_err());
        staging::recover(&scene.directory, &scene.own).unwrap();
        assert!(theirs.is_dir());
        assert_eq!(scene.names("absent"), ["mine"]);
        assert!(!exists(&scene.own.path().join(RECORD)));
    }
}
