//! What a restore over a stopped cluster will do, decided before a byte is written.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock::{Clock, SystemClock};
use crate::data_directory::DataDirectory;
use crate::data_directory::mixed::{DELTA, Mixed};
use crate::data_directory::state::State;
use crate::error::{Error, Result};
use crate::fs::mounts;
use crate::pg::lsn::Lsn;
use crate::repo::manifest::Manifest;
use crate::restore::delta::existing::{Existing, LOG};
use crate::restore::delta::local_log::LocalLog;
use crate::restore::ground::Ground;
use crate::restore::physical::{RestoreOptions, refuse_server};
use crate::restore::plan::RestorePlan;
use crate::restore::survey::Survey;
use crate::restore::tablespaces::{self, PlacedTablespace, TablespaceMapping};
use crate::restore::tree::{Places, TablespacePlace};
use crate::wording::size;
use crate::workers;

/// What a restore does with a cluster that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DeltaPlan {
    /// Whether it goes on with one that was interrupted.
    pub goes_on: bool,
    /// The log that no backup holds, where there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unshipped_wal: Option<UnshippedWal>,
    /// How many files of the server's are removed, since the backup does not have them.
    pub removed_files: u64,
    /// Other files that the backup does not have, which are kept with the old log.
    pub set_aside: Vec<String>,
    /// How many bytes stay as they are. Known once all files were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_bytes: Option<u64>,
    /// How many files stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_files: Option<u64>,
    /// How many bytes are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
}

/// The end of a log that goes past what a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UnshippedWal {
    /// Where it ends.
    pub end_lsn: Lsn,
    /// On which timeline.
    pub timeline: u32,
    /// How many transactions were committed behind the end of the backup; nothing where nobody can tell any more.
    pub commits: Option<u64>,
}

/// All that was decided.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    pub(crate) plan: RestorePlan,
    pub(crate) places: Places,
    pub(crate) existing: Existing,
    pub(crate) mixed: Mixed,
}

/// What was seen of the cluster.
struct Seen {
    ground: Ground,
    existing: Existing,
    log: Option<LocalLog>,
    interrupted: Option<Mixed>,
}

/// Decides, and touches nothing.
///
/// # Errors
/// `Unsafe` when there is no cluster, or another one; `Conflict` while a server runs; `Unavailable` when there is not enough room.
pub(crate) async fn decide(survey: &Survey, directory: &dyn DataDirectory, options: &RestoreOptions) -> Result<Decided> {
    let state = directory.state().await?;
    may_be_changed(&state, directory.path())?;
    let (path, own) = (directory.path().to_owned(), directory.own_folder().clone());
    let (entries, manifest, mappings) = (survey.entries.clone(), survey.manifest.clone(), options.tablespaces.clone());
    let version_folder = format!("PG_{}_{}", manifest.cluster.major, manifest.cluster.catalog_version);
    let (placed, places, seen) = workers::run(move || {
        refuse_server(&path)?;
        let placed = where_they_are(&manifest, &mappings, &path)?;
        let place = |one: &PlacedTablespace| (one.oid, TablespacePlace { staged: one.to.clone(), location: one.to.clone() });
        let places = Places::new(path.clone(), placed.iter().map(place).collect());
        let folders: Vec<(u32, PathBuf)> = placed.iter().map(|one| (one.oid, one.to.join(&version_folder))).collect();
        let existing = Existing::look(&path, &folders, &entries, &places)?;
        let locations: Vec<PathBuf> = placed.iter().map(|one| one.to.clone()).collect();
        let log = match &state {
            State::Cluster(files) => {
                let stop = manifest.wal.stop_lsn.parse().map_err(|_| strange(&manifest))?;
                Some(LocalLog::look(&path, &files.control, manifest.wal.timeline, stop)?)
            }
            _ => None,
        };
        let interrupted = match &state {
            State::HalfMade { .. } => Mixed::peek(&own)?,
            _ => None,
        };
        if mounts::is_mount_point(&path.join(LOG))? {
            return Err(Error::refused(
                format!("{} is a mount point, and the old log could not be kept aside", path.join(LOG).display()),
                "restore into another directory (`-D`); nothing was touched",
            ));
        }
        let mut ground = Ground::look(&path, &own, state, &locations, SystemClock.now())?;
        if let Some(mixed) = &interrupted {
            (ground.system_identifier, ground.aside) = (Some(mixed.system_identifier), mixed.aside.clone());
        }
        Ok((placed, places, Seen { ground, existing, log, interrupted }))
    })
    .await?;
    let unshipped_wal =
        seen.log.filter(|log| log.goes_past).map(|log| UnshippedWal { end_lsn: log.end, timeline: log.timeline, commits: log.commits });
    let delta = DeltaPlan {
        goes_on: seen.interrupted.is_some(),
        unshipped_wal,
        removed_files: seen.existing.removed(),
        set_aside: seen.existing.set_aside(),
        ..DeltaPlan::default()
    };
    let mut plan = RestorePlan::of_delta(survey, &seen.ground, placed, directory.path(), (&seen.existing, delta))?;
    for location in seen.existing.lost_tablespaces() {
        plan.warnings
            .push(format!("the backup has no tablespace in {}: its files stay there, and no cluster uses them", location.display()));
    }
    let system_identifier = seen.ground.system_identifier.unwrap_or_default();
    let mixed = seen.interrupted.unwrap_or(Mixed { system_identifier, aside: seen.ground.aside });
    Ok(Decided { plan, places, existing: seen.existing, mixed })
}

/// Asks for what must be said before the cluster is changed: yes, and the end of what is given up of its log.
///
/// # Errors
/// `Unsafe` with the plan, where either was not said.
pub(crate) fn ask(plan: &RestorePlan, options: &RestoreOptions) -> Result<()> {
    plan.ask(options.consent)?;
    let Some(unshipped) = plan.delta.as_ref().and_then(|delta| delta.unshipped_wal) else { return Ok(()) };
    match options.discard_unshipped_wal {
        Some(end) if end == unshipped.end_lsn => Ok(()),
        said => {
            let end = unshipped.end_lsn;
            let said = said.map_or(String::new(), |said| format!(", and not at {said}"));
            Err(Error::refused(
                format!("the log in {} goes past what {} holds: {}{said}", plan.data_directory.display(), plan.name, unshipped.describe()),
                format!(
                    "make a backup of it first (`pgpersist start`, `pgpersist backup`), or give that up: `--discard-unshipped-wal {end}`; nothing was touched"
                ),
            ))
        }
    }
}

impl UnshippedWal {
    fn describe(&self) -> String {
        let what = match self.commits {
            Some(1) => "1 transaction was committed since".to_owned(),
            Some(commits) => format!("{commits} transactions were committed since"),
            None => "nobody can tell how many transactions were committed since".to_owned(),
        };
        format!("{what}; it ends at {}", self.end_lsn)
    }
}

impl DeltaPlan {
    /// The steps, for people.
    pub(crate) fn tell(&self, aside: &Path) -> Vec<String> {
        let aside = aside.display();
        let mut steps = Vec::new();
        if self.goes_on {
            steps.push(format!("go on with the `{DELTA}` that was interrupted"));
        }
        steps.push("keep each page that is already as it should be, by its hash, and write the others over what is there".to_owned());
        steps.push(format!("keep the old pg_wal and the old pg_control in {aside}"));
        if let Some(unshipped) = &self.unshipped_wal {
            let end = unshipped.end_lsn;
            steps.push(format!("give up what the backup does not hold: {}: `--discard-unshipped-wal {end}`", unshipped.describe()));
        }
        if self.removed_files > 0 {
            steps.push(format!("remove {} files and folders of the server that the backup does not have", self.removed_files));
        }
        if !self.set_aside.is_empty() {
            steps.push(format!("move to {aside} what the backup does not have: {}", self.set_aside.join(", ")));
        }
        if let (Some(bytes), Some(files), Some(written)) = (self.kept_bytes, self.kept_files, self.written_bytes) {
            steps.push(format!("keep {} ({files} files as a whole), and write {}", size(bytes), size(written)));
        }
        steps
    }
}

fn may_be_changed(state: &State, directory: &Path) -> Result<()> {
    match state {
        State::Cluster(_) => Ok(()),
        State::HalfMade { operation } if operation == DELTA => Ok(()),
        State::Absent | State::Empty => Err(Error::refused(
            format!("there is no cluster in {} whose files could be kept", directory.display()),
            "leave out `--delta`: the backup is restored as a whole",
        )),
        State::Damaged { reason } => Err(Error::refused(
            format!("the cluster in {} is damaged: {reason}", directory.display()),
            "restore with `--in-place`, which keeps it aside as it is; nothing was touched",
        )),
        other => other.clone().into_cluster(directory).map(|_| ()),
    }
}

/// The tablespaces of the backup, where the cluster has them.
fn where_they_are(manifest: &Manifest, mappings: &[TablespaceMapping], directory: &Path) -> Result<Vec<PlacedTablespace>> {
    let mut here = Vec::new();
    for tablespace in &manifest.tablespaces {
        let link = directory.join("pg_tblspc").join(tablespace.oid.to_string());
        let location = fs::read_link(&link).map_err(|_| {
            Error::refused(
                format!("the backup has the tablespace {}, and the cluster in {} does not", tablespace.name, directory.display()),
                "restore with `--in-place`, or into another directory (`-D`); nothing was touched",
            )
        })?;
        here.push(TablespaceMapping { tablespace: tablespace.oid.to_string(), location });
    }
    // What was said must be so, whatever names it goes by.
    let placed = tablespaces::place(&by_oid(manifest), &here, directory)?;
    for said in tablespaces::place(&manifest.tablespaces, mappings, directory)? {
        let is = placed.iter().find(|one| one.oid == said.oid).map(|one| one.to.clone()).unwrap_or_default();
        if said.to != said.from && said.to != is {
            return Err(Error::invalid(
                format!("the tablespace {} is in {}, and `--delta` leaves it there", said.name, is.display()),
                "leave out its `--tablespace`, or restore with `--in-place`",
            ));
        }
    }
    let names = |mut one: PlacedTablespace| {
        one.name = manifest.tablespaces.iter().find(|known| known.oid == one.oid).map(|known| known.name.clone()).unwrap_or_default();
        one
    };
    Ok(placed.into_iter().map(names).collect())
}

/// With OIDs for names, so that a name that is another one's OID is not mistaken.
fn by_oid(manifest: &Manifest) -> Vec<crate::repo::manifest::Tablespace> {
    let named = |one: &crate::repo::manifest::Tablespace| crate::repo::manifest::Tablespace { name: one.oid.to_string(), ..one.clone() };
    manifest.tablespaces.iter().map(named).collect()
}

fn strange(manifest: &Manifest) -> Error {
    Error::damaged(format!("the manifest of {} has positions that are none", manifest.backup), "choose another backup")
}
