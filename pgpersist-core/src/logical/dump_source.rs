//! Which dump a name means: one in the store, the newest, or a file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::logical::all_stores::{AllStores, Placed};
use crate::logical::load_options::{DumpSource, Expected, Trust};
use crate::logical::name::SIDE_FILE_SUFFIX;
use crate::logical::object_reader::ObjectReader;
use crate::logical::shelf::{DumpEntry, Shelf};
use crate::logical::side_file::{self, SideFile};
use crate::logical::verify::told;
use crate::progress::ProgressSink;
use crate::workers;

/// A dump that was found, ready to be loaded.
#[derive(Debug)]
pub struct FoundDump {
    /// The name that it was asked for by.
    pub name: String,
    /// The bytes to load.
    pub source: DumpSource,
    /// The database that they are known to be of.
    pub database: Option<String>,
    /// How far they are trusted unasked.
    pub trust: Trust,
    /// Where else it is, for when these bytes turn out to be damaged.
    pub elsewhere: Vec<Placed>,
    /// What is to be said of it, such as that it does not come from the primary store.
    pub warnings: Vec<String>,
    /// Whether it is a file, of which no store knows what opens it.
    pub is_file: bool,
}

impl FoundDump {
    /// A dump from anywhere, of which nothing is known: `name` is what it was asked for by, `called` how messages call it.
    pub fn of_a_stranger(name: impl Into<String>, called: impl Into<String>, bytes: Box<dyn Read + Send>) -> Self {
        let source = DumpSource::new(called, bytes, None);
        let (elsewhere, warnings) = (Vec::new(), Vec::new());
        Self { name: name.into(), source, database: None, trust: Trust::Nobody, is_file: true, elsewhere, warnings }
    }
}

/// Finds the dump that a name means: a dump's name in the store, `latest`, or the path of a file, which has a `/` in it. For a
/// file `shelf` is not called. `database` narrows `latest` where the store has dumps of it. What the store of the shelf does not
/// have, or not whole, is looked for in its copies. Where the shelf is encrypted, a dump in the store must be; a file may be or not,
/// and the caller says what opens it.
///
/// # Errors
/// As [`Shelf::find`], [`open`] and `shelf`; [`Error::File`] and `Damaged` for a file, or the side file next to it, that cannot be
/// read.
pub async fn find(
    shelf: impl FnOnce() -> Result<Shelf>,
    name: &str,
    database: Option<&str>,
    progress: &dyn ProgressSink,
) -> Result<FoundDump> {
    // In a store's name a `/` stands only behind a database's folder; an existing file with such a name is what was meant.
    let path = Path::new(name);
    if name.contains('/') && (path.is_absolute() || name.starts_with('.') || exists(path).await?) {
        return from_file(name).await;
    }
    from_shelf(&shelf()?, name, database, progress).await
}

async fn from_shelf(shelf: &Shelf, name: &str, database: Option<&str>, progress: &dyn ProgressSink) -> Result<FoundDump> {
    find_in(&AllStores::look(shelf, progress).await?, name, database).await
}

/// The same among what the stores have.
///
/// # Errors
/// As [`AllStores::find`]; what the last store says that has it, where none can be read.
pub async fn find_in(all: &AllStores, name: &str, database: Option<&str>) -> Result<FoundDump> {
    let of_database = database.filter(|_| name == "latest");
    let entry = match all.find(name, of_database) {
        // The newest dump may be loaded under another name: then it must be clear without it which one is meant.
        Err(error) if of_database.is_some() && error.kind() == ErrorKind::NotFound => newest_of_all(all, error)?,
        found => found?,
    };
    let (mut places, mut first, mut warnings) = (all.places(&entry.name).into_iter(), None, Vec::new());
    while let Some(placed) = places.next() {
        match open(&placed.shelf, &placed.entry).await {
            Ok((source, trust)) => {
                warnings.extend(all.instead(&placed));
                let (name, database) = (name.to_owned(), placed.entry.database.clone());
                return Ok(FoundDump { name, source, database, trust, is_file: false, elsewhere: places.collect(), warnings });
            }
            Err(error) => {
                warnings.push(format!("{} could not be read in {}: {}", entry.name, placed.shelf.store(), told(&error)));
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::Bug(format!("{} was found in no store", entry.name))))
}

/// Begins to read a dump of a store: its bytes with what is known of them, and how far they are trusted.
///
/// # Errors
/// As [`Shelf::refuse_downgrade`] and [`Shelf::opening`]; what the store says.
pub async fn open(shelf: &Shelf, entry: &DumpEntry) -> Result<(DumpSource, Trust)> {
    shelf.refuse_downgrade(&entry.name)?;
    let opening = shelf.opening(&entry.name, entry.side_file.as_ref()).await?;
    let size = shelf.store().head(&entry.name).await?.size_bytes;
    let bytes = ObjectReader::open(shelf.store().clone(), entry.name.clone(), size);
    let is_own = entry.side_file.as_ref().is_some_and(|side_file| side_file.cluster == shelf.cluster());
    let expected = entry.side_file.as_ref().map(Expected::from);
    let source = DumpSource { name: entry.name.to_string(), bytes: Box::new(bytes), expected, opening };
    Ok((source, if is_own { Trust::OwnDump } else { Trust::Nobody }))
}

/// The newest dump, whichever database it is of, where that can mean only one; else `error`, or what is worse.
fn newest_of_all(all: &AllStores, error: Error) -> Result<&DumpEntry> {
    match all.find("latest", None) {
        Err(other) if other.kind() == ErrorKind::NotFound => Err(error),
        Err(other) if other.kind() == ErrorKind::Invalid => {
            Err(Error::invalid(format!("{error}, and {other}"), "name the dump that is meant: `pgpersist list` shows them all"))
        }
        found => found,
    }
}

async fn exists(path: &Path) -> Result<bool> {
    let path = path.to_owned();
    workers::run(move || Ok(path.exists())).await
}

/// Opening a named pipe waits until somebody writes into it, so it is no work for the thread that hears signals.
async fn from_file(name: &str) -> Result<FoundDump> {
    let name = name.to_owned();
    workers::run(move || open_file(name)).await
}

fn open_file(name: String) -> Result<FoundDump> {
    let path = PathBuf::from(&name);
    let file = File::open(&path).map_err(|e| Error::file("open the dump", &path, e))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Error::invalid(format!("{} is a directory, not a dump", path.display()), "name a `.sql.gz` or `.sql` file"));
    }
    let mut side_path = path.as_os_str().to_owned();
    side_path.push(SIDE_FILE_SUFFIX);
    let mut side_bytes = Vec::new();
    let side_file = match File::open(Path::new(&side_path)).and_then(|file| file.take(side_file::LARGEST).read_to_end(&mut side_bytes)) {
        Ok(_) => {
            let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Some(SideFile::parse(&format!("{file_name}{SIDE_FILE_SUFFIX}").parse()?, &side_bytes)?)
        }
        Err(_) => None,
    };
    let source = DumpSource::new(path.display().to_string(), Box::new(file), side_file.as_ref().map(Expected::from));
    let database = side_file.map(|side_file| side_file.database);
    let (elsewhere, warnings) = (Vec::new(), Vec::new());
    Ok(FoundDump { name, source, database, trust: Trust::Nobody, is_file: true, elsewhere, warnings })
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::progress::Silent;
    use crate::store::memory::MemoryBackupStore;

    fn no_shelf() -> Result<Shelf> {
        panic!("a file needs no store")
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_writes_into_stops_no_thread_that_others_need() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut opening = std::pin::pin!(find(no_shelf, pipe.to_str().unwrap(), None, &Silent));
        // This is the only thread of the runtime: were it the one that waits in the pipe, it would wait here for ever.
        assert!(tokio::time::timeout(Duration::ZERO, &mut opening).await.is_err());
        // Linux opens a pipe for both directions without waiting for anybody.
        let _writer = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let found = opening.await.unwrap();
        assert_eq!((found.source.name.as_str(), found.trust), (pipe.to_str().unwrap(), Trust::Nobody));
    }

    #[tokio::test]
    async fn a_file_is_what_has_a_path_and_all_else_is_in_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backup_20260208_093316.sql.gz");
        let find_in = |name: String| async move {
            find(|| Ok(Shelf::new(Arc::new(MemoryBackupStore::new()), "main", Vec::new())), &name, Some("orders"), &Silent).await
        };
        let absent = find_in(file.display().to_string()).await.unwrap_err();
        assert!(absent.to_string().starts_with("could not open the dump"), "{absent}");
        File::create(&file).unwrap();
        let found = find_in(file.display().to_string()).await.unwrap();
        assert_eq!((found.database, found.source.expected), (None, None));
        let directory = find_in(folder.path().display().to_string()).await.unwrap_err();
        assert!(directory.to_string().ends_with("is a directory, not a dump"), "{directory}");
        for name in ["backup_20260208_093316.sql.gz", "orders/backup_20260208_093316.sql.gz", "latest"] {
            assert_eq!(find_in(name.to_owned()).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
        }
    }

    #[tokio::test]
    async fn a_side_file_beside_a_file_tells_its_database_and_gives_no_trust() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.sql.gz");
        File::create(&file).unwrap();
        let side = folder.path().join(format!("a.sql.gz{SIDE_FILE_SUFFIX}"));
        crate::fs::durable::write(&side, SIDE_FILE.as_bytes(), 0o600).unwrap();
        let found = find(no_shelf, file.to_str().unwrap(), None, &Silent).await.unwrap();
        assert_eq!((found.database.as_deref(), found.trust), (Some("orders"), Trust::Nobody));
        assert_eq!(found.source.expected.unwrap().size_bytes, 20);
        crate::fs::durable::write(&side, b"{", 0o600).unwrap();
        assert_eq!(find(no_shelf, file.to_str().unwrap(), None, &Silent).await.unwrap_err().kind(), ErrorKind::Damaged);
    }

    const SIDE_FILE: &str = r#"{"format": 1, "database": "orders", "cluster": "main", "system_identifier": "7412345678901234567",
        "server_version": "15.18", "pg_dump_version": "15.18", "started_at": "2026-02-08T09:33:16Z",
        "finished_at": "2026-02-08T09:33:17Z", "size_bytes": 20, "uncompressed_bytes": 0,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
}
