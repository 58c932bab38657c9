//! `placement`: does everything that must survive the pod lie where it survives, and the backups elsewhere than the data?
//!
//! A store on the data's own device counts as none: what takes the one takes the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::data_directory::placement::Verdict;
use crate::health::checks::data_directory::in_words;
use crate::health::checks::judgement::{Judgement, not_known};
use crate::health::checks::places::{self, Place, Role};
use crate::health::{Finding, HealthCheck};
use crate::workers;

/// The name of its finding.
pub const NAME: &str = "placement";

/// Looks at the mount table.
#[derive(Debug, Clone)]
pub struct PlacementCheck {
    directory: PathBuf,
    stores: Vec<PathBuf>,
    log_directory: PathBuf,
    deadline: Duration,
}

impl PlacementCheck {
    /// A check of a data directory, of the stores that are folders, and of the folder of the server's log.
    pub fn new(directory: &Path, stores: Vec<PathBuf>, log_directory: &Path, deadline: Duration) -> Self {
        Self { directory: directory.to_owned(), stores, log_directory: log_directory.to_owned(), deadline }
    }
}

#[async_trait]
impl HealthCheck for PlacementCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        let this = self.clone();
        let seen = workers::run(move || {
            let is_cluster = this.directory.join("PG_VERSION").exists();
            let has_configuration = !is_cluster || this.directory.join("postgresql.conf").exists();
            Ok((places::of_cluster(&this.directory, &this.stores, &this.log_directory)?, has_configuration))
        });
        match seen.await {
            Ok((places, has_configuration)) => judge(&places, has_configuration),
            Err(error) => not_known(NAME, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(places: &[Place], has_configuration: bool) -> Finding {
    let mut judgement = Judgement::default();
    let data = places.iter().find(|place| place.role == Role::Data);
    for place in places {
        let (word, path) = (place.role.word(), place.path.display());
        let because = place.placement.evidence.get(1).map_or("", String::as_str);
        match (&place.role, place.placement.verdict) {
            (role, Verdict::Ephemeral) if role.is_part_of_cluster() => judgement.fail(
                format!("the {word} in {path} will not survive: {because}"),
                "move the cluster to a persistent volume with `pgpersist migrate --from … --to …`, and dump it until then",
            ),
            (role, Verdict::Unknown) if role.is_part_of_cluster() => judgement.warn(
                format!("whether the {word} in {path} survives is not known: {because}"),
                "make sure that it lies on a volume of its own that outlives the container",
            ),
            (Role::Store, Verdict::Ephemeral) => judgement.warn(
                format!("the store {path} will not survive, so it counts as none: {because}"),
                "put the store on a persistent volume",
            ),
            (Role::Log, Verdict::Ephemeral) => judgement.warn(
                format!("the log in {path} goes with the container: {because}"),
                "set `[log] directory` to a folder on a persistent volume",
            ),
            _ => {}
        }
        if place.role == Role::Store
            && place.placement.verdict != Verdict::Ephemeral
            && data.is_some_and(|data| data.shares_device_with(place))
        {
            judgement.warn(
                format!("the store {path} is on the same device as the data, so it counts as none: what takes the one takes the other"),
                "add a store on another volume or machine",
            );
        }
    }
    if !has_configuration {
        judgement.warn(
            "postgresql.conf lies outside the data directory, and may not survive with it",
            "`pgpersist migrate` brings the configuration onto the volume",
        );
    }
    let finding = judgement.finding(NAME, || {
        let mut told = vec![data.map_or_else(String::new, |place| format!("data {}", in_words(&place.placement)))];
        let others = places.iter().filter(|place| matches!(place.role, Role::Wal | Role::Tablespace | Role::Store));
        told.extend(others.map(|place| format!("{} {}", place.role.word(), in_words(&place.placement))));
        told.dedup();
        told.join("; ")
    });
    let seen: Vec<Value> = places.iter().map(|place| observed(place, data)).collect();
    finding.observing("places", seen)
}

fn observed(place: &Place, data: Option<&Place>) -> Value {
    json!({
        "place": place.role.word().to_lowercase(),
        "path": place.path.to_string_lossy(),
        "verdict": place.placement.verdict,
        "mount_point": place.placement.mount_point,
        "fs_type": place.placement.fs_type,
        "source": place.placement.source,
        "evidence": place.placement.evidence,
        "same_device_as_data": data.is_some_and(|data| data.shares_device_with(place)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;
    use crate::health::checks::places::tests::place;

    const DISK: &str = "1 1 8:1 / /app rw - ext4 /dev/sda1 rw";
    const OTHER_DISK: &str = "2 1 8:17 / /backups rw - ext4 /dev/sdb1 rw";
    const OVERLAY: &str = "3 1 0:30 / / rw - overlay overlay rw";
    const MEMORY: &str = "4 1 0:31 / /run rw - tmpfs tmpfs rw";

    #[test]
    fn the_data_on_a_volume_and_the_backups_on_another_is_well() {
        let finding =
            judge(&[place(Role::Data, "/app", DISK), place(Role::Store, "/backups", OTHER_DISK), place(Role::Log, "/app/log", DISK)], true);
        assert_eq!(
            (finding.status, finding.summary.as_str()),
            (Status::Pass, "data persistent: ext4 on /dev/sda1; store persistent: ext4 on /dev/sdb1")
        );
    }

    #[test]
    fn a_container_layer_fails_also_for_wal_and_tablespaces() {
        for role in [Role::Data, Role::Wal, Role::Tablespace] {
            let finding = judge(&[place(role, "/var/lib/postgresql", OVERLAY)], true);
            assert_eq!(finding.status, Status::Fail);
            assert!(finding.summary.contains("will not survive") && finding.remedy.as_deref().unwrap().contains("pgpersist migrate"));
        }
    }

    #[test]
    fn a_store_that_is_lost_with_the_data_counts_as_none() {
        let finding = judge(&[place(Role::Data, "/app", DISK), place(Role::Store, "/app/backups", DISK)], true);
        assert_eq!(finding.status, Status::Warn);
        assert!(finding.summary.contains("counts as none"), "{finding:?}");
        let finding = judge(&[place(Role::Data, "/app", DISK), place(Role::Store, "/run/backups", MEMORY)], true);
        assert!(finding.status == Status::Warn && finding.summary.contains("counts as none"), "{finding:?}");
    }

    #[test]
    fn what_is_not_known_a_log_that_goes_and_a_configuration_elsewhere_are_warnings() {
        let odd = "5 1 0:60 / /odd rw - fuse.something what rw";
        for (places, has_configuration) in [
            (vec![place(Role::Data, "/odd", odd)], true),
            (vec![place(Role::Data, "/app", DISK), place(Role::Log, "/run/log", MEMORY)], true),
            (vec![place(Role::Data, "/app", DISK)], false),
        ] {
            let finding = judge(&places, has_configuration);
            assert!(finding.status == Status::Warn && finding.remedy.is_some(), "{finding:?}");
        }
    }
}
