//! Where a drill runs: on a cluster made for it, on a copy with everything outward switched off, or, when told so, on the
//! live one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::data_directory::local::LocalDataDirectory;
use crate::data_directory::own_folder::FOLDER_NAME;
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::space::Space;
use crate::fs::walk::{self, Walk};
use crate::fs::{durable, lock_file};
use crate::server::cluster::{Cluster, ClusterOptions};
use crate::server::create::{self, CreateOptions};
use crate::server::installation::InstallationSearch;
use crate::server::os_user::OsUser;
use crate::server::process::{self, Presence};
use crate::server::spawn::run_as;
use crate::workers;

/// The longest path of a folder that can hold a socket, with room for its name; else `/tmp` is taken.
const LONGEST_SOCKET_FOLDER: usize = 90;

/// What a drill is made on.
#[derive(Debug, Clone)]
pub enum Target {
    /// A cluster of its own, made with `initdb` and removed afterwards.
    ThrowAway {
        /// Where PostgreSQL's programs are looked for.
        search: InstallationSearch,
        /// Whom the server runs as, where we are root.
        os_user: Option<OsUser>,
    },
    /// A copy of this cluster, on the same volume, removed afterwards.
    Copy(Cluster),
    /// This cluster itself: all of its sessions end at each kill.
    Live(Cluster),
}

impl Target {
    /// The word that documents use.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ThrowAway { .. } => "throw-away",
            Self::Copy(_) => "copy",
            Self::Live(_) => "live",
        }
    }
}

/// A prepared place. Unless it is live or kept, dropping it ends its server and removes it.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) cluster: Cluster,
    /// What we made, and therefore remove.
    folder: PathBuf,
    /// A folder for the socket, where the path of the other one is too long for it.
    sockets: Option<PathBuf>,
    /// Whether the cluster is ours too, and not only the folder.
    owned: bool,
    pub(crate) kept: bool,
    pub(crate) ledger: PathBuf,
}

impl Ground {
    /// Makes the place ready; no server runs there yet, except on a live one.
    pub(crate) async fn prepare(target: &Target) -> Result<Self> {
        match target {
            Target::ThrowAway { search, os_user } => throw_away(search.clone(), os_user.clone()).await,
            Target::Copy(source) => copy(source).await,
            Target::Live(cluster) => live(cluster).await,
        }
    }

    /// What was made for the drill: the ledger at least, the cluster too unless it is a live one.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the ledger lies on another file system than the data.
    pub(crate) fn ledger_is_apart(&self) -> bool {
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
        device(self.cluster.path()) != device(&self.ledger)
    }

    fn tidy(&self) -> Result<()> {
        if self.kept {
            return Ok(());
        }
        if self.owned {
            end_server(self.cluster.path());
        }
        durable::remove_file(&self.ledger)?;
        if let Some(sockets) = &self.sockets {
            durable::remove_tree(sockets)?;
        }
        durable::remove_tree(&self.folder)
    }

    /// Ends the server and removes what was made, unless kept.
    pub(crate) async fn clear(mut self) -> Result<()> {
        let kept = std::mem::replace(&mut self.kept, true);
        let this = Self { cluster: self.cluster.clone(), folder: self.folder.clone(), sockets: self.sockets.clone(), owned: self.owned, kept, ledger: self.ledger.clone() };
        workers::run(move || this.tidy()).await
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A drill that was cancelled; there is nobody to tell about a failure.
        let _ = self.tidy();
    }
}

/// Kills the server of this very directory and all below it, and waits a little.
fn end_server(directory: &Path) {
    let Ok(presence) = Presence::of(directory) else { return };
    let Some(pid) = presence.running().map(|file| file.pid) else { return };
    let all: Vec<i32> = std::iter::once(pid).chain(process::descendants(pid)).collect();
    for pid in all.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // Gone already is what is wanted.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    for _ in 0..500 {
        if !all.iter().any(|pid| process::is_alive(*pid)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder of our own that the server's user owns. Its name is random, so nobody can be there first.
fn new_folder(parent: &Path, os_user: Option<&OsUser>) -> Result<PathBuf> {
    let folder = parent.join(format!("pgpersist-drill-{:08x}", rand::random::<u32>()));
    fs::create_dir(&folder).map_err(|e| Error::file("create", &folder, e))?;
    durable::sync_directory(parent)?;
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .and_then(|()| give(&folder, os_user))
        .map_err(|e| Error::file("set the owner of", &folder, e))?;
    Ok(folder)
}

fn give(path: &Path, os_user: Option<&OsUser>) -> std::io::Result<()> {
    os_user.map_or(Ok(()), |user| std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)))
}

fn temporary_folder() -> PathBuf {
    let folder = std::env::temp_dir();
    if folder.as_os_str().len() + "/pgpersist-drill-01234567".len() <= LONGEST_SOCKET_FOLDER { folder } else { PathBuf::from("/tmp") }
}

/// The ledger's place: on another file system than the data where one of the usual folders is, else beside it.
fn ledger_path(data: &Path, folder: &Path) -> PathBuf {
    let device = fs::metadata(data).map(|metadata| metadata.dev()).ok();
    let apart = ["/var/tmp", "/tmp"].map(PathBuf::from).into_iter().find(|candidate| {
        fs::metadata(candidate).is_ok_and(|metadata| metadata.is_dir() && Some(metadata.dev()) != device)
            && rustix::fs::access(candidate, rustix::fs::Access::WRITE_OK).is_ok()
    });
    match (apart, folder.file_name()) {
        (Some(apart), Some(name)) => apart.join(format!("{}.ledger", name.to_string_lossy())),
        _ => folder.join("ledger"),
    }
}

async fn throw_away(search: InstallationSearch, os_user: Option<OsUser>) -> Result<Ground> {
    workers::run(move || {
        let installation = search.for_new_cluster()?;
        let folder = new_folder(&temporary_folder(), os_user.as_ref())?;
        let data = folder.join("data");
        let options = ClusterOptions {
            settings: [
                ("listen_addresses", ""),
                ("restart_after_crash", "on"),
                // Often enough that kills also meet a checkpoint at work.
                ("checkpoint_timeout", "30s"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            os_user: os_user.clone(),
            socket_directory: Some(folder.clone()),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::new(Arc::new(LocalDataDirectory::open(&data)?), search, options);
        let ground = Ground { cluster, ledger: ledger_path(&folder, &folder), folder, sockets: None, owned: true, kept: false };
        durable::create_directory(&data, 0o700)?;
        let superuser = ground.cluster.options().user.clone();
        let create = CreateOptions { local_authentication: "trust", os_user, ..CreateOptions::durable(superuser) };
        create::create(&installation, &data, &create)?;
        Ok(ground)
    })
    .await
}

async fn live(cluster: &Cluster) -> Result<Ground> {
    let path = cluster.path().display();
    if cluster.presence().await?.running().is_none() {
        return Err(Error::unavailable(format!("no server runs in {path}"), "start it with `pgpersist start`"));
    }
    let (cluster, lock) = (cluster.clone(), cluster.directory().own_folder().server_lock());
    workers::run(move || {
        if lock_file::is_free(&lock)? {
            return Err(Error::conflict(
                format!("a server that pgpersist did not start runs in {}", cluster.path().display()),
                "stop it with `pgpersist stop`, then `pgpersist start`: else nobody could safely start it again after the kill",
            ));
        }
        let folder = new_folder(&temporary_folder(), cluster.options().os_user.as_ref())?;
        Ok(Ground { ledger: ledger_path(cluster.path(), &folder), cluster, folder, sockets: None, owned: false, kept: false })
    })
    .await
}

async fn copy(source: &Cluster) -> Result<Ground> {
    let path = source.path();
    source.directory().state().await?.into_cluster(path)?;
    for signal in ["standby.signal", "recovery.signal"] {
        if path.join(signal).exists() {
            return Err(Error::conflict(format!("{} is a standby or in recovery ({signal})", path.display()), "drill a copy of its primary"));
        }
    }
    let mut tablespaces = fs::read_dir(path.join("pg_tblspc")).map_err(|e| Error::file("list", path.join("pg_tblspc"), e))?;
    if tablespaces.next().is_some() {
        return Err(Error::conflict(
            format!("{} has tablespaces, which a drill does not copy", path.display()),
            "run the drill on a throw-away cluster, without `--copy`",
        ));
    }
    let running = source.presence().await?.running().is_some();
    // Nobody may start a stopped source while it is being copied.
    let claim = if running { None } else { Some(source.directory().claim().await?) };
    let installation = source.installation().await?;
    let connection = if running { Some(source.connection("postgres").await?) } else { None };
    let (source, major) = (source.clone(), installation.version().major);
    workers::run(move || {
        let _claim = claim;
        let volume = source.directory().own_folder();
        volume.create()?;
        let needed = walk::tree_size(source.path())?.bytes;
        let free = Space::of(volume.path())?.free_bytes;
        if free < needed + needed / 10 {
            return Err(Error::unavailable(
                format!("a copy of {} needs {needed} bytes, and its volume has {free} free", source.path().display()),
                "free some space, or run the drill on a throw-away cluster, without `--copy`",
            ));
        }
        let os_user = source.options().os_user.clone();
        let folder = new_folder(volume.path(), os_user.as_ref())?;
        let data = folder.join("data");
        let sockets = if folder.as_os_str().len() <= LONGEST_SOCKET_FOLDER { None } else { Some(new_folder(Path::new("/tmp"), os_user.as_ref())?) };
        let options = ClusterOptions {
            port: 5432,
            settings: BTreeMap::new(),
            log_directory: None,
            password: None,
            host: None,
            socket_directory: Some(sockets.clone().unwrap_or_else(|| folder.clone())),
            command_line: quiet(&folder, major),
            ..source.options().clone()
        };
        let cluster = Cluster::new(Arc::new(LocalDataDirectory::open(&data)?), source.search().clone(), options);
        let ground = Ground { cluster, ledger: ledger_path(&folder, &folder), folder, sockets, owned: true, kept: false };
        match connection {
            None => copy_files(source.path(), &data, os_user.as_ref())?,
            Some(connection) => {
                let program = installation.program("pg_basebackup")?;
                let mut command = Command::new(&program);
                run_as(&mut command, os_user.as_ref());
                command.arg("-D").arg(&data).args(["-X", "stream", "-c", "fast", "--no-sync", "--no-password", "-d"]);
                command.arg(connection.conninfo()).envs(connection.environment()).env("LC_ALL", "C").stdin(Stdio::null());
                let output = command.output().map_err(|e| Error::file("run", &program, e))?;
                if !output.status.success() {
                    return Err(Error::Program {
                        program: "pg_basebackup".to_owned(),
                        status: output.status.to_string(),
                        said: Said(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                        kind: ErrorKind::Unavailable,
                        remedy: Some("stop the server and copy it then, or let this role replicate (pg_hba.conf, max_wal_senders)".to_owned()),
                    });
                }
            }
        }
        durable::write(&ground.folder.join("pg_hba.conf"), b"local all all trust\n", 0o600)?;
        durable::write(&ground.folder.join("pg_ident.conf"), b"", 0o600)?;
        Ok(ground)
    })
    .await
}

/// What keeps a copy from reaching out, on the command line, which beats the `postgresql.auto.conf` that came along: no
/// archive, no publisher or primary, no schedules, no preloaded libraries, no TCP, and nobody whom commits would wait for.
fn quiet(folder: &Path, major: u32) -> BTreeMap<String, String> {
    let hba = folder.join("pg_hba.conf").display().to_string();
    let ident = folder.join("pg_ident.conf").display().to_string();
    let mut settings = vec![
        ("listen_addresses", ""),
        ("archive_mode", "off"),
        ("max_logical_replication_workers", "0"),
        ("primary_conninfo", ""),
        ("primary_slot_name", ""),
        ("restore_command", ""),
        ("archive_cleanup_command", ""),
        ("recovery_end_command", ""),
        ("synchronous_standby_names", ""),
        ("shared_preload_libraries", ""),
        ("session_preload_libraries", ""),
        ("local_preload_libraries", ""),
        ("cron.launch_active_jobs", "off"),
        ("external_pid_file", ""),
        ("ssl", "off"),
        ("restart_after_crash", "on"),
        ("hba_file", &hba),
        ("ident_file", &ident),
    ];
    if major >= 17 {
        settings.extend([("sync_replication_slots", "off"), ("event_triggers", "off")]);
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Copies a stopped cluster's files; where the file system can, without copying their bytes. A `pg_wal` that lies elsewhere
/// becomes a plain folder. Replication slots stay behind: nobody replays from a copy.
fn copy_files(source: &Path, target: &Path, os_user: Option<&OsUser>) -> Result<()> {
    durable::create_directory(target, 0o700)?;
    let mut walk = Walk::new(source)?;
    while let Some(entry) = walk.next() {
        let entry = entry?;
        let relative = entry.relative.to_string_lossy();
        let to = target.join(&entry.relative);
        if relative == FOLDER_NAME || relative == "pg_replslot" {
            walk.skip_folder();
            if relative == "pg_replslot" {
                durable::create_directory(&to, 0o700)?;
            }
        } else if entry.metadata.is_dir() {
            durable::create_directory(&to, 0o700)?;
        } else if entry.metadata.is_symlink() && relative == "pg_wal" {
            copy_files(&fs::canonicalize(&entry.path).map_err(|e| Error::file("resolve", &entry.path, e))?, &to, os_user)?;
        } else if entry.metadata.is_file() && !matches!(relative.as_ref(), "postmaster.pid" | "postmaster.opts") {
            // Nothing of a copy must survive anything, so it is not synced; the kernel shares blocks where it can.
            fs::copy(&entry.path, &to).map_err(|e| Error::file("copy", &entry.path, e))?;
            give(&to, os_user).map_err(|e| Error::file("set the owner of", &to, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_reaches_nobody() {
        let settings = quiet(Path::new("/drill"), 15);
        for (name, value) in [("archive_mode", "off"), ("listen_addresses", ""), ("primary_conninfo", ""), ("synchronous_standby_names", "")] {
            assert_eq!(settings[name], value);
        }
        assert!(!settings.contains_key("sync_replication_slots"), "15 does not know it and would not start");
        assert_eq!(quiet(Path::new("/drill"), 17)["sync_replication_slots"], "off");
    }

    #[test]
    fn files_are_copied_without_what_belongs_to_the_source_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (source, wal) = (folder.path().join("source"), folder.path().join("wal"));
        for path in ["base/1", "pg_replslot/standby", ".pgpersist"] {
            fs::create_dir_all(source.join(path)).unwrap();
        }
        fs::create_dir(&wal).unwrap();
        for path in ["base/1/100", "postmaster.pid", "pg_replslot/standby/state", ".pgpersist/lock"] {
            durable::write(&source.join(path), path.as_bytes(), 0o600).unwrap();
        }
        durable::write(&wal.join("000000010000000000000001"), b"wal", 0o600).unwrap();
        std::os::unix::fs::symlink(&wal, source.join("pg_wal")).unwrap();
        let target = folder.path().join("target");
        copy_files(&source, &target, None).unwrap();
        let mut copied: Vec<_> = Walk::new(&target).unwrap().map(|entry| entry.unwrap().relative.display().to_string()).collect();
        copied.sort();
        assert_eq!(copied, ["base", "base/1", "base/1/100", "pg_replslot", "pg_wal", "pg_wal/000000010000000000000001"]);
        assert!(!target.join("pg_wal").is_symlink());
    }
}
