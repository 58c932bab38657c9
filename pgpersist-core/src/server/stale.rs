//! What a killed server leaves: `postmaster.pid` and its sockets. Removed only on proof.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::data_directory::placement;
use crate::error::{Error, Result};
use crate::fs::{boot, durable, mounts};
use crate::pg::postmaster_pid::PostmasterPid;
use crate::server::cluster::Cluster;
use crate::server::process::ServerRecord;
use crate::workers;

/// How long a directory with somebody's `postmaster.pid` is watched for signs of life before we report it.
const WATCH: Duration = Duration::from_secs(60);
/// How long it is watched although somebody who knows has said that nobody uses it. A server with anything to do writes WAL
/// at least every 15 seconds (`LOG_SNAPSHOT_INTERVAL_MS` in bgwriter.c).
const WATCH_TRUSTED: Duration = Duration::from_secs(20);

/// Removes a `postmaster.pid` that is proven stale.
pub(crate) async fn remove_pid_file(cluster: &Cluster, pid_file: &PostmasterPid, timeout: Duration, trusted: bool) -> Result<()> {
    prove(cluster, pid_file, timeout, trusted).await?;
    let file = cluster.path().join("postmaster.pid");
    workers::run(move || durable::remove_file(&file)).await
}

/// Proves that the server of a `postmaster.pid` is gone, or refuses. Somebody who knows may say that nobody uses the
/// directory, but not against signs of life.
pub(crate) async fn prove(cluster: &Cluster, pid_file: &PostmasterPid, timeout: Duration, trusted: bool) -> Result<()> {
    let path = cluster.path().to_owned();
    let record = cluster.directory().own_folder().server_record();
    let written = pid_file.clone();
    let proven = workers::run(move || Ok(Here::of(&path, &record)?.proves_stale(&written))).await?;
    if proven {
        return Ok(());
    }
    let watched = if trusted { WATCH_TRUSTED } else { WATCH }.min(timeout);
    let signs = watch(cluster.path(), watched).await?;
    if trusted && !signs { Ok(()) } else { Err(unproven(cluster, pid_file, watched, signs)) }
}

/// What is known here and now that can prove a `postmaster.pid` stale. The server's lock is free, as its caller made sure.
#[derive(Debug, Clone)]
struct Here {
    boot_id: String,
    boot_time: i64,
    /// Whether no other machine can have the volume mounted.
    of_one_machine: bool,
    record: Option<ServerRecord>,
}

impl Here {
    fn of(directory: &Path, record: &Path) -> Result<Self> {
        Ok(Self {
            boot_id: boot::boot_id()?,
            boot_time: boot::boot_time()?,
            of_one_machine: placement::is_of_one_machine(&mounts::mount_of(directory)?),
            record: ServerRecord::read(record),
        })
    }

    /// Whether the server that wrote this file is gone: it is the one that we recorded, and then its lock tells, if it was
    /// started in this boot of this machine; or its boot is over, on a volume that no other machine has.
    fn proves_stale(&self, pid_file: &PostmasterPid) -> bool {
        match self.record.as_ref().filter(|record| record.matches(pid_file)) {
            Some(record) => record.boot_id == self.boot_id || self.of_one_machine,
            None => self.of_one_machine && pid_file.started_at < self.earliest_boot_time(),
        }
    }

    /// When this boot began. A clock that was set forward, as after a pause of a virtual machine, moves the boot's time with
    /// it, past the start of servers that run: what was noted earlier in the same boot then says better.
    fn earliest_boot_time(&self) -> i64 {
        let noted = self.record.as_ref().filter(|record| record.boot_id == self.boot_id).and_then(|record| record.booted_at);
        noted.map_or(self.boot_time, |noted| noted.min(self.boot_time))
    }
}

fn unproven(cluster: &Cluster, pid_file: &PostmasterPid, watched: Duration, signs: bool) -> Error {
    let started =
        OffsetDateTime::from_unix_timestamp(pid_file.started_at).map_or_else(|_| pid_file.started_at.to_string(), |at| at.to_string());
    Error::refused(
        format!(
            "{} names process {}, started {started}, which this machine does not run; nothing proves that its server is gone: {}",
            cluster.path().join("postmaster.pid").display(),
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
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pid_file(started_at: i64) -> PostmasterPid {
        PostmasterPid::parse(format!("42\n/data\n{started_at}\n").as_bytes()).unwrap()
    }

    /// A machine that booted at 1000 and has started process 42 at 2000.
    fn here(of_one_machine: bool) -> Here {
        let record =
            ServerRecord { format: 1, pid: format!("{:>10}", 42), boot_id: "this".into(), spawned_at: 2_000, booted_at: Some(1_000) };
        Here { boot_id: "this".into(), boot_time: 1_000, of_one_machine, record: Some(record) }
    }

    #[test]
    fn the_record_of_this_boot_proves_anywhere() {
        assert!(here(true).proves_stale(&pid_file(2_001)) && here(false).proves_stale(&pid_file(2_001)));
        assert!(!here(false).proves_stale(&pid_file(3_000)), "another server's file");
    }

    #[test]
    fn the_record_of_another_machine_proves_nothing_on_a_shared_volume() {
        let elsewhere = |of_one_machine| Here { boot_id: "another".into(), ..here(of_one_machine) };
        assert!(!elsewhere(false).proves_stale(&pid_file(2_001)));
        assert!(elsewhere(true).proves_stale(&pid_file(2_001)), "an earlier boot of the only machine that can have it");
    }

    #[test]
    fn a_file_from_before_the_boot_is_stale_on_a_volume_of_one_machine() {
        assert!(here(true).proves_stale(&pid_file(999)) && !here(false).proves_stale(&pid_file(999)));
        assert!(Here { record: None, ..here(true) }.proves_stale(&pid_file(999)));
    }

    #[test]
    fn a_clock_that_was_set_forward_makes_no_live_server_older_than_the_boot() {
        let later = Here { boot_time: 90_000, ..here(true) };
        assert!(!later.proves_stale(&pid_file(5_000)));
        assert!(later.proves_stale(&pid_file(999)));
    }
}
