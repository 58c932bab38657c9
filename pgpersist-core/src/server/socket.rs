//! Which folders hold the server's Unix sockets.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::os_user::OsUser;
use crate::fs::{durable, on_behalf};
use crate::server::cluster::Cluster;
use crate::server::installation::PostgresInstallation;
use crate::server::settings::directory_arguments;
use crate::server::spawn::{clean_environment, run_as};

/// The longest path that a Unix socket's folder can have, with room for `/.s.PGSQL.65535`.
const SOCKET_DIRECTORY_MAX: usize = 107 - 16;

/// Where the sockets of a server about to be started go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// The folder to name on the command line, where the configured ones will not do.
    pub(crate) instead: Option<PathBuf>,
    /// All folders that will hold one.
    pub(crate) folders: Vec<PathBuf>,
}

impl Sockets {
    /// Asks `postgres -C` for the configured folders, which also proves that the configuration can be read at all, and
    /// takes a private folder when one of them is missing or not ours to write. Blocking.
    pub(crate) fn choose(cluster: &Cluster, installation: &PostgresInstallation) -> Result<Self> {
        if let Some(wanted) = &cluster.options().socket_directory {
            check_configuration(cluster, installation)?;
            return Ok(Self { instead: Some(wanted.clone()), folders: vec![wanted.clone()] });
        }
        let configured = check_configuration(cluster, installation)?;
        let user = cluster.options().os_user.as_ref();
        let folders: Vec<PathBuf> = configured.split(',').map(|folder| PathBuf::from(folder.trim().trim_matches('"'))).collect();
        if configured.is_empty() || !folders.iter().all(|folder| usable(folder, user)) {
            let own = private_folder(cluster.directory().own_folder(), cluster.path(), user)?;
            return Ok(Self { instead: Some(own.clone()), folders: vec![own] });
        }
        Ok(Self { instead: None, folders })
    }
}

/// Whether the server can make a socket there.
fn usable(folder: &Path, user: Option<&OsUser>) -> bool {
    let (writable, flags) = (Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    on_behalf::as_user(user, folder, || Ok(rustix::fs::accessat(CWD, folder, writable, flags).is_ok())).unwrap_or(false)
}

/// The configured socket folders, as the configuration file lists them.
fn check_configuration(cluster: &Cluster, installation: &PostgresInstallation) -> Result<String> {
    let mut command = std::process::Command::new(installation.program("postgres")?);
    clean_environment(&mut command);
    run_as(&mut command, cluster.options().os_user.as_ref());
    let output = command
        .args(["-C", "unix_socket_directories"])
        .args(directory_arguments(cluster.path()))
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| Error::file("run", installation.bin_directory().join("postgres"), e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let place = cluster.settings().remedy_for(&said).unwrap_or_else(|| "mend the configuration that it names".to_owned());
        return Err(Error::ServerStart {
            directory: cluster.path().to_owned(),
            kind: ErrorKind::Invalid,
            log: Said(said),
            remedy: Some(format!("{place}; nothing was started")),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A folder of our own for the socket: on the volume where its path is short enough, else below `/tmp`.
pub(crate) fn private_folder(own: &OwnFolder, data_directory: &Path, user: Option<&OsUser>) -> Result<PathBuf> {
    on_behalf::as_user(user, data_directory, || private_folder_of_ours(own, data_directory))
}

fn private_folder_of_ours(own: &OwnFolder, data_directory: &Path) -> Result<PathBuf> {
    let own = own.path().join("socket");
    if own.as_os_str().len() <= SOCKET_DIRECTORY_MAX {
        durable::create_directories(&own, 0o700)?;
        return Ok(own);
    }
    let user = rustix::process::geteuid().as_raw();
    let inode = fs::metadata(data_directory).map_err(|e| Error::file("look at", data_directory, e))?;
    let folder = PathBuf::from(format!("/tmp/.pgpersist-{user}-{:x}-{:x}", inode.dev(), inode.ino()));
    durable::create_directory(&folder, 0o700)?;
    let made = fs::symlink_metadata(&folder).map_err(|e| Error::file("look at", &folder, e))?;
    if !made.is_dir() || made.uid() != user || made.mode() & 0o077 != 0 {
        return Err(Error::refused(
            format!("{} belongs to somebody else", folder.display()),
            "remove it, or set `unix_socket_directories` in `[cluster.settings]`",
        ));
    }
    Ok(folder)
}
