//! What a base backup leaves out.
//!
//! Source: *Making a Base Backup Using the Low Level API*, PostgreSQL 17, "Backing Up the Data Directory"; `excludeDirContents` and `excludeFiles` in
//! `basebackup.c`, PostgreSQL 14 to 18.

use std::path::Path;

use crate::pg::relation_file::RelationFile;

/// What is done with something in a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is part of the backup.
    Take,
    /// It is, as a folder, and nothing in it.
    TakeEmpty,
    /// It is not.
    Leave,
}

/// Folders whose content means something to the running server alone, or is backed up by other means (the log).
const EMPTIED: &[&str] =
    &["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans", "lost+found"];

/// Files at the top that belong to the running server, or to another backup.
const LEFT: &[&str] = &[
    "postmaster.pid",
    "postmaster.opts",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    "recovery.signal",
    "standby.signal",
    ".pgpersist",
];

/// What is done with a path, relative to the data directory. Of unlogged relations it does not know: see [`crate::backup::source`].
pub fn treatment(path: &Path) -> Treatment {
    let Some(text) = path.to_str() else { return Treatment::Take };
    if EMPTIED.contains(&text) {
        return if text == "lost+found" { Treatment::Leave } else { Treatment::TakeEmpty };
    }
    let name = text.rsplit('/').next().unwrap_or(text);
    let of_the_moment = name.starts_with("pgsql_tmp") || name.starts_with("pg_internal.init");
    let temporary = RelationFile::classify(path).is_some_and(|file| file.temporary_of.is_some());
    // Written last, when all else is there: see `physical.rs`.
    if LEFT.contains(&text) || of_the_moment || temporary { Treatment::Leave } else { Treatment::Take }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_says_to_leave_out_is_left_out_and_nothing_else() {
        for (path, expected) in [
            ("pg_wal", Treatment::TakeEmpty),
            ("pg_replslot", Treatment::TakeEmpty),
            ("pg_stat_tmp", Treatment::TakeEmpty),
            ("pg_stat", Treatment::Take),
            ("pg_xact/0000", Treatment::Take),
            ("pg_twophase", Treatment::Take),
            ("pg_logical/snapshots", Treatment::Take),
            ("postmaster.pid", Treatment::Leave),
            ("base/5/postmaster.pid", Treatment::Take),
            (".pgpersist", Treatment::Leave),
            ("lost+found", Treatment::Leave),
            ("base/pgsql_tmp", Treatment::Leave),
            ("base/pgsql_tmp/pgsql_tmp12.0", Treatment::Leave),
            ("global/pg_internal.init", Treatment::Leave),
            ("base/5/pg_internal.init.42", Treatment::Leave),
            ("base/5/t3_16390", Treatment::Leave),
            ("base/5/16390", Treatment::Take),
            ("base/5/16390_init", Treatment::Take),
            ("postgresql.conf", Treatment::Take),
            ("postgresql.auto.conf", Treatment::Take),
            ("postgresql.auto.conf.tmp", Treatment::Leave),
            ("recovery.signal", Treatment::Leave),
            ("global/pg_control", Treatment::Take),
        ] {
            assert_eq!(treatment(Path::new(path)), expected, "{path}");
        }
    }
}
