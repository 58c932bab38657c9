//! `disk`: is there room for the data, its WAL, and the backups; in bytes and in inodes?
//!
//! A server whose volume is full of WAL stops with a PANIC, and a file system that met an I/O error turns read-only: both are
//! failures here before they are one of the server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::fs::space::Space;
use crate::health::checks::judgement::{Judgement, not_known};
use crate::health::checks::places::{self, Place, Role};
use crate::health::wording::size;
use crate::health::{Finding, HealthCheck, Status};
use crate::workers;

/// The name of its finding.
pub const NAME: &str = "disk";

/// Below so many bytes a volume with data is full, whatever the percentage: four WAL segments of the usual size.
pub const FULL_BELOW_BYTES: u64 = 64 * 1024 * 1024;
/// Where parallel queries and sorts share memory (`dynamic_shared_memory_type = posix`). Containers get 64 MB by default.
const SHARED_MEMORY: &str = "/dev/shm";
/// With less than that left, the next parallel query may fail with "could not resize shared memory segment".
const SHARED_MEMORY_LOW_BYTES: u64 = 16 * 1024 * 1024;

/// From when on a disk is too full, in percent of what may be used; inodes likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLimits {
    /// A warning: 85 by default, so that there is time to act.
    pub warn_percent: u8,
    /// A failure: 95 by default.
    pub fail_percent: u8,
}

impl Default for DiskLimits {
    fn default() -> Self {
        Self { warn_percent: 85, fail_percent: 95 }
    }
}

/// Asks the file systems below a cluster, its stores and its log.
#[derive(Debug, Clone)]
pub struct DiskCheck {
    directory: PathBuf,
    stores: Vec<PathBuf>,
    log_directory: PathBuf,
    limits: DiskLimits,
    deadline: Duration,
}

impl DiskCheck {
    /// A check of a data directory, of the stores that are folders, and of the folder of the server's log.
    pub fn new(directory: &Path, stores: Vec<PathBuf>, log_directory: &Path, limits: DiskLimits, deadline: Duration) -> Self {
        Self { directory: directory.to_owned(), stores, log_directory: log_directory.to_owned(), limits, deadline }
    }
}

#[async_trait]
impl HealthCheck for DiskCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        let this = self.clone();
        let seen = workers::run(move || {
            let places = places::of_cluster(&this.directory, &this.stores, &this.log_directory)?;
            // Not every machine has it.
            let shared_memory = Path::new(SHARED_MEMORY).is_dir().then(|| Space::of(Path::new(SHARED_MEMORY)).ok()).flatten();
            Ok((places, shared_memory))
        });
        match seen.await {
            Ok((places, shared_memory)) => judge(&places, shared_memory, self.limits),
            Err(error) => not_known(NAME, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(places: &[Place], shared_memory: Option<Space>, limits: DiskLimits) -> Finding {
    let mut judgement = Judgement::default();
    let mut seen: Vec<&Place> = Vec::new();
    for place in places {
        // One file system is told once, by the most important thing on it.
        if seen.iter().any(|other| other.mount.device == place.mount.device) {
            continue;
        }
        seen.push(place);
        judge_place(place, limits, &mut judgement);
    }
    if let Some(space) = shared_memory.filter(|space| space.total_bytes > 0 && space.free_bytes < SHARED_MEMORY_LOW_BYTES) {
        judgement.warn(
            format!("{SHARED_MEMORY}: {} free of {}", size(space.free_bytes), size(space.total_bytes)),
            "give the container more shared memory (`--shm-size=1g`; in Kubernetes an emptyDir with `medium: Memory` at /dev/shm), or lower max_parallel_workers_per_gather",
        );
    }
    let finding = judgement
        .finding(NAME, || places.iter().find(|place| place.role == Role::Data).map_or_else(String::new, |place| room(&place.space)));
    let finding = match places.iter().find(|place| place.role == Role::Data) {
        Some(data) => finding.observing("free_bytes", data.space.free_bytes).observing("total_bytes", data.space.total_bytes),
        None => finding,
    };
    let finding = finding.observing("places", places.iter().map(observed).collect::<Vec<_>>());
    match shared_memory {
        Some(space) => {
            finding.observing("shared_memory_free_bytes", space.free_bytes).observing("shared_memory_total_bytes", space.total_bytes)
        }
        None => finding,
    }
}

fn judge_place(place: &Place, limits: DiskLimits, judgement: &mut Judgement) {
    let space = &place.space;
    // The data's own file system needs no name.
    let whose = if place.role == Role::Data { String::new() } else { format!("{} in {}: ", place.role.word(), place.path.display()) };
    let too_full = |used_fraction: f64| match used_fraction * 100.0 {
        percent if percent >= f64::from(limits.fail_percent) => Some(Status::Fail),
        percent if percent >= f64::from(limits.warn_percent) => Some(Status::Warn),
        _ => None,
    };
    if place.mount.read_only {
        judgement.fail(
            format!("{whose}{} is mounted read-only", place.placement.mount_point),
            "look in `dmesg` why it became read-only, check the volume, and remount it",
        );
    }
    let full = (place.role.is_part_of_cluster() && space.free_bytes < FULL_BELOW_BYTES).then_some(Status::Fail);
    if let Some(status) = full.max(too_full(space.used_fraction())) {
        let remedy = match place.role {
            Role::Store => "drop old dumps with `pgpersist prune`, or enlarge the store's volume",
            _ => "enlarge the volume, or remove what is not needed on it; never remove anything in the data directory by hand",
        };
        judgement.add(status, format!("{whose}{}", room(space)), remedy);
    }
    if let (Some(total), Some(free)) = (space.total_inodes, space.free_inodes)
        && total > 0
        && let Some(status) = too_full(1.0 - free.min(total) as f64 / total as f64)
    {
        judgement.add(
            status,
            format!("{whose}{free} of {total} inodes free"),
            "remove small files on this file system, or make it anew with more inodes",
        );
    }
}

fn room(space: &Space) -> String {
    format!("{} free of {}", size(space.free_bytes), size(space.total_bytes))
}

fn observed(place: &Place) -> Value {
    json!({
        "place": place.role.word().to_lowercase(),
        "path": place.path.to_string_lossy(),
        "mount_point": place.placement.mount_point,
        "free_bytes": place.space.free_bytes,
        "total_bytes": place.space.total_bytes,
        "free_inodes": place.space.free_inodes,
        "total_inodes": place.space.total_inodes,
        "read_only": place.mount.read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::checks::places::tests::place;

    const GIB: u64 = 1 << 30;
    const DISK: &str = "1 1 8:1 / /app rw - ext4 /dev/sda1 rw";

    fn space(free_bytes: u64, total_bytes: u64) -> Space {
        Space { total_bytes, free_bytes, total_inodes: None, free_inodes: None }
    }

    fn data(space: Space) -> Place {
        Place { space, ..place(Role::Data, "/app/pgdata", DISK) }
    }

    #[test]
    fn fuller_is_worse() {
        for (free, total, expected) in [
            (8 * GIB, 10 * GIB, Status::Pass),
            (GIB, 10 * GIB, Status::Warn),
            (GIB / 4, 10 * GIB, Status::Fail),
            // Half free, and still no room for four WAL segments.
            (FULL_BELOW_BYTES - 1, 2 * FULL_BELOW_BYTES, Status::Fail),
            (0, 0, Status::Fail),
        ] {
            let finding = judge(&[data(space(free, total))], None, DiskLimits::default());
            assert_eq!(finding.status, expected, "{finding:?}");
            assert_eq!(finding.summary, format!("{} free of {}", size(free), size(total)));
            assert_eq!(finding.observed["free_bytes"], free);
        }
        let strict = DiskLimits { warn_percent: 10, fail_percent: 15 };
        assert_eq!(judge(&[data(space(8 * GIB, 10 * GIB))], None, strict).status, Status::Fail);
    }

    #[test]
    fn inodes_run_out_too() {
        let few = Space { total_inodes: Some(1000), free_inodes: Some(20), ..space(8 * GIB, 10 * GIB) };
        let finding = judge(&[data(few)], None, DiskLimits::default());
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Fail, "20 of 1000 inodes free"));
    }

    #[test]
    fn a_read_only_volume_fails() {
        let place = place(Role::Data, "/app/pgdata", "1 1 8:1 / /app ro - ext4 /dev/sda1 rw");
        let finding = judge(&[place], None, DiskLimits::default());
        assert!(finding.status == Status::Fail && finding.summary.contains("read-only"), "{finding:?}");
    }

    #[test]
    fn a_full_store_is_named_and_one_file_system_told_once() {
        let store = |line| Place { space: space(0, GIB), ..place(Role::Store, "/backups", line) };
        let finding =
            judge(&[data(space(8 * GIB, 10 * GIB)), store("2 1 8:17 / /backups rw - ext4 /dev/sdb1 rw")], None, DiskLimits::default());
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Fail, "store in /backups: 0 bytes free of 1.0 GB"));
        let finding = judge(&[data(space(0, GIB)), store(DISK)], None, DiskLimits::default());
        assert_eq!(finding.summary, "0 bytes free of 1.0 GB");
    }

    #[test]
    fn little_shared_memory_is_a_warning() {
        let finding = judge(&[data(space(8 * GIB, 10 * GIB))], Some(space(1 << 20, 64 << 20)), DiskLimits::default());
        assert!(finding.status == Status::Warn && finding.remedy.unwrap().contains("--shm-size"));
    }
}
