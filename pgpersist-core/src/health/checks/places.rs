//! The places that a cluster depends on: where its files lie, its WAL and tablespaces where they lie elsewhere, its stores and
//! its log, each with its mount, its room, and the disks below it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::data_directory::placement::{self, Placement};
use crate::error::{Error, Result};
use crate::fs::mounts::{self, Mount};
use crate::fs::space::Space;

/// What lies in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::health) enum Role {
    Data,
    Wal,
    Tablespace,
    Store,
    Log,
}

impl Role {
    /// The word for people and labels.
    pub(in crate::health) fn word(&self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Wal => "WAL",
            Self::Tablespace => "tablespace",
            Self::Store => "store",
            Self::Log => "log",
        }
    }

    /// Whether a cluster without it is lost.
    pub(in crate::health) fn is_part_of_cluster(&self) -> bool {
        matches!(self, Self::Data | Self::Wal | Self::Tablespace)
    }
}

/// A place, looked at.
#[derive(Debug, Clone)]
pub(in crate::health) struct Place {
    pub(in crate::health) role: Role,
    pub(in crate::health) path: PathBuf,
    pub(in crate::health) mount: Mount,
    pub(in crate::health) placement: Placement,
    pub(in crate::health) space: Space,
    /// The whole disks below it, where the kernel tells.
    pub(in crate::health) disks: BTreeSet<PathBuf>,
}

impl Place {
    /// Whether both are lost with one device.
    pub(in crate::health) fn shares_device_with(&self, other: &Self) -> bool {
        let same_source = self.mount.source == other.mount.source && self.mount.source.starts_with("/dev/");
        // The datasets of one ZFS pool are `pool/…`.
        let pool = |mount: &Mount| (mount.fs_type == "zfs").then(|| mount.source.split('/').next().map(str::to_owned)).flatten();
        let same_pool = pool(&self.mount).is_some() && pool(&self.mount) == pool(&other.mount);
        self.mount.device == other.mount.device || same_source || same_pool || !self.disks.is_disjoint(&other.disks)
    }
}

/// Where to look: the parts of a cluster that lie outside its directory are found by their symbolic links.
pub(in crate::health) fn of_cluster(directory: &Path, stores: &[PathBuf], log: &Path) -> Result<Vec<Place>> {
    let mut places = vec![look(Role::Data, directory)?];
    if let Some(target) = outside(directory, &directory.join("pg_wal")) {
        places.push(look(Role::Wal, &target)?);
    }
    let links = fs::read_dir(directory.join("pg_tblspc")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut tablespaces: Vec<PathBuf> = links.filter_map(|link| outside(directory, &link)).collect();
    tablespaces.sort();
    for target in tablespaces {
        places.push(look(Role::Tablespace, &target)?);
    }
    for store in stores {
        places.push(look(Role::Store, store)?);
    }
    places.push(look(Role::Log, log)?);
    Ok(places)
}

/// What a link in a data directory leads to, where that is outside it.
fn outside(directory: &Path, link: &Path) -> Option<PathBuf> {
    if !fs::symlink_metadata(link).is_ok_and(|metadata| metadata.is_symlink()) {
        return None;
    }
    // A link that leads nowhere is a place all the same: where it points to is where its files should be.
    let target = link.canonicalize().or_else(|_| fs::read_link(link)).ok()?;
    let target = if target.is_absolute() { target } else { link.parent()?.join(target) };
    (!target.starts_with(directory)).then_some(target)
}

fn look(role: Role, path: &Path) -> Result<Place> {
    let mount = mounts::mount_of(path)?;
    let disks = disks_below(&mount);
    Ok(Place { role, path: path.to_owned(), placement: placement::judge(&mount), space: Space::of(path)?, mount, disks })
}

/// The whole disks below a mount; see `sysfs(5)` and the kernel's `Documentation/ABI/stable/sysfs-block`. Empty where there
/// is no device or the kernel does not show it.
fn disks_below(mount: &Mount) -> BTreeSet<PathBuf> {
    let mut device = mount.device;
    // btrfs has devices of its own for its mounts; what lies below is its source.
    if device.0 == 0 && mount.source.starts_with("/dev/") {
        let Ok(metadata) = fs::metadata(&mount.source) else { return BTreeSet::new() };
        device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    }
    let mut disks = BTreeSet::new();
    if let Ok(node) = Path::new("/sys/dev/block").join(format!("{}:{}", device.0, device.1)).canonicalize() {
        add_disks(&node, 0, &mut disks);
    }
    disks
}

fn add_disks(node: &Path, depth: usize, disks: &mut BTreeSet<PathBuf>) {
    let whole = if node.join("partition").exists() { node.parent().unwrap_or(node) } else { node };
    // LVM, RAID and encryption list what they are made of.
    let made_of: Vec<PathBuf> =
        fs::read_dir(whole.join("slaves")).into_iter().flatten().flatten().filter_map(|entry| entry.path().canonicalize().ok()).collect();
    if made_of.is_empty() || depth > 8 {
        disks.insert(whole.to_owned());
    }
    if depth <= 8 {
        made_of.iter().for_each(|part| add_disks(part, depth + 1, disks));
    }
}

/// The folder that a store is, where it is one.
pub(in crate::health) fn absolute(folder: &Path) -> Result<PathBuf> {
    std::path::absolute(folder).map_err(|e| Error::file("find", folder, e))
}

#[cfg(test)]
pub(in crate::health) mod tests {
    use super::*;

    /// A place as the line of a mount table tells it, half full.
    pub(in crate::health) fn place(role: Role, path: &str, line: &str) -> Place {
        let mount = mounts::parse(line.as_bytes()).remove(0);
        let space = Space { total_bytes: 100 << 30, free_bytes: 50 << 30, total_inodes: Some(1_000_000), free_inodes: Some(900_000) };
        Place { role, path: path.into(), placement: placement::judge(&mount), mount, space, disks: BTreeSet::new() }
    }

    #[test]
    fn what_goes_with_one_device_is_known() {
        let sda1 = place(Role::Data, "/a", "1 1 8:1 / /a rw - ext4 /dev/sda1 rw");
        let again = place(Role::Store, "/b", "2 1 8:1 /sub /b rw - ext4 /dev/sda1 rw");
        let sdb1 = place(Role::Store, "/c", "3 1 8:17 / /c rw - ext4 /dev/sdb1 rw");
        assert!(sda1.shares_device_with(&again) && !sda1.shares_device_with(&sdb1));
        let partition = Place { disks: BTreeSet::from(["/sys/sda".into()]), ..sda1.clone() };
        let other_partition = Place { disks: BTreeSet::from(["/sys/sda".into()]), ..sdb1.clone() };
        assert!(partition.shares_device_with(&other_partition));
        let tank = place(Role::Data, "/t", "4 1 0:40 / /t rw - zfs tank/pgdata rw");
        let same_tank = place(Role::Store, "/u", "5 1 0:41 / /u rw - zfs tank/backups rw");
        let pond = place(Role::Store, "/v", "6 1 0:42 / /v rw - zfs pond/backups rw");
        assert!(tank.shares_device_with(&same_tank) && !tank.shares_device_with(&pond));
        let nfs = place(Role::Store, "/n", "7 1 0:50 / /n rw - nfs4 host:/export rw");
        assert!(!tank.shares_device_with(&nfs));
    }

    #[test]
    fn links_lead_to_the_places_outside() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().canonicalize().unwrap().join("data");
        fs::create_dir_all(directory.join("pg_tblspc")).unwrap();
        fs::create_dir(directory.join("inside")).unwrap();
        fs::create_dir(root.path().join("fast")).unwrap();
        for (target, link) in [("../fast", "pg_wal"), ("/proc", "pg_tblspc/16400"), ("../inside", "pg_tblspc/16401")] {
            std::os::unix::fs::symlink(target, directory.join(link)).unwrap();
        }
        let places = of_cluster(&directory, &["/dev/shm/x/y".into()], &directory.join("log")).unwrap();
        let seen: Vec<_> = places.iter().map(|p| (p.role.word(), p.path.file_name().unwrap().to_str().unwrap())).collect();
        assert_eq!(seen, [("data", "data"), ("WAL", "fast"), ("tablespace", "proc"), ("store", "y"), ("log", "log")]);
        assert_eq!(places[2].mount.fs_type, "proc");
        assert!(places[0].shares_device_with(&places[1]) && !places[0].shares_device_with(&places[2]));
    }
}
