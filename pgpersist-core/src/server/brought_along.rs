//! PostgreSQL's programs that came along with the program that we are part of, for machines that have none.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::walk::Walk;

/// Where root keeps copies of programs that only root can reach.
const COPIES: &str = "/var/cache/pgpersist/programs";

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Has every search of this process look into this folder of programs, after all other places. The first call counts.
///
/// Where this process is root and the folder can be reached by root alone, as one below `/root`, a copy below
/// `/var/cache/pgpersist` stands for it: a server never runs as root.
pub fn bring_along(bin_directory: PathBuf) {
    // A second one changes nothing: what was found by the first may be running.
    let _ = FOLDER.set(bin_directory);
}

/// What was brought along.
pub(crate) fn folder() -> Option<PathBuf> {
    FOLDER.get().cloned()
}

/// The folder, or where this process is root and nobody else can reach it, a copy of it and of what lies beside it.
pub(crate) fn reachable(bin_directory: &Path) -> Result<PathBuf> {
    if !rustix::process::geteuid().is_root() || is_open(bin_directory) {
        return Ok(bin_directory.to_owned());
    }
    copied(bin_directory, Path::new(COPIES))
}

/// Whether everybody can go there.
fn is_open(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    folder.ancestors().all(|path| fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o001 != 0))
}

/// A copy of an installation that everybody can reach and nobody else can change; made once for each state of the original.
fn copied(bin_directory: &Path, copies: &Path) -> Result<PathBuf> {
    let (Some(root), Some(name)) = (bin_directory.parent(), bin_directory.file_name()) else {
        return Err(Error::invalid(
            format!("{} is no folder of programs", bin_directory.display()),
            "name the folder that holds `postgres`",
        ));
    };
    let postgres = bin_directory.join("postgres");
    let state = fs::metadata(&postgres).map_err(|e| Error::file("look at", &postgres, e))?;
    let state = format!("{}\0{}\0{}\0{}", root.display(), state.ino(), state.len(), state.mtime());
    let digest: String = Sha256::digest(state.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let target = copies.join(digest);
    if !target.is_dir() {
        durable::create_directories(copies, 0o755)?;
        if !is_closed(copies) {
            let remedy = "remove it, or have root own it and all above it, with mode 0755";
            return Err(Error::refused(
                format!("others than root can write to {}, where programs are to be kept", copies.display()),
                remedy,
            ));
        }
        let staged = tempfile_beside(&target);
        durable::remove_tree(&staged)?;
        copy(root, &staged)?;
        durable::sync_tree(&staged)?;
        match durable::rename_new(&staged, &target) {
            // Another process was faster.
            Err(_) if target.is_dir() => durable::remove_tree(&staged)?,
            result => result?,
        }
    }
    Ok(target.join(name))
}

fn tempfile_beside(target: &Path) -> PathBuf {
    target.with_extension(format!("{}.part", std::process::id()))
}

/// Whether nobody but root can change what is in a folder, or which folder it is.
fn is_closed(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    folder.canonicalize().is_ok_and(|folder| {
        folder.ancestors().enumerate().all(|(depth, path)| {
            fs::metadata(path).is_ok_and(|metadata| {
                let sticky = depth > 0 && metadata.mode() & 0o1000 != 0;
                (metadata.uid() == 0 || metadata.uid() == me) && (metadata.mode() & 0o022 == 0 || sticky)
            })
        })
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    durable::create_directory(to, 0o755)?;
    durable::set_permissions(to, 0o755)?;
    for entry in Walk::new(from)? {
        let entry = entry?;
        let target = to.join(&entry.relative);
        if entry.metadata.is_dir() {
            durable::create_directory(&target, 0o755)?;
            durable::set_permissions(&target, 0o755)?;
        } else if entry.metadata.is_symlink() {
            let points_to = fs::read_link(&entry.path).map_err(|e| Error::file("read the link", &entry.path, e))?;
            std::os::unix::fs::symlink(points_to, &target).map_err(|e| Error::file("create the link", &target, e))?;
        } else if entry.metadata.is_file() {
            fs::copy(&entry.path, &target).map_err(|e| Error::file("copy", &entry.path, e))?;
            let mode = if entry.metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            durable::set_permissions(&target, mode)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(root: &Path, text: &[u8]) -> PathBuf {
        let bin = root.join("pginstall/bin");
        durable::create_directories(&bin, 0o700).unwrap();
        durable::create_directories(&root.join("pginstall/lib"), 0o700).unwrap();
        durable::write(&bin.join("postgres"), text, 0o700).unwrap();
        durable::write(&root.join("pginstall/lib/libpq.so.5.17"), b"library", 0o600).unwrap();
        std::os::unix::fs::symlink("libpq.so.5.17", root.join("pginstall/lib/libpq.so.5")).unwrap();
        bin
    }

    #[test]
    fn a_copy_is_open_to_all_and_made_once_for_each_state() {
        let (root, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bin = installation(root.path(), b"#!/bin/sh\n");
        assert!(!is_open(&bin), "a temporary folder is its user's alone");
        let copy = copied(&bin, copies.path()).unwrap();
        assert_eq!(copy.file_name(), bin.file_name());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&copy), mode(&copy.join("postgres")), mode(&copy.join("../lib/libpq.so.5"))), (0o755, 0o755, 0o644));
        assert_eq!(fs::read(copy.join("../lib/libpq.so.5")).unwrap(), b"library");
        assert_eq!(copied(&bin, copies.path()).unwrap(), copy);
        assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 1);
        // An update.
        durable::write(&bin.join("postgres"), b"#!/bin/sh\n# newer\n", 0o700).unwrap();
        let newer = copied(&bin, copies.path()).unwrap();
        assert_ne!(newer, copy);
        assert_eq!(fs::read(newer.join("postgres")).unwrap(), b"#!/bin/sh\n# newer\n");
    }

    #[test]
    fn no_copy_is_made_where_others_can_exchange_it() {
        let (root, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bin = installation(root.path(), b"#!/bin/sh\n");
        fs::set_permissions(copies.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(copied(&bin, copies.path()), Err(Error::Unsafe { .. })));
    }
}
