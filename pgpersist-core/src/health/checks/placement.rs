//! `placement`: does everything that must survive the pod lie where it survives, and the backups elsewhere than the data?
//!
//! A store on the data's own device counts as none: what takes the one takes the other. One that took dumps and holds nothing
//! of them any more is most often a volume that is not mounted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::data_directory::placement::{self, SentinelReading, Verdict};
use crate::error::{Error, ErrorKind};
use crate::fs::boot;
use crate::health::checks::data_directory::in_words;
use crate::health::checks::judgement::{Judgement, not_known};
use crate::health::checks::places::{self, Place, Role};
use crate::health::{Finding, HealthCheck};
use crate::logical::known_store::KnownStores;
use crate::server::cluster::Cluster;
use crate::store::open;
use crate::store::url::StoreUrl;
use crate::workers;

/// The name of its finding.
pub const NAME: &str = "placement";

/// Looks at the mount table, and at what the cluster remembers of earlier boots and of its stores.
#[derive(Debug, Clone)]
pub struct PlacementCheck {
    directory: PathBuf,
    stores: Vec<PathBuf>,
    log_directory: PathBuf,
    memory: Option<Memory>,
    deadline: Duration,
}

/// Whose memory is asked, and about which stores.
#[derive(Debug, Clone)]
struct Memory {
    cluster: Cluster,
    name: String,
    stores: Vec<StoreUrl>,
}

impl Memory {
    fn sentinel(&self) -> Option<SentinelReading> {
        let folder = self.cluster.directory().own_folder().path();
        // Evidence that cannot be read is none; the mount table decides.
        boot::boot_id().and_then(|id| placement::remembered(folder, &id)).ok().flatten()
    }

    /// The refusals of the stores that lost what they had. What else a store says is told by the check of its dumps.
    async fn lost_stores(&self) -> Vec<Error> {
        let Ok(Some(known)) = KnownStores::of(&self.cluster, &self.name).await else { return Vec::new() };
        let mut lost = Vec::new();
        for url in &self.stores {
            let url = url.clone();
            let Ok(store) = workers::run(move || open::open(&url)).await else { continue };
            lost.extend(known.check(store.as_ref()).await.err().filter(|error| error.kind() == ErrorKind::Unsafe));
        }
        lost
    }
}

impl PlacementCheck {
    /// A check of a data directory, of the stores that are folders, and of the folder of the server's log.
    pub fn new(directory: &Path, stores: Vec<PathBuf>, log_directory: &Path, deadline: Duration) -> Self {
        Self { directory: directory.to_owned(), stores, log_directory: log_directory.to_owned(), memory: None, deadline }
    }

    /// The same, that also asks what the cluster remembers: in how many boots its volume was seen, and whether these stores
    /// still are those that took its dumps under this name.
    #[must_use]
    pub fn remembering(self, cluster: Cluster, name: &str, stores: Vec<StoreUrl>) -> Self {
        Self { memory: Some(Memory { cluster, name: name.to_owned(), stores }), ..self }
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
            let places = places::of_cluster(&this.directory, &this.stores, &this.log_directory)?;
            Ok(Seen { places, has_configuration, sentinel: this.memory.and_then(|memory| memory.sentinel()), lost: Vec::new() })
        });
        match seen.await {
            Ok(mut seen) => {
                if let Some(memory) = &self.memory {
                    seen.lost = memory.lost_stores().await;
                }
                judge(&seen)
            }
            Err(error) => not_known(NAME, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

#[derive(Debug)]
struct Seen {
    places: Vec<Place>,
    has_configuration: bool,
    sentinel: Option<SentinelReading>,
    lost: Vec<Error>,
}

fn judge(seen: &Seen) -> Finding {
    let Seen { places, has_configuration, sentinel, lost } = seen;
    let mut judgement = Judgement::default();
    for error in lost {
        judgement.fail(error.to_string(), error.remedy().unwrap_or_default());
    }
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
    if !*has_configuration {
        judgement.warn(
            "postgresql.conf lies outside the data directory, and may not survive with it",
            "`pgpersist migrate` brings the configuration onto the volume",
        );
    }
    let finding = judgement.finding(NAME, || {
        let survived = sentinel.as_ref().and_then(SentinelReading::evidence).map_or_else(String::new, |seen| format!(" ({seen})"));
        let mut told = vec![data.map_or_else(String::new, |place| format!("data {}{survived}", in_words(&place.placement)))];
        let others = places.iter().filter(|place| matches!(place.role, Role::Wal | Role::Tablespace | Role::Store));
        told.extend(others.map(|place| format!("{} {}", place.role.word(), in_words(&place.placement))));
        told.dedup();
        told.join("; ")
    });
    let seen: Vec<Value> = places.iter().map(|place| observed(place, data)).collect();
    let finding = finding.observing("places", seen);
    match sentinel {
        Some(reading) => finding.observing("sentinel", json!(reading)),
        None => finding,
    }
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
    use time::macros::datetime;

    fn judge(places: &[Place], has_configuration: bool) -> Finding {
        super::judge(&Seen { places: places.to_vec(), has_configuration, sentinel: None, lost: Vec::new() })
    }

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
    fn a_volume_that_was_seen_in_an_earlier_boot_is_told_with_its_evidence() {
        let sentinel =
            |boots| Some(SentinelReading { boots, since: datetime!(2026-01-14 10:00 UTC), is_new_boot: false, was_damaged: false });
        let told = |boots| {
            let places = vec![place(Role::Data, "/app", DISK), place(Role::Store, "/backups", OTHER_DISK)];
            super::judge(&Seen { places, has_configuration: true, sentinel: sentinel(boots), lost: Vec::new() })
        };
        let finding = told(3);
        assert_eq!(
            finding.summary,
            "data persistent: ext4 on /dev/sda1 (files here were seen in 3 boots of the machine, since 2026-01-14); store persistent: ext4 on /dev/sdb1"
        );
        assert_eq!((finding.status, &finding.observed["sentinel"]["boots"]), (Status::Pass, &3.into()));
        // One boot proves nothing.
        assert!(!told(1).summary.contains("boots"));
    }

    #[test]
    fn a_store_that_lost_what_it_had_fails() {
        let lost = vec![Error::refused("the store /backups took dumps", "mount it")];
        let seen = Seen { places: vec![place(Role::Data, "/app", DISK)], has_configuration: true, sentinel: None, lost };
        let finding = super::judge(&seen);
        assert_eq!((finding.status, finding.remedy.as_deref()), (Status::Fail, Some("mount it")));
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
