//! The parts of a cluster that lie outside its directory, behind a link: they must survive as well.

use std::fs;
use std::path::{Path, PathBuf};

use crate::data_directory::placement::{self, Verdict};
use crate::error::{Error, Result};

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
