//! [`RestorePlan`]: what a restore will do, decided from what was seen before a byte is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data_directory::mixed::DELTA;
use crate::data_directory::state::{MIGRATE, State, foreign};
use crate::error::{Error, Result};
use crate::restore::damage::Damage;
use crate::restore::delta::existing::Existing;
use crate::restore::delta::plan::DeltaPlan;
use crate::restore::ground::{Ground, Location, Spot};
use crate::restore::survey::{Room, Survey};
use crate::restore::tablespaces::PlacedTablespace;
use crate::wording::size;

/// Room beside the files: the server's first segment of its log, and air.
const SPARE_BYTES: u64 = 32 << 20;
/// Our own files, and air.
const SPARE_INODES: u64 = 64;

/// What a restore will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestorePlan {
    /// The steps, for people, one a line.
    #[serde(rename = "plan")]
    pub steps: Vec<String>,
    /// The backup.
    pub name: String,
    /// Where it will be.
    pub data_directory: PathBuf,
    /// How many files are written.
    pub files: u64,
    /// How many bytes are written, the holes of files not among them.
    pub bytes: u64,
    /// How many bytes are read from the store, at most.
    pub stored_bytes: u64,
    /// Where each tablespace was and will be.
    pub tablespaces: Vec<PlacedTablespace>,
    /// The room on each file system that is written to.
    pub space: Vec<SpaceNeed>,
    /// Where the cluster is kept that is in its place now.
    pub kept_aside: Option<PathBuf>,
    /// How long it takes, by the speed of the last restore here; nothing is said where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_s: Option<f64>,
    /// What a machine must have to run it.
    pub requires: Requirements,
    /// What no backup holds: what will be lost, and what must be rebuilt.
    pub rebuild: Vec<String>,
    /// What becomes of the cluster that is there, where its files are made those of the backup.
    #[serde(flatten)]
    pub delta: Option<DeltaPlan>,
    /// What of the backup cannot be had any more, where the rest is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// What must be confirmed, where something must.
    pub consent_to: Option<String>,
    /// What people should know.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// The room that is needed on a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpaceNeed {
    /// A place on it.
    pub path: PathBuf,
    /// What is needed.
    pub needed_bytes: u64,
    /// What is free.
    pub free_bytes: u64,
}

/// What a machine must have to run a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requirements {
    /// PostgreSQL of this major version.
    pub major: u32,
    /// The version that it ran with.
    pub server_version: String,
    /// Settings that must not be lower than these while it recovers as a hot standby, which it does unless `hot_standby` is off.
    pub at_least: BTreeMap<&'static str, u32>,
    /// Other settings of its configuration that not every machine can follow.
    pub settings: BTreeMap<String, String>,
}

impl RestorePlan {
    /// Decides. `in_place` says that a cluster that is there may be replaced.
    ///
    /// # Errors
    /// `Unsafe` when a place is occupied, by somebody else's files above all; `Unavailable` when there is not enough room.
    pub(crate) fn decide(
        survey: &Survey,
        ground: &Ground,
        tablespaces: Vec<PlacedTablespace>,
        data_directory: &Path,
        in_place: bool,
    ) -> Result<Self> {
        let replaces = may_take(&ground.state, data_directory, in_place)?;
        if replaces {
            refuse_another_cluster(survey, ground, data_directory)?;
        }
        for (tablespace, location) in tablespaces.iter().zip(&ground.tablespaces) {
            refuse_occupied(tablespace, location, data_directory)?;
        }
        let space = room(survey, ground, &tablespaces)?;
        let manifest = &survey.manifest;
        let bytes = survey.bytes();
        let mut plan = Self {
            steps: Vec::new(),
            name: survey.backup.to_string(),
            data_directory: data_directory.to_owned(),
            files: manifest.sizes.files,
            bytes,
            stored_bytes: manifest.sizes.stored_bytes,
            tablespaces,
            space,
            kept_aside: replaces.then(|| ground.aside.clone()),
            estimated_s: ground.speed.map(|speed| bytes as f64 / speed),
            requires: Requirements::of(survey),
            rebuild: rebuild(survey),
            delta: None,
            damage: survey.damage.clone(),
            consent_to: consent_to(survey, data_directory, replaces),
            warnings: warnings(survey, ground, replaces),
        };
        plan.steps = plan.tell(survey);
        Ok(plan)
    }

    /// Decides for a stopped cluster that is there, and whose files are kept where they are as they should be.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub(crate) fn of_delta(
        survey: &Survey,
        ground: &Ground,
        tablespaces: Vec<PlacedTablespace>,
        data_directory: &Path,
        (existing, delta): (&Existing, DeltaPlan),
    ) -> Result<Self> {
        refuse_another_cluster(survey, ground, data_directory)?;
        let needed = Survey { data_directory: existing.data_directory, tablespaces: existing.tablespaces.clone(), ..survey.clone() };
        let space = room(&needed, ground, &tablespaces)?;
        let mut plan = Self {
            steps: Vec::new(),
            name: survey.backup.to_string(),
            data_directory: data_directory.to_owned(),
            files: survey.manifest.sizes.files,
            bytes: survey.bytes(),
            stored_bytes: survey.manifest.sizes.stored_bytes,
            tablespaces,
            space,
            kept_aside: Some(ground.aside.clone()),
            estimated_s: None,
            requires: Requirements::of(survey),
            rebuild: rebuild(survey),
            delta: Some(delta),
            damage: None,
            consent_to: Some(format!("making the cluster in {} that of the backup", data_directory.display())),
            warnings: warnings(survey, ground, true),
        };
        plan.steps = plan.tell(survey);
        Ok(plan)
    }

    /// Asks for the consent that is needed.
    ///
    /// # Errors
    /// `Unsafe` with the steps, where there is none.
    pub fn ask(&self, consent: bool) -> Result<()> {
        match &self.consent_to {
            Some(action) if !consent => Err(Error::ConsentNeeded { action: action.clone(), plan: self.steps.clone() }),
            _ => Ok(()),
        }
    }

    pub(crate) fn tell(&self, survey: &Survey) -> Vec<String> {
        let place = self.data_directory.display();
        let files =
            format!("{} files ({}, of which {} at most are read from the store)", self.files, size(self.bytes), size(self.stored_bytes));
        let mut steps = vec![format!("restore {} to {place}: {files}, each held against its hash", self.name)];
        for tablespace in &self.tablespaces {
            let from = if tablespace.from == tablespace.to {
                "where it was".to_owned()
            } else {
                format!("instead of {}", tablespace.from.display())
            };
            steps.push(format!("make the tablespace {} in {}, {from}", tablespace.name, tablespace.to.display()));
        }
        if !survey.manifest.outside.is_empty() {
            let lay: Vec<&str> = survey.manifest.outside.iter().map(|file| file.location.as_str()).collect();
            steps.push(format!("bring the configuration that lay outside into it: {}", lay.join(", ")));
        }
        if let (Some(delta), Some(aside)) = (&self.delta, &self.kept_aside) {
            steps.extend(delta.tell(aside));
        } else if let Some(aside) = &self.kept_aside {
            steps.push(format!("keep the cluster that is in {place} as it is, in {}", aside.display()));
        }
        if let Some(damage) = &self.damage {
            let known = match damage.packs.len() {
                0 => "nothing is known to be so yet".to_owned(),
                _ => format!("{} files are known to be touched: {}", damage.files.len(), damage.packs.join("; ")),
            };
            steps.push(format!("write zeros for what cannot be had, for a cluster to salvage from alone; {known}"));
            steps.extend(damage.files.iter().map(|file| format!("lose {file}")));
            if !damage.backups.is_empty() {
                steps.push(format!("(these backups need the same packs: {})", damage.backups.join(", ")));
            }
        }
        steps.push(format!("let the server recover to {} when it starts, onto a timeline of its own", survey.manifest.wal.stop_lsn));
        steps
    }
}

impl Requirements {
    fn of(survey: &Survey) -> Self {
        let at_least = survey.control.as_ref().map(|control| {
            BTreeMap::from([
                ("max_connections", control.max_connections),
                ("max_locks_per_transaction", control.max_locks_per_transaction),
                ("max_prepared_transactions", control.max_prepared_transactions),
                ("max_wal_senders", control.max_wal_senders),
                ("max_worker_processes", control.max_worker_processes),
            ])
        });
        Self {
            major: survey.manifest.cluster.major,
            server_version: survey.manifest.cluster.server_version.clone(),
            at_least: at_least.unwrap_or_default(),
            settings: survey.settings.clone(),
        }
    }
}

/// Whether the directory holds a cluster that makes room; an error where it holds anything else.
///
/// # Errors
/// `Unsafe`; what an interrupted migration says.
pub(crate) fn may_take(state: &State, data_directory: &Path, in_place: bool) -> Result<bool> {
    match state {
        State::HalfMade { operation } if operation == MIGRATE || operation == DELTA => {
            state.clone().into_cluster(data_directory).map(|_| false)
        }
        State::Absent | State::Empty | State::HalfMade { .. } => Ok(false),
        State::Foreign { examples } => Err(foreign(data_directory, examples)),
        State::Cluster(_) | State::Damaged { .. } if in_place => Ok(true),
        State::Cluster(_) | State::Damaged { .. } => Err(Error::refused(
            format!("{} is not empty: a cluster is there", data_directory.display()),
            "restore into an absent or empty directory (`-D`), or stop its server and use `--in-place`, which keeps it aside",
        )),
    }
}

fn refuse_another_cluster(survey: &Survey, ground: &Ground, data_directory: &Path) -> Result<()> {
    let wanted = &survey.manifest.cluster.system_identifier;
    match ground.system_identifier.map(|identifier| identifier.to_string()) {
        Some(here) if here == *wanted => Ok(()),
        Some(here) => Err(Error::refused(
            format!("{} holds the cluster with system identifier {here}, and the backup is of {wanted}", data_directory.display()),
            "restore into another directory (`-D`); nothing was touched",
        )),
        None => Err(Error::refused(
            format!("{} holds a damaged cluster, and nothing tells which one it is", data_directory.display()),
            "move it away yourself, and restore into the empty place; nothing was touched",
        )),
    }
}

fn refuse_occupied(tablespace: &PlacedTablespace, location: &Location, data_directory: &Path) -> Result<()> {
    let (name, place) = (&tablespace.name, tablespace.to.display());
    let remedy = format!("name an absent or empty place: `--tablespace {name}=/new/place`; nothing was touched");
    if location.real.starts_with(data_directory) || data_directory.starts_with(&location.real) {
        return Err(Error::invalid(
            format!("the tablespace {name} cannot be in {place}: it leads into the data directory, or around it"),
            remedy,
        ));
    }
    if location.occupied.is_empty() {
        return Ok(());
    }
    let examples = location.occupied.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    Err(Error::refused(format!("{place}, where the tablespace {name} is to be, is not empty: {examples}"), remedy))
}

/// What each file system must have, and whether it has.
fn room(survey: &Survey, ground: &Ground, tablespaces: &[PlacedTablespace]) -> Result<Vec<SpaceNeed>> {
    let whole = Room {
        bytes: survey.data_directory.bytes.saturating_add(SPARE_BYTES),
        inodes: survey.data_directory.inodes.saturating_add(SPARE_INODES),
    };
    let mut needs = vec![(&ground.data_directory, whole)];
    for (tablespace, location) in tablespaces.iter().zip(&ground.tablespaces) {
        let needed = survey.tablespaces.get(&tablespace.oid).copied().unwrap_or_default();
        match needs.iter_mut().find(|(spot, _)| spot.device == location.spot.device) {
            Some((_, room)) => {
                room.bytes = room.bytes.saturating_add(needed.bytes);
                room.inodes = room.inodes.saturating_add(needed.inodes);
            }
            None => needs.push((&location.spot, needed)),
        }
    }
    let remedy = "make room there, or choose another place (`-D`, `--tablespace`); nothing was touched";
    for (spot, needed) in &needs {
        let (place, free) = (spot.path.display(), spot.space.free_bytes);
        if spot.read_only {
            return Err(Error::denied(format!("{place} lies on a file system that is mounted read-only"), remedy));
        }
        if needed.bytes > free {
            return Err(Error::unavailable(
                format!("{place} needs {} ({} bytes), and {} ({free} bytes) are free there", size(needed.bytes), needed.bytes, size(free)),
                remedy,
            ));
        }
        if let Some(free) = spot.space.free_inodes.filter(|free| needed.inodes > *free) {
            return Err(Error::unavailable(
                format!("{place} needs {} files, and its file system takes {free} more only", needed.inodes),
                remedy,
            ));
        }
    }
    let told = |(spot, needed): &(&Spot, Room)| SpaceNeed {
        path: spot.path.clone(),
        needed_bytes: needed.bytes,
        free_bytes: spot.space.free_bytes,
    };
    Ok(needs.iter().map(told).collect())
}

fn consent_to(survey: &Survey, data_directory: &Path, replaces: bool) -> Option<String> {
    let place = data_directory.display();
    match (replaces, &survey.damage) {
        (true, Some(_)) => Some(format!("replacing the cluster in {place} by one that lacks pages")),
        (true, None) => Some(format!("replacing the cluster in {place}")),
        (false, Some(_)) => Some(format!("making a cluster in {place} that lacks pages, to salvage from")),
        (false, None) => None,
    }
}

fn rebuild(survey: &Survey) -> Vec<String> {
    let mut rebuild = vec![
        "replication slots are in no backup: make those anew that standbys and subscribers need".to_owned(),
        "standbys of the cluster do not follow the restored one, which goes on on another timeline: make them anew, or use pg_rewind"
            .to_owned(),
        "subscriptions connect to their publishers as soon as the server runs, where their slots may be gone or further on".to_owned(),
    ];
    if survey.unlogged > 0 {
        rebuild.push(format!("unlogged tables and what belongs to them come back empty: {} of them", survey.unlogged));
    }
    rebuild
}

fn warnings(survey: &Survey, ground: &Ground, replaces: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let damaged = &survey.manifest.damaged_pages;
    if let Some(page) = damaged.first() {
        warnings.push(format!(
            "{} holds {} damaged pages, as they were on the disk; the first is block {} of {}",
            survey.backup,
            damaged.len(),
            page.block,
            page.path
        ));
    }
    if let (true, Some(link)) = (replaces, &ground.wal_link) {
        warnings
            .push(format!("pg_wal was a link to {}: the restored cluster has a plain folder, and the old log stays there", link.display()));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::macros::datetime;

    use super::*;
    use crate::error::ErrorKind;
    use crate::fs::space::Space;
    use crate::repo::manifest::{ClusterFacts, DamagedPage, Manifest, Sizes, Tablespace, WalRange};
    use crate::repo::names::RunName;

    fn survey() -> Survey {
        let backup = RunName::new(datetime!(2026-02-08 09:33:16 UTC), [15, 142, 125, 108]);
        let manifest = Manifest {
            backup,
            parent: None,
            label: None,
            started_at: datetime!(2026-02-08 09:33:16 UTC),
            stopped_at: datetime!(2026-02-08 09:33:21 UTC),
            cluster: ClusterFacts {
                system_identifier: "7".to_owned(),
                server_version: "15.20".to_owned(),
                major: 15,
                control_version: 1300,
                catalog_version: 202_209_061,
                wal_segment_size: 16 << 20,
                blocks_per_segment: 131_072,
                data_checksums: true,
            },
            wal: WalRange { timeline: 1, start_lsn: "0/2000028".to_owned(), stop_lsn: "0/2000138".to_owned() },
            backup_label: String::new(),
            tablespace_map: None,
            tablespaces: vec![Tablespace { oid: 16399, name: "fast".to_owned(), location: "/fast".to_owned() }],
            entries: Vec::new(),
            packs: Vec::new(),
            sizes: Sizes { files: 966, bytes: 40 << 20, stored_bytes: 5 << 20, new_bytes: 5 << 20 },
            damaged_pages: Vec::new(),
            outside: Vec::new(),
        };
        Survey {
            backup,
            manifest,
            entries: Arc::new([]),
            data_directory: Room { bytes: 100 << 20, inodes: 1000 },
            tablespaces: BTreeMap::from([(16399, Room { bytes: 50 << 20, inodes: 10 })]),
            unlogged: 2,
            control: None,
            settings: BTreeMap::new(),
            damage: None,
        }
    }

    fn spot(path: &str, device: u32, free_bytes: u64) -> Spot {
        let space = Space { total_bytes: 1 << 40, free_bytes, total_inodes: Some(100_000), free_inodes: Some(50_000) };
        Spot { path: path.into(), device: (8, device), space, read_only: false }
    }

    fn ground(state: State, free: u64, device: u32, free_there: u64) -> Ground {
        Ground {
            state,
            system_identifier: Some(7),
            data_directory: spot("/app/pgdata", 1, free),
            tablespaces: vec![Location { spot: spot("/fast", device, free_there), real: "/fast".into(), occupied: Vec::new() }],
            wal_link: None,
            aside: "/app/pgdata.before".into(),
            speed: Some(f64::from(150 << 20)),
        }
    }

    fn decide(survey: &Survey, ground: &Ground, in_place: bool) -> Result<RestorePlan> {
        let placed = vec![PlacedTablespace { oid: 16399, name: "fast".to_owned(), from: "/fast".into(), to: "/fast".into() }];
        RestorePlan::decide(survey, ground, placed, Path::new("/app/pgdata"), in_place)
    }

    fn damaged() -> State {
        State::Damaged { reason: "global/pg_control is missing".to_owned() }
    }

    const MANY: u64 = 1 << 40;

    #[test]
    fn a_plan_tells_what_is_written_where_and_what_is_lost() {
        let plan = decide(&survey(), &ground(State::Absent, MANY, 2, MANY), false).unwrap();
        assert_eq!((plan.files, plan.bytes, plan.estimated_s), (966, 150 << 20, Some(1.0)));
        assert_eq!(plan.space.iter().map(|space| space.needed_bytes >> 20).collect::<Vec<_>>(), [132, 50]);
        assert!(plan.kept_aside.is_none() && plan.consent_to.is_none() && plan.warnings.is_empty());
        assert!(plan.rebuild.iter().any(|line| line.contains("2 of them")), "{:?}", plan.rebuild);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["plan"].as_array().unwrap().len(), 3, "{json}");
        assert_eq!(json["requires"]["major"], 15);
    }

    #[test]
    fn room_is_counted_by_file_system() {
        let enough = decide(&survey(), &ground(State::Absent, 182 << 20, 1, 182 << 20), false).unwrap();
        assert_eq!(enough.space.len(), 1);
        for (free, device, free_there) in [((182 << 20) - 1, 1, MANY), ((132 << 20) - 1, 2, MANY), (MANY, 2, (50 << 20) - 1)] {
            let error = decide(&survey(), &ground(State::Absent, free, device, free_there), false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains(&format!("({} bytes) are free", free.min(free_there))), "{error}");
        }
        let mut few = ground(State::Absent, MANY, 2, MANY);
        few.data_directory.space.free_inodes = Some(1000);
        assert_eq!(decide(&survey(), &few, false).unwrap_err().kind(), ErrorKind::Unavailable);
        few.data_directory.read_only = true;
        assert_eq!(decide(&survey(), &few, false).unwrap_err().kind(), ErrorKind::Denied);
    }

    #[test]
    fn a_cluster_makes_room_only_if_it_is_asked_to_and_is_the_same_one() {
        let there = ground(damaged(), MANY, 2, MANY);
        assert_eq!(decide(&survey(), &there, false).unwrap_err().kind(), ErrorKind::Unsafe);
        let plan = decide(&survey(), &there, true).unwrap();
        assert_eq!(plan.kept_aside.as_deref(), Some(Path::new("/app/pgdata.before")));
        assert!(plan.consent_to.is_some());
        for other in [Some(8), None] {
            let error = decide(&survey(), &Ground { system_identifier: other, ..there.clone() }, true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsafe);
        }
        let foreign = State::Foreign { examples: vec!["thesis.tex".to_owned()] };
        let error = decide(&survey(), &ground(foreign, MANY, 2, MANY), true).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsafe && error.to_string().contains("thesis.tex"), "{error}");
        let migrating = State::HalfMade { operation: MIGRATE.to_owned() };
        assert_eq!(decide(&survey(), &ground(migrating, MANY, 2, MANY), true).unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_tablespace_goes_where_nothing_is() {
        let mut ground = ground(State::Empty, MANY, 2, MANY);
        ground.tablespaces[0].occupied = vec!["PG_15_202209061".to_owned()];
        let error = decide(&survey(), &ground, false).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsafe && error.remedy().unwrap().contains("--tablespace fast="), "{error}");
        ground.tablespaces[0].occupied.clear();
        ground.tablespaces[0].real = "/app/pgdata/inside".into();
        assert_eq!(decide(&survey(), &ground, false).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn damaged_pages_and_a_linked_log_are_told() {
        let mut survey = survey();
        survey.manifest.damaged_pages = vec![DamagedPage { path: "base/5/1259".to_owned(), block: 7, stored: 1, computed: 2 }];
        let mut there = ground(damaged(), MANY, 2, MANY);
        there.wal_link = Some("/wal".into());
        let plan = decide(&survey, &there, true).unwrap();
        assert!(plan.warnings[0].contains("block 7 of base/5/1259") && plan.warnings[1].contains("/wal"), "{:?}", plan.warnings);
    }
}
