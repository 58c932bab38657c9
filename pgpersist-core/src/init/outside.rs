//! The parts of a cluster that lie outside its directory, behind a link: they must survive as well.

use std::fs;
use std::path::{Path, PathBuf};

use crate::data_directory::placement::{self, Verdict};
use crate::error::{Error, Result};
use crate::repo::manifest::Tablespace;

/// Refuses a cluster whose WAL or a tablespace lies where it would not survive the machine: the directory alone is no
/// cluster. Blocking.
///
/// # Errors
/// `Unsafe` with the part and where it lies.
pub(crate) fn refuse_ephemeral(directory: &Path) -> Result<()> {
    for link in links(directory) {
        let target = target(&link);
        let placement = placement::of(&target)?;
        if placement.verdict == Verdict::Ephemeral {
            return Err(Error::refused(
                format!(
                    "{} lies in {}, which would not survive this machine: {}",
                    link.display(),
                    target.display(),
                    placement.evidence.join("; ")
                ),
                "move it onto a persistent volume while no server runs (`pgpersist migrate` makes a linked pg_wal a part of the new place), or insist with `--allow-ephemeral`",
            ));
        }
    }
    Ok(())
}

/// Refuses to restore a tablespace to where it would not survive the machine. Blocking.
///
/// # Errors
/// `Unsafe` with the tablespace and where it would lie.
pub(crate) fn refuse_ephemeral_tablespaces(tablespaces: &[Tablespace]) -> Result<()> {
    for tablespace in tablespaces {
        let placement = placement::of(Path::new(&tablespace.location))?;
        if placement.verdict == Verdict::Ephemeral {
            return Err(Error::refused(
                format!(
                    "the tablespace {} of the backup would lie in {}, which would not survive this machine: {}",
                    tablespace.name,
                    tablespace.location,
                    placement.evidence.join("; ")
                ),
                format!(
                    "mount a persistent volume there, restore it elsewhere (`pgpersist restore latest --tablespace {}=/new/place`), or insist with `--allow-ephemeral`",
                    tablespace.name
                ),
            ));
        }
    }
    Ok(())
}

/// The links among what PostgreSQL keeps data in, in a fixed order.
fn links(directory: &Path) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = ["", "base", "pg_tblspc"].map(|folder| directory.join(folder)).to_vec();
    places = places.into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten()).map(|e| e.path()).collect();
    places.retain(|path| path.is_symlink() && is_data(directory, path));
    places.sort();
    places
}

/// Folders whose loss is a loss of data; logs, statistics and what people keep beside are none.
fn is_data(directory: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let at_the_top = path.parent() == Some(directory);
    let temporary = ["pg_log", "pg_stat_tmp", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans", "pg_dynshmem"];
    !at_the_top || name == "base" || name == "global" || (name.starts_with("pg_") && path.is_dir() && !temporary.contains(&&*name))
}

/// Where a link leads to; of one that leads nowhere, where it points to.
fn target(link: &Path) -> PathBuf {
    link.canonicalize().unwrap_or_else(|_| {
        let named = fs::read_link(link).unwrap_or_default();
        link.parent().unwrap_or(Path::new("/")).join(named)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tablespace_of_a_backup_is_not_restored_to_where_it_would_not_survive() {
        let at = |location: &str| Tablespace { oid: 16399, name: "fast".to_owned(), location: location.to_owned() };
        let error = refuse_ephemeral_tablespaces(&[at("/proc/self/space")]).unwrap_err();
        assert!(error.to_string().contains("fast") && error.remedy().unwrap().contains("--tablespace fast="), "{error}");
        refuse_ephemeral_tablespaces(&[]).unwrap();
    }
}
