//! What a killed server leaves: `postmaster.pid` and its sockets. Removed only on proof.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::data_directory::placement::{self, Verdict};
use crate::error::{Error, Result};
use crate::fs::{boot, durable, mounts};
use crate::pg::postmaster_pid::PostmasterPid;
use crate::server::cluster::Cluster;
use crate::server::process::ServerRecord;
use crate::workers;

/// How long a directory with somebody's `postmaster.pid` is watched for signs of life before we report it.
const WATCH: Duration = Duration::from_secs(60);

/// Removes a `postmaster.pid` that is proven stale.
pub(crate) async fn remove_pid_file(cluster: &Cluster, pid_file: &PostmasterPid, timeout: Duration, trusted: bool) -> Result<()> {
    prove(cluster, pid_file, timeout, trusted).await?;
    let file = cluster.path().join("postmaster.pid");
    workers::run(move || durable::remove_file(&file)).await
}

/// Proves that the server of a `postmaster.pid` is gone, or refuses: it is the record of the server that we started (whose
/// lock is free, so it is gone), or it is older than this machine's boot and lies on a disk of this machine alone.
pub(crate) async fn prove(cluster: &Cluster, pid_file: &PostmasterPid, timeout: Duration, trusted: bool) -> Result<()> {
    let path = cluster.path().to_owned();
    let record_path = cluster.directory().own_folder().server_record();
    let pid_file_ = pid_file.clone();
    let proven = workers::run(move || {
        let ours = ServerRecord::read(&record_path).is_some_and(|record| record.matches(&pid_file_));
        let mount = mounts::mount_of(&path)?;
        let on_local_disk = placement::judge(&mount).verdict == Verdict::Persistent && mount.source.starts_with("/dev/");
        let before_boot = on_local_disk && pid_file_.started_at < boot::boot_time()?;
        Ok(ours || before_boot)
    })
    .await?;
    let file = cluster.path().join("postmaster.pid");
    if proven || trusted {
        return Ok(());
    }
    let watched = WATCH.min(timeout);
    let signs = watch(cluster.path(), watched).await?;
    let started =
        OffsetDateTime::from_unix_timestamp(pid_file.started_at).map_or_else(|_| pid_file.started_at.to_string(), |at| at.to_string());
    Err(Error::refused(
        format!(
            "{} names process {}, started {started}, which this machine does not run; nothing proves that its server is gone: {}",
            file.display(),
            pid_file.pid,
            if signs {
                "the cluster's files changed while it was watched".to_owned()
            } else {
                format!("its files did not change within {} s", watched.as_secs())
            }
        ),
        if signs {
            "a server on another machine or in another container uses this directory: stop it there"
        } else {
            "if you are sure that no other machine or container uses this directory, insist with `--yes`"
        },
    ))
}

/// Whether `pg_control` or anything in `pg_wal` changes within the time.
async fn watch(directory: &Path, time: Duration) -> Result<bool> {
    let look = |directory: PathBuf| {
        move || {
            let mut seen = Vec::new();
            let control = directory.join("global/pg_control");
            let names = fs::read_dir(directory.join("pg_wal")).into_iter().flatten().flatten().map(|entry| entry.path());
            for path in std::iter::once(control).chain(names) {
                if let Ok(metadata) = fs::metadata(&path) {
                    seen.push((path, metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec(), metadata.size()));
                }
            }
            seen.sort();
            Ok(seen)
        }
    };
    let before = workers::run(look(directory.to_owned())).await?;
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if workers::run(look(directory.to_owned())).await? != before {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the socket and its lock file that a killed server of this very directory left in a folder. PostgreSQL takes
/// them for alive when their number belongs to any process by now. The caller holds the server's lock, so no server of
/// ours lives.
pub(crate) fn remove_socket(cluster: &Cluster, folder: &Path) -> Result<()> {
    let port = cluster.options().port;
    let lock = folder.join(format!(".s.PGSQL.{port}.lock"));
    let Ok(bytes) = fs::read(&lock) else {
        return Ok(());
    };
    // The lock file of a socket has the lines of `postmaster.pid` (`CreateLockFile` in miscinit.c).
    let ours = PostmasterPid::parse(&bytes).is_ok_and(|file| file.data_directory == cluster.path());
    if ours {
        durable::remove_file(&folder.join(format!(".s.PGSQL.{port}")))?;
        durable::remove_file(&lock)?;
    }
    Ok(())
}
