//! A copy of somebody's cluster that a drill may kill: made on the same volume, with everything outward switched off.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::data_directory::own_folder::FOLDER_NAME;
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::durable;
use crate::fs::lock_file::{LockFile, SoleLock};
use crate::fs::on_behalf::as_user_or_owner;
use crate::fs::os_user::OsUser;
use crate::fs::walk::Walk;
use crate::pg::quote;
use crate::server::installation::PostgresInstallation;
use crate::server::spawn::run_as;
use crate::temporary::scratch::{Afterwards, OWNER, Undertaker, say_who};
use crate::temporary::sweeper;

/// How the name of a copy's folder begins.
const PREFIX: &str = "drill-";

/// The folder of a copy, and the process that removes it however we end. What both did not survive, as when the power
/// failed, the next drill removes: its lock is free then.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) folder: PathBuf,
    pub(crate) undertaker: Undertaker,
    _owner: SoleLock,
}

impl Copied {
    /// Makes a folder on a volume, and removes what dead drills left there. Blocking.
    pub(crate) fn create(volume: &Path, os_user: Option<&OsUser>) -> Result<Self> {
        sweeper::sweep_named(volume, PREFIX, os_user)?;
        let folder = volume.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        // Engaged first: from here on nothing that we make outlives us.
        let undertaker = Undertaker::engage(&folder, Afterwards::Remove)?;
        durable::create_directory(&folder, 0o700)?;
        let owner = folder.join(OWNER);
        let lock = LockFile::try_lock(&owner, 0o600)?
            .ok_or_else(|| Error::Bug(format!("somebody else holds the new lock {}", owner.display())))?;
        say_who(&lock).map_err(|e| Error::file("write", &owner, e))?;
        durable::sync_directory(&folder)?;
        Ok(Self { folder, undertaker, _owner: lock.sole() })
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // There is nobody to tell; the folder is named for what it is.
        let _ = self.undertaker.bury(&self.folder);
    }
}

/// What keeps a copy from reaching out, on the command line, which beats the `postgresql.auto.conf` that came along: no
/// archive, no publisher or primary, no schedules, no preloaded libraries, no TCP, and nobody whom commits would wait for.
pub(crate) fn quiet(folder: &Path, major: u32) -> BTreeMap<String, String> {
    let data = folder.join("data").display().to_string();
    let hba = folder.join("pg_hba.conf").display().to_string();
    let ident = folder.join("pg_ident.conf").display().to_string();
    let mut settings = vec![
        // In a `postgresql.conf` that came along it would beat `-D`, and name the original.
        ("data_directory", data.as_str()),
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

/// Says the same at the end of `postgresql.auto.conf`, for those who start a kept copy by hand.
pub(crate) fn calm(data: &Path, settings: &BTreeMap<String, String>) -> Result<()> {
    // Where the data lies is asked before `postgresql.auto.conf` is read.
    let (place, others): (BTreeMap<_, _>, BTreeMap<_, _>) = settings.clone().into_iter().partition(|(name, _)| name == "data_directory");
    append(&data.join("postgresql.conf"), &place)?;
    append(&data.join("postgresql.auto.conf"), &others)
}

fn append(path: &Path, settings: &BTreeMap<String, String>) -> Result<()> {
    let mut text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::file("read", path, error)),
    };
    text.extend_from_slice(b"\n# A copy for a drill reaches nobody.\n");
    for (name, value) in settings {
        let value = quote::setting(value)
            .ok_or_else(|| Error::invalid(format!("{} has a line break in its path", path.display()), "choose another folder"))?;
        text.extend_from_slice(format!("{name} = {value}\n").as_bytes());
    }
    durable::write(path, &text, 0o600)
}

/// Refuses a cluster with links in it. What they lead to would not come along, or would be shared with the original. A
/// linked `pg_wal` is followed.
pub(crate) fn refuse_links(source: &Path) -> Result<()> {
    let mut walk = Walk::new(source)?;
    while let Some(entry) = walk.next() {
        let entry = entry?;
        if entry.relative.as_os_str() == FOLDER_NAME {
            walk.skip_folder();
        } else if entry.metadata.is_symlink() && entry.relative.as_os_str() != "pg_wal" {
            return Err(Error::conflict(
                format!("{} is a link, which a copy for a drill does not follow", entry.path.display()),
                "put what it leads to in its place, or run the drill on a throw-away cluster, without `--copy`",
            ));
        }
    }
    Ok(())
}

/// What roles and databases preload, and their event triggers, taken out of a copy: these settings beat the command line.
/// In single-user mode they do not apply yet, and nobody can connect.
const FORGET_PRELOADS: [&str; 2] = [
    "DELETE FROM pg_catalog.pg_db_role_setting WHERE NOT EXISTS (SELECT FROM pg_catalog.unnest(setconfig) s WHERE s !~* '^(session_preload_libraries|local_preload_libraries|event_triggers)=')",
    "UPDATE pg_catalog.pg_db_role_setting SET setconfig = ARRAY(SELECT s FROM pg_catalog.unnest(setconfig) WITH ORDINALITY t(s, n) WHERE s !~* '^(session_preload_libraries|local_preload_libraries|event_triggers)=' ORDER BY n)",
];

/// Makes a copy's sessions load nothing that a role or a database asks for. Blocking.
///
/// # Errors
/// [`Error::Program`] with what the server said.
pub(crate) fn forget_preloads(
    installation: &PostgresInstallation,
    data: &Path,
    settings: &BTreeMap<String, String>,
    os_user: Option<&OsUser>,
) -> Result<()> {
    let program = installation.program("postgres")?;
    let mut command = Command::new(&program);
    run_as(&mut command, os_user);
    command.arg("--single").arg("-D").arg(data).args([
        "-c",
        "exit_on_error=on",
        "-c",
        "logging_collector=off",
        "-c",
        "log_destination=stderr",
    ]);
    for (name, value) in settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.arg("template1").env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = command.spawn().map_err(|e| Error::file("run", &program, e))?;
    if let Some(mut statements) = server.stdin.take() {
        // A line is a statement; the end of its input ends the server. If it is gone already, its status tells why.
        let _ = statements.write_all(format!("{}\n{}\n", FORGET_PRELOADS[0], FORGET_PRELOADS[1]).as_bytes());
    }
    let output = server.wait_with_output().map_err(|e| Error::file("wait for", &program, e))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() && !said.lines().any(|line| line.contains("ERROR:")) {
        return Ok(());
    }
    Err(Error::Program {
        program: "postgres --single".to_owned(),
        status: output.status.to_string(),
        said: Said(said),
        kind: ErrorKind::Unavailable,
        remedy: Some("run the drill on a throw-away cluster, without `--copy`".to_owned()),
    })
}

/// Copies a stopped cluster's files; where the file system can, without copying their bytes. A `pg_wal` that lies elsewhere
/// becomes a plain folder. Replication slots stay behind: nobody replays from a copy.
pub(crate) fn copy_files(source: &Path, target: &Path, os_user: Option<&OsUser>) -> Result<()> {
    as_user_or_owner(os_user, target, || copy_below(source, target))
}

fn copy_below(source: &Path, target: &Path) -> Result<()> {
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
            copy_below(&fs::canonicalize(&entry.path).map_err(|e| Error::file("resolve", &entry.path, e))?, &to)?;
        } else if entry.metadata.is_file() && !matches!(relative.as_ref(), "postmaster.pid" | "postmaster.opts") {
            // Nothing of a copy must survive anything, so it is not synced; the kernel shares blocks where it can.
            fs::copy(&entry.path, &to).map_err(|e| Error::file("copy", &entry.path, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_a_copy_would_lose_or_share_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nowhere", folder.path().join("pg_wal")).unwrap();
        refuse_links(folder.path()).unwrap();
        fs::create_dir(folder.path().join("base")).unwrap();
        std::os::unix::fs::symlink("/etc/postgresql/postgresql.conf", folder.path().join("base/link")).unwrap();
        let error = refuse_links(folder.path()).unwrap_err();
        assert!(error.to_string().contains("base/link"), "{error}");
    }

    #[test]
    fn a_copy_reaches_nobody() {
        let settings = quiet(Path::new("/drill"), 15);
        for (name, value) in [
            ("data_directory", "/drill/data"),
            ("archive_mode", "off"),
            ("listen_addresses", ""),
            ("primary_conninfo", ""),
            ("synchronous_standby_names", ""),
        ] {
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
