//! A cluster as `initdb` made it once, kept to be copied: copying takes a twentieth of the time.
//!
//! A template lies in a cache folder under a name that changes with everything it depends on: the programs, the options,
//! the user. It is made beside and renamed into place, so it is whole or absent; nobody writes into it afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::lock_file::LockFile;
use crate::fs::os_user::OsUser;
use crate::fs::walk::Walk;
use crate::pg::control_file::ControlFile;
use crate::pg::wal_page::{LONG_HEADER_SIZE, WalSegmentHeader};
use crate::server::create::{self, CreateOptions};
use crate::server::installation::PostgresInstallation;
use crate::server::settings::FILE_NAME;
use crate::temporary::scratch;

/// Changes whenever this file makes other templates from the same inputs.
const FORMAT: u32 = 2;
/// The superuser of every throw-away cluster.
pub const SUPERUSER: &str = "postgres";
/// One segment has to be copied with each clone, so it is as small as can be.
const WAL_SEGMENT_MIB: u32 = 1;
/// The list in the template's folder, beside the cluster itself.
const LIST: &str = "template.json";
const CLUSTER: &str = "cluster";
/// The folder of the templates in a cache.
pub(crate) const FOLDER: &str = "templates";
/// How long to wait for another process that makes the same template: `initdb` on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A cluster to be copied.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    folder: PathBuf,
    cluster: PathBuf,
    list: List,
    /// Whether this call made it, so that nobody suspects it of being damaged.
    pub(crate) is_new: bool,
}

/// What the template consists of. A copy that finds anything else knows that the template is damaged.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct List {
    format: u32,
    version: String,
    directories: Vec<String>,
    files: Vec<ListedFile>,
    wal_segments: Vec<String>,
}

/// A file of a template.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ListedFile {
    /// Which of the folders it lies in.
    pub(crate) folder: usize,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl Template {
    /// The template for these programs and this user; makes it when there is none. Blocking.
    ///
    /// # Errors
    /// [`Error::Program`] with what `initdb` said; [`Error::Deadline`] when another process makes it and does not finish.
    pub(crate) fn ensure(cache: &Path, installation: &PostgresInstallation, os_user: Option<&OsUser>) -> Result<Self> {
        let folder = cache.join(name(installation, os_user)?);
        if let Some(template) = Self::open(&folder) {
            return Ok(template);
        }
        let lock = folder.with_extension("lock");
        let deadline = Instant::now() + PATIENCE;
        let _lock = loop {
            if let Some(lock) = LockFile::try_lock(&lock, 0o600)? {
                break lock;
            }
            if Instant::now() >= deadline {
                return Err(Error::Deadline {
                    what: format!("another process did not finish the template {}", folder.display()),
                    after: PATIENCE,
                    remedy: Some("look for a hanging `initdb`".to_owned()),
                });
            }
        };
        // Whoever held the lock before us may have made it.
        if let Some(template) = Self::open(&folder) {
            return Ok(template);
        }
        // A folder that cannot be opened is a damaged template. Who copies from it right now fails, and comes here.
        durable::remove_tree(&folder)?;
        make(&folder, installation, os_user)?;
        let made = Self::open(&folder).ok_or_else(|| Error::Bug(format!("the new template {} cannot be read", folder.display())))?;
        Ok(Self { is_new: true, ..made })
    }

    /// Makes a template known as damaged, so that the next [`Template::ensure`] makes it anew.
    pub(crate) fn discard(self) -> Result<()> {
        durable::remove_file(&self.folder.join(LIST))
    }

    fn open(folder: &Path) -> Option<Self> {
        let list: List = serde_json::from_slice(&fs::read(folder.join(LIST)).ok()?).ok()?;
        (list.format == FORMAT).then(|| Self { folder: folder.to_owned(), cluster: folder.join(CLUSTER), list, is_new: false })
    }

    /// The cluster's data directory.
    pub(crate) fn path(&self) -> &Path {
        &self.cluster
    }

    /// Its folders, each before what is in it; the first is the data directory itself, with an empty name.
    pub(crate) fn directories(&self) -> &[String] {
        &self.list.directories
    }

    /// Its files.
    pub(crate) fn files(&self) -> &[ListedFile] {
        &self.list.files
    }

    /// Whether a file belongs to one of its databases. No server reads these before somebody connects; `base` itself is
    /// looked through for leftovers of a crash.
    pub(crate) fn is_of_database(&self, file: &ListedFile) -> bool {
        self.list.directories.get(file.folder).is_some_and(|folder| folder.starts_with("base/"))
    }

    /// The segments of its log, whose headers name the cluster.
    pub(crate) fn wal_segments(&self) -> &[String] {
        &self.list.wal_segments
    }
}

/// A name that no other programs, options or user have.
fn name(installation: &PostgresInstallation, os_user: Option<&OsUser>) -> Result<String> {
    let program = installation.program("postgres")?;
    let metadata = fs::metadata(&program).map_err(|e| Error::file("look at", &program, e))?;
    let user = os_user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
    let inputs = format!(
        "{FORMAT} {} {} {} {} {user} {:?}",
        program.display(),
        installation.version(),
        metadata.len(),
        metadata.mtime(),
        options(None)
    );
    let digest: String = Sha256::digest(inputs.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("postgresql-{}-{digest}", installation.version().major))
}

fn options(os_user: Option<&OsUser>) -> CreateOptions {
    CreateOptions {
        superuser: SUPERUSER.to_owned(),
        // The socket lies in a folder that only the server's user can enter.
        local_authentication: "trust",
        sync: false,
        os_user: os_user.cloned(),
        lock: None,
        wal_segment_mib: Some(WAL_SEGMENT_MIB),
    }
}

fn make(folder: &Path, installation: &PostgresInstallation, os_user: Option<&OsUser>) -> Result<()> {
    // Under the lock, so what is there was left by a maker that was killed.
    let staging = folder.with_extension("staging");
    durable::remove_tree(&staging)?;
    durable::create_directory(&staging, 0o711)?;
    let result = fill(&staging, installation, os_user).and_then(|()| {
        // Once, so that no copy after a power cut is made of files that never reached the disk.
        durable::sync_tree(&staging)?;
        durable::rename_new(&staging, folder)
    });
    result.inspect_err(|_| {
        // The error is what matters; what cannot be removed now, the next maker removes.
        let _ = durable::remove_tree(&staging);
    })
}

fn fill(staging: &Path, installation: &PostgresInstallation, os_user: Option<&OsUser>) -> Result<()> {
    let cluster = staging.join(CLUSTER);
    durable::create_directory(&cluster, 0o700)?;
    if let Some(user) = os_user {
        std::os::unix::fs::lchown(&cluster, Some(user.uid), Some(user.gid)).map_err(|e| Error::file("set the owner of", &cluster, e))?;
    }
    create::create(installation, &cluster, &options(os_user))?;
    if os_user.is_some() {
        take_back(staging, &cluster)?;
    }
    let wal_segments = trim_log(&cluster)?;
    include_our_settings(&cluster)?;
    let list = list(&cluster, installation, wal_segments)?;
    let bytes = serde_json::to_vec(&list).map_err(|e| Error::Bug(format!("could not write the list of a template: {e}")))?;
    durable::write(&staging.join(LIST), &bytes, 0o600)
}

/// Root copies from the template, so nobody else may change it: links in it would lead root astray.
fn take_back(staging: &Path, cluster: &Path) -> Result<()> {
    let chown = |path: &Path| std::os::unix::fs::lchown(path, Some(0), Some(0)).map_err(|e| Error::file("set the owner of", path, e));
    fs::set_permissions(staging, fs::Permissions::from_mode(0o700)).map_err(|e| Error::file("set the permissions of", staging, e))?;
    chown(cluster)?;
    for entry in Walk::new(cluster)? {
        let entry = entry?;
        chown(&entry.path)?;
    }
    Ok(())
}

/// Removes the segments that no start will read, and returns those that stay: usually one. `initdb` leaves a row of
/// recycled ones; the server makes new ones when it needs them.
fn trim_log(cluster: &Path) -> Result<Vec<String>> {
    let path = cluster.join("global/pg_control");
    let bytes = fs::read(&path).map_err(|e| Error::file("read", &path, e))?;
    let control = ControlFile::parse(&bytes).map_err(|e| Error::damaged(format!("{}: {e}", path.display()), "run it again"))?;
    if !control.is_clean_shutdown() {
        return Err(Error::damaged(format!("`initdb` left {} {}", cluster.display(), control.state.as_str()), "run it again"));
    }
    let size = u64::from(control.wal_segment_size);
    let first = control.redo.0 / size * size;
    let mut kept = Vec::new();
    let folder = cluster.join("pg_wal");
    for entry in fs::read_dir(&folder).map_err(|e| Error::file("list", &folder, e))? {
        let entry = entry.map_err(|e| Error::file("list", &folder, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() != 24 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let mut header = [0; LONG_HEADER_SIZE];
        let read = File::open(entry.path()).and_then(|file| std::os::unix::fs::FileExt::read_exact_at(&file, &mut header, 0));
        read.map_err(|e| Error::file("read", entry.path(), e))?;
        let current = WalSegmentHeader::parse(&header).is_some_and(|header| {
            // A recycled segment still has the address of its former life.
            header.address.0 >= first && name == segment_name(header.timeline, header.address.0, size)
        });
        if current {
            kept.push(name);
        } else {
            durable::remove_file(&entry.path())?;
        }
    }
    if kept.is_empty() {
        return Err(Error::damaged(format!("`initdb` left no WAL in {}", folder.display()), "run it again"));
    }
    kept.sort();
    Ok(kept)
}

/// `XLogFileName` of `xlog_internal.h`.
fn segment_name(timeline: u32, address: u64, size: u64) -> String {
    let (number, per_id) = (address / size, 0x1_0000_0000 / size);
    format!("{timeline:08X}{:08X}{:08X}", number / per_id, number % per_id)
}

/// The line that every start would otherwise add to each copy.
fn include_our_settings(cluster: &Path) -> Result<()> {
    let path = cluster.join("postgresql.conf");
    let mut file = File::options().append(true).open(&path).map_err(|e| Error::file("open", &path, e))?;
    writeln!(file, "\ninclude_if_exists = '{FILE_NAME}'\t# settings from pgpersist's configuration")
        .map_err(|e| Error::file("write", &path, e))
}

fn list(cluster: &Path, installation: &PostgresInstallation, wal_segments: Vec<String>) -> Result<List> {
    let mut list = List {
        format: FORMAT,
        version: installation.version().to_string(),
        directories: vec![String::new()],
        files: Vec::new(),
        wal_segments,
    };
    for entry in Walk::new(cluster)? {
        let entry = entry?;
        let odd = || Error::Bug(format!("`initdb` made {}", entry.path.display()));
        let path = entry.relative.to_str().ok_or_else(odd)?;
        if entry.metadata.is_dir() {
            list.directories.push(path.to_owned());
        } else if entry.metadata.is_file() {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            // The walk tells a folder before what is in it.
            let folder = list.directories.iter().rposition(|known| known == folder).ok_or_else(odd)?;
            list.files.push(ListedFile { folder, name: name.to_owned(), bytes: entry.metadata.size() });
        } else {
            return Err(odd());
        }
    }
    Ok(list)
}

/// The folder of the templates, created: the one that is asked for, else `PGPERSIST_CACHE`, else the user's cache, as root
/// `/var/cache`, else one below the temporary folder: the first that the user of the server can reach and where nobody else
/// can write. `None` where there is no such place, and none is needed.
///
/// # Errors
/// [`Error::Denied`] as root when there is no such place: what is root's alone is no place for another user's template;
/// [`Error::Unsafe`] when the one asked for is none.
pub(crate) fn cache_folder(wanted: Option<&Path>, os_user: Option<&OsUser>) -> Result<Option<PathBuf>> {
    if let Some(wanted) = wanted {
        durable::create_directories(wanted, 0o755)?;
        if is_ours_alone(wanted) {
            return Ok(Some(wanted.to_owned()));
        }
        return Err(Error::refused(
            format!("others can write to {}, so what they put there could be run as a template", wanted.display()),
            "choose a folder of your own, with mode 0755 or 0700",
        ));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut candidates = Vec::new();
    candidates.extend(absolute("PGPERSIST_CACHE"));
    if rustix::process::geteuid().is_root() {
        candidates.push(PathBuf::from("/var/cache/pgpersist"));
    } else {
        candidates.extend(absolute("XDG_CACHE_HOME").map(|folder| folder.join("pgpersist")));
        candidates.extend(absolute("HOME").map(|home| home.join(".cache/pgpersist")));
    }
    let user = rustix::process::geteuid().as_raw();
    candidates.push(scratch::temporary_folder(os_user).join(format!("pgpersist-cache-{user}")));
    let mut folders = candidates.into_iter().map(|folder| folder.join(FOLDER));
    let usable = |folder: &PathBuf| {
        // Passable for the user of the server, who makes a template; finished ones are not.
        durable::create_directories(folder, 0o755).is_ok() && is_ours_alone(folder) && scratch::reachable(folder, os_user)
    };
    match folders.find(usable) {
        None if os_user.is_some() => Err(Error::denied(
            "there is no folder to keep templates of clusters in that nobody else can write to",
            "set PGPERSIST_CACHE to a folder of your own",
        )),
        found => Ok(found),
    }
}

/// Whether nobody else but root can put anything into this folder or swap it for another.
fn is_ours_alone(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let Ok(folder) = folder.canonicalize() else { return false };
    let writable = rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok();
    writable
        && folder.ancestors().enumerate().all(|(depth, path)| {
            fs::metadata(path).is_ok_and(|metadata| {
                let trusted = metadata.uid() == me || metadata.uid() == 0;
                // In a sticky folder such as /tmp nobody can rename what is ours.
                let closed = metadata.mode() & 0o022 == 0 || (depth > 0 && metadata.mode() & 0o1000 != 0);
                trusted && closed
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_as_postgresql_names_them() {
        assert_eq!(segment_name(1, 0x100_0000, 1 << 20), "000000010000000000000010");
        assert_eq!(segment_name(2, 0x16_4D00_0000, 16 << 20), "00000002000000160000004D");
        assert_eq!(segment_name(1, 0x1_0010_0000, 1 << 20), "000000010000000100000001");
    }

    #[test]
    fn a_folder_that_others_can_write_is_no_cache() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_ours_alone(folder.path()));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_ours_alone(folder.path()));
    }
}
