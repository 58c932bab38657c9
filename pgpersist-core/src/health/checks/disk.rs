//! `disk`: is there room for the data, its WAL, and the backups; in bytes and in inodes, now and in the days to come?
//!
//! A server whose volume is full of WAL stops with a PANIC, and a file system that met an I/O error turns read-only: both are
//! failures here before they are one of the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::data_directory::ballast;
use crate::data_directory::own_folder::OwnFolder;
use crate::fs::space::Space;
use crate::health::checks::judgement::{Judgement, not_known};
use crate::health::checks::places::{self, Place, Role};
use crate::health::space::forecast::{Forecast, forecast};
use crate::health::space::history::SpaceHistory;
use crate::health::{Finding, HealthCheck, Status};
use crate::wording::{about, size};
use crate::workers;

/// The name of its finding.
pub const NAME: &str = "disk";

/// Below so many bytes a volume with data is full, whatever the percentage: four WAL segments of the usual size.
pub const FULL_BELOW_BYTES: u64 = 64 * 1024 * 1024;
/// Where parallel queries and sorts share memory (`dynamic_shared_memory_type = posix`). Containers get 64 MB by default.
const SHARED_MEMORY: &str = "/dev/shm";
/// With less than that left, the next parallel query may fail with "could not resize shared memory segment".
const SHARED_MEMORY_LOW_BYTES: u64 = 16 * 1024 * 1024;

/// What is further away is not told: by then all will be otherwise.
const TOLD_WITHIN: Duration = Duration::from_secs(366 * 86_400);

/// From when on a disk is too full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLimits {
    /// A warning, in percent of what may be used, inodes likewise: 85 by default, so that there is time to act.
    pub warn_percent: u8,
    /// A failure, in percent: 95 by default.
    pub fail_percent: u8,
    /// A warning, when it will be full within this time: 45 days by default.
    pub warn_full_in: Duration,
    /// A failure, when it will be full within this time: 3 days by default, a long weekend.
    pub fail_full_in: Duration,
}

impl Default for DiskLimits {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self { warn_percent: 85, fail_percent: 95, warn_full_in: days(45), fail_full_in: days(3) }
    }
}

/// What is known besides what is seen now.
#[derive(Debug, Clone, Default)]
struct Known {
    history: SpaceHistory,
    /// Seconds since 1970.
    now: i64,
    ballast_bytes: Option<u64>,
}

/// Asks the file systems below a cluster, its stores and its log.
#[derive(Debug, Clone)]
pub struct DiskCheck {
    directory: PathBuf,
    stores: Vec<PathBuf>,
    log_directory: PathBuf,
    limits: DiskLimits,
    own: OwnFolder,
    ballast_bytes: Option<u64>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl DiskCheck {
    /// A check of a data directory, of the stores that are folders, and of the folder of the server's log. What was seen of
    /// them earlier is found in the folder of our own files.
    pub fn new(
        directory: &Path,
        own: OwnFolder,
        stores: Vec<PathBuf>,
        log_directory: &Path,
        limits: DiskLimits,
        clock: Arc<dyn Clock>,
        deadline: Duration,
    ) -> Self {
        let (directory, log_directory) = (directory.to_owned(), log_directory.to_owned());
        Self { directory, stores, log_directory, limits, own, ballast_bytes: None, clock, deadline }
    }

    /// With ballast that should be there.
    #[must_use]
    pub fn with_ballast(self, bytes: Option<u64>) -> Self {
        Self { ballast_bytes: bytes, ..self }
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
            // What cannot be read is no more than a forecast that is missing.
            let history = SpaceHistory::read(&this.own).unwrap_or_default();
            let ballast_bytes = ballast::size_bytes(&this.own)?;
            Ok((places, shared_memory, Known { history, now: this.clock.now().unix_timestamp(), ballast_bytes }))
        });
        match seen.await {
            Ok((places, shared_memory, known)) => {
                let finding = judge(&places, shared_memory, &known, self.limits);
                judge_ballast(finding, self.ballast_bytes, known.ballast_bytes)
            }
            Err(error) => not_known(NAME, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(places: &[Place], shared_memory: Option<Space>, known: &Known, limits: DiskLimits) -> Finding {
    let expected = |place: &Place| forecast(known.history.of(place), known.now, place.space.free_bytes);
    let mut judgement = Judgement::default();
    let mut seen: Vec<&Place> = Vec::new();
    for place in places {
        // One file system is told once, by the most important thing on it.
        if seen.iter().any(|other| other.mount.device == place.mount.device) {
            continue;
        }
        seen.push(place);
        judge_place(place, expected(place), limits, &mut judgement);
    }
    if let Some(space) = shared_memory.filter(|space| space.total_bytes > 0 && space.free_bytes < SHARED_MEMORY_LOW_BYTES) {
        judgement.warn(
            format!("{SHARED_MEMORY}: {} free of {}", size(space.free_bytes), size(space.total_bytes)),
            "give the container more shared memory (`--shm-size=1g`; in Kubernetes an emptyDir with `medium: Memory` at /dev/shm), or lower max_parallel_workers_per_gather",
        );
    }
    let all_well = || {
        let data = places.iter().find(|place| place.role == Role::Data);
        data.map_or_else(String::new, |place| room(&place.space, expected(place)))
    };
    let finding = judgement.finding(NAME, all_well);
    let finding = match places.iter().find(|place| place.role == Role::Data) {
        Some(data) => finding.observing("free_bytes", data.space.free_bytes).observing("total_bytes", data.space.total_bytes),
        None => finding,
    };
    let finding = finding.observing("places", places.iter().map(|place| observed(place, expected(place))).collect::<Vec<_>>());
    match shared_memory {
        Some(space) => {
            finding.observing("shared_memory_free_bytes", space.free_bytes).observing("shared_memory_total_bytes", space.total_bytes)
        }
        None => finding,
    }
}

fn judge_place(place: &Place, expected: Option<Forecast>, limits: DiskLimits, judgement: &mut Judgement) {
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
    let soon = expected.and_then(|expected| expected.full_in).and_then(|full_in| match full_in {
        soon if soon <= limits.fail_full_in => Some(Status::Fail),
        soon if soon <= limits.warn_full_in => Some(Status::Warn),
        _ => None,
    });
    if let Some(status) = full.max(soon).max(too_full(space.used_fraction())) {
        let remedy = match place.role {
            Role::Store => "drop old dumps with `pgpersist prune`, or enlarge the store's volume",
            _ => "enlarge the volume, or remove what is not needed on it; never remove anything in the data directory by hand",
        };
        judgement.add(status, format!("{whose}{}", room(space, expected)), remedy);
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

fn judge_ballast(finding: Finding, wanted: Option<u64>, there: Option<u64>) -> Finding {
    let finding = finding.observing("ballast_bytes", there);
    let (Some(wanted), None) = (wanted, there) else { return finding };
    let what = format!("the ballast of {} is not there, or was given back", size(wanted));
    let remedy = "make room: `pgpersist run` takes it in again when four times as much is free";
    let joined = |one: &str, other: &str| if one.is_empty() { other.to_owned() } else { format!("{one}; {other}") };
    Finding {
        status: finding.status.max(Status::Warn),
        summary: joined(&finding.summary, &what),
        remedy: Some(joined(finding.remedy.as_deref().unwrap_or_default(), remedy)),
        ..finding
    }
}

fn room(space: &Space, expected: Option<Forecast>) -> String {
    let room = format!("{} free of {}", size(space.free_bytes), size(space.total_bytes));
    match expected.and_then(|expected| expected.full_in).filter(|full_in| *full_in <= TOLD_WITHIN && space.free_bytes > 0) {
        Some(full_in) => format!("{room}; full in {}", about(full_in)),
        None => room,
    }
}

fn observed(place: &Place, expected: Option<Forecast>) -> Value {
    json!({
        "place": place.role.word().to_lowercase(),
        "path": place.path.to_string_lossy(),
        "mount_point": place.placement.mount_point,
        "free_bytes": place.space.free_bytes,
        "total_bytes": place.space.total_bytes,
        "free_inodes": place.space.free_inodes,
        "total_inodes": place.space.total_inodes,
        "read_only": place.mount.read_only,
        "growth_bytes_per_day": expected.map(|expected| expected.growth_bytes_per_day),
        "full_in_s": expected.and_then(|expected| expected.full_in).map(|full_in| full_in.as_secs()),
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
            let finding = judge(&[data(space(free, total))], None, &Known::default(), DiskLimits::default());
            assert_eq!(finding.status, expected, "{finding:?}");
            assert_eq!(finding.summary, format!("{} free of {}", size(free), size(total)));
            assert_eq!(finding.observed["free_bytes"], free);
        }
        let strict = DiskLimits { warn_percent: 10, fail_percent: 15, ..DiskLimits::default() };
        assert_eq!(judge(&[data(space(8 * GIB, 10 * GIB))], None, &Known::default(), strict).status, Status::Fail);
    }

    #[test]
    fn inodes_run_out_too() {
        let few = Space { total_inodes: Some(1000), free_inodes: Some(20), ..space(8 * GIB, 10 * GIB) };
        let finding = judge(&[data(few)], None, &Known::default(), DiskLimits::default());
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Fail, "20 of 1000 inodes free"));
    }

    #[test]
    fn a_read_only_volume_fails() {
        let place = place(Role::Data, "/app/pgdata", "1 1 8:1 / /app ro - ext4 /dev/sda1 rw");
        let finding = judge(&[place], None, &Known::default(), DiskLimits::default());
        assert!(finding.status == Status::Fail && finding.summary.contains("read-only"), "{finding:?}");
    }

    #[test]
    fn a_full_store_is_named_and_one_file_system_told_once() {
        let store = |line| Place { space: space(0, GIB), ..place(Role::Store, "/backups", line) };
        let finding = judge(
            &[data(space(8 * GIB, 10 * GIB)), store("2 1 8:17 / /backups rw - ext4 /dev/sdb1 rw")],
            None,
            &Known::default(),
            DiskLimits::default(),
        );
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Fail, "store in /backups: 0 bytes free of 1.0 GB"));
        let finding = judge(&[data(space(0, GIB)), store(DISK)], None, &Known::default(), DiskLimits::default());
        assert_eq!(finding.summary, "0 bytes free of 1.0 GB");
    }

    #[test]
    fn little_shared_memory_is_a_warning() {
        let finding = judge(&[data(space(8 * GIB, 10 * GIB))], Some(space(1 << 20, 64 << 20)), &Known::default(), DiskLimits::default());
        assert!(finding.status == Status::Warn && finding.remedy.unwrap().contains("--shm-size"));
    }

    #[test]
    fn a_place_that_will_be_full_is_told_in_time() {
        const DAY: i64 = 86_400;
        let data = |free| data(space(free * GIB, 100 * GIB));
        let mut known = Known { now: 10 * DAY, ..Known::default() };
        for day in 0..=10 {
            known.history.add(&[data(90 - day as u64)], day * DAY);
        }
        let seen = |free| {
            let finding = judge(&[data(free)], None, &known, DiskLimits::default());
            (finding.status, finding.summary, finding.observed["places"][0]["full_in_s"].as_i64())
        };
        assert_eq!(seen(80), (Status::Pass, "80 GB free of 100 GB; full in about 80 days".into(), Some(80 * DAY)));
        assert_eq!(seen(41), (Status::Warn, "41 GB free of 100 GB; full in about 41 days".into(), Some(41 * DAY)));
        let (status, summary, _) = seen(2);
        assert_eq!((status, summary.as_str()), (Status::Fail, "2.0 GB free of 100 GB; full in about 2 days"));
        assert_eq!(seen(0).1, "0 bytes free of 100 GB");
    }

    #[test]
    fn ballast_that_was_given_back_is_told() {
        let well = || judge(&[data(space(8 * GIB, 10 * GIB))], None, &Known::default(), DiskLimits::default());
        assert_eq!(judge_ballast(well(), Some(GIB), Some(GIB)).status, Status::Pass);
        assert_eq!(judge_ballast(well(), None, None).status, Status::Pass);
        let gone = judge_ballast(well(), Some(GIB), None);
        assert_eq!((gone.status, gone.remedy.is_some()), (Status::Warn, true));
        assert!(gone.summary.ends_with("; the ballast of 1.0 GB is not there, or was given back"), "{gone:?}");
    }
}
