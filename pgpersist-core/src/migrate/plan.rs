//! What a migration will do, decided from what was seen before anything is touched.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data_directory::own_folder::Whereabouts;
use crate::data_directory::placement::Verdict;
use crate::data_directory::state::{MIGRATE, MIGRATED_CONTROL_FILE, State, foreign};
use crate::error::{Error, Result};
use crate::migrate::facts::{SourceFacts, TargetFacts};
use crate::migrate::folder::Phase;
pub use crate::migrate::source_server::StopMethod;
use crate::pg::control_file::CONTROL_FILE_PATH;

/// Room beside the copy: the journal, what a running source writes meanwhile, and air.
const SPARE_BYTES: u64 = 48 << 20;
const SPARE_INODES: u64 = 64;

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationAction {
    /// Copy, compare, switch.
    Move,
    /// Go on with an interrupted one.
    Resume,
    /// The source is set aside already: put the copy into place.
    Finish,
    /// It was done before.
    Nothing,
}

/// What a migration will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationPlan {
    /// What there is to do.
    pub action: MigrationAction,
    /// The source.
    pub from: PathBuf,
    /// The target.
    pub to: PathBuf,
    /// The cluster's system identifier, as text.
    pub system_identifier: String,
    /// The cluster's major version.
    pub major: u32,
    /// Bytes of the source.
    pub bytes: u64,
    /// Files of the source.
    pub files: u64,
    /// How the running source will be stopped; `None` when it is stopped already.
    pub stop: Option<StopMethod>,
    /// What must be confirmed, where something must.
    pub consent_to: Option<String>,
    /// The steps, for people, one a line.
    pub steps: Vec<String>,
    /// What people should know.
    pub warnings: Vec<String>,
}

impl MigrationPlan {
    /// Decides.
    ///
    /// # Errors
    /// `Invalid` for paths that are the same or one in the other, and for what cannot be carried over; `Unsafe` or
    /// `Conflict` when something else is in the target; `Unavailable` when there is not enough room.
    pub(crate) fn decide(source: &SourceFacts, target: &TargetFacts) -> Result<Self> {
        let (from, to) = (&source.directory, &target.directory);
        apart(from, to)?;
        if let Some(plan) = already_switched(source, target) {
            return Ok(plan);
        }
        if let State::Absent | State::Empty = source.state {
            return Err(Error::not_found(
                format!("there is no cluster to move in {}", from.display()),
                "check `--from`: in psql, `show data_directory` tells where a running server's files are",
            ));
        }
        let files = source.state.clone().into_cluster(from)?;
        let identifier = files.control.system_identifier;
        let resumed = free_for(source, target, identifier)?;
        let tree = source.tree.clone().unwrap_or_default();
        carriable(source, target)?;
        if source.configuration.is_none() {
            return Err(Error::not_found(
                format!("{} has no postgresql.conf, and none outside is known to belong to it", from.display()),
                "copy its postgresql.conf and pg_hba.conf into it, and repeat",
            ));
        }
        let needed = tree.bytes.saturating_sub(target.copied.0) + SPARE_BYTES;
        if needed > target.space.free_bytes {
            return Err(Error::unavailable(
                format!("{} needs {needed} bytes more, and {} are free there", to.display(), target.space.free_bytes),
                "make room on that volume, or choose another; nothing was touched",
            ));
        }
        let inodes = (tree.files + tree.folders).saturating_sub(target.copied.1) + SPARE_INODES;
        if target.space.free_inodes.is_some_and(|free| inodes > free) {
            return Err(Error::unavailable(
                format!(
                    "{} needs {inodes} more files, and its file system takes {} only",
                    to.display(),
                    target.space.free_inodes.unwrap_or(0)
                ),
                "choose a volume with more inodes; nothing was touched",
            ));
        }
        let mut warnings = tree.warnings.clone();
        warnings.extend(source.command_line.left_behind.iter().cloned());
        if target.placement.verdict == Verdict::Ephemeral {
            warnings.push(format!("{} would not survive this machine: {}", to.display(), target.placement.evidence.join("; ")));
        }
        let mut plan = Self {
            action: if resumed { MigrationAction::Resume } else { MigrationAction::Move },
            from: from.clone(),
            to: to.clone(),
            system_identifier: identifier.to_string(),
            major: files.major,
            bytes: tree.bytes,
            files: tree.files,
            stop: source.running.as_ref().map(|(_, method)| method.clone()),
            consent_to: source.running.as_ref().map(|_| format!("stopping the server in {}", from.display())),
            steps: Vec::new(),
            warnings,
        };
        plan.steps = plan.tell(source);
        Ok(plan)
    }

    fn tell(&self, source: &SourceFacts) -> Vec<String> {
        let (from, to) = (self.from.display(), self.to.display());
        let again = if self.action == MigrationAction::Resume { ", as far as an earlier run did not" } else { "" };
        let mut steps = vec![format!("copy {} files ({} bytes) from {from} to {to}{again}", self.files, self.bytes)];
        if let Some(method) = &self.stop {
            steps.push(format!("stop the server in {from} with `{}`", method.as_command()));
            steps.push("copy again what changed meanwhile".to_owned());
        }
        steps.push("compare the copy with what was read".to_owned());
        if let Some(configuration) = source.configuration.as_ref().filter(|path| !path.starts_with(&self.from)) {
            steps.push(format!("bring along the configuration in {}", configuration.parent().unwrap_or(configuration).display()));
        }
        let settings: Vec<String> = source.command_line.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        if !settings.is_empty() {
            steps.push(format!("bring along what the server was started with: {}", settings.join(", ")));
        }
        steps.extend(source.command_line.about_socket());
        steps.push(format!("rename {from}/{CONTROL_FILE_PATH} to {from}/{MIGRATED_CONTROL_FILE}, so that no server starts there any more"));
        steps.push(format!("put the copy into place at {to}; all else of {from} is kept as it is"));
        if let Some(debian) = &source.debian {
            steps.push(format!("set data_directory in {}/postgresql.conf, and start.conf to manual", debian.folder.display()));
        }
        steps
    }
}

/// The two must be two places, neither in the other.
fn apart(from: &Path, to: &Path) -> Result<()> {
    if from == to {
        return Err(Error::invalid(format!("{} is both source and target", from.display()), "name another directory with `--to`"));
    }
    for (inner, outer) in [(to, from), (from, to)] {
        if inner.starts_with(outer) {
            return Err(Error::invalid(
                format!("{} lies in {}", inner.display(), outer.display()),
                "name a directory with `--to` that is neither in the source nor above it",
            ));
        }
    }
    Ok(())
}

/// A migration that has set its source aside is finished from the target alone, also when the source is gone since: on a
/// disk that died with its pod, the finished copy is all there is.
fn already_switched(source: &SourceFacts, target: &TargetFacts) -> Option<MigrationPlan> {
    let here = match &target.state {
        State::Cluster(files) => Some((files.control.system_identifier.to_string(), files.major)),
        _ => None,
    };
    let source_lives = |identifier: &str| match &source.state {
        State::Cluster(files) => files.control.system_identifier.to_string() == identifier,
        _ => false,
    };
    let plan = |action, identifier: &str, bytes, files, consent_to, steps: &[&str]| MigrationPlan {
        action,
        from: source.directory.clone(),
        to: target.directory.clone(),
        system_identifier: identifier.to_owned(),
        major: here.as_ref().map_or(0, |(_, major)| *major),
        bytes,
        files,
        stop: None,
        consent_to,
        steps: steps.iter().map(|step| (*step).to_owned()).collect(),
        warnings: Vec::new(),
    };
    match (&target.marker, &target.record, &here) {
        (Some(marker), _, _)
            if marker.from == source.directory && marker.phase == Phase::Switching && !source_lives(&marker.system_identifier) =>
        {
            let known = source.set_aside.is_some_and(|identifier| identifier.to_string() == marker.system_identifier);
            let consent = (!known && here.is_none())
                .then(|| format!("using the copy although {} does not hold the cluster any more", source.directory.display()));
            let steps = ["put the finished copy into place", "tidy up"];
            Some(plan(MigrationAction::Finish, &marker.system_identifier, target.copied.0, target.copied.1, consent, &steps))
        }
        (None, Some(record), Some((identifier, _)))
            if record.from == source.directory && record.system_identifier == *identifier && !source_lives(identifier) =>
        {
            Some(plan(MigrationAction::Nothing, identifier, record.bytes, record.files, None, &[]))
        }
        _ => None,
    }
}

/// Whether the target may be filled; returns whether an earlier run began to.
fn free_for(source: &SourceFacts, target: &TargetFacts, identifier: u64) -> Result<bool> {
    let to = target.directory.display();
    match &target.state {
        State::Absent | State::Empty => {}
        State::HalfMade { operation } if operation == MIGRATE => {}
        State::HalfMade { operation } => {
            return Err(Error::conflict(
                format!("{to} is half-made: `{operation}` was interrupted"),
                "let `pgpersist init` finish or undo it, then see what is there",
            ));
        }
        State::Foreign { examples } => return Err(foreign(&target.directory, examples)),
        State::Cluster(files) if files.control.system_identifier == identifier => {
            return Err(Error::conflict(
                format!("{to} and {} hold the same cluster, and both can be started", source.directory.display()),
                "find out which one is in use, and move the other one away",
            ));
        }
        State::Cluster(files) => {
            return Err(Error::refused(
                format!("{to} holds another cluster (system identifier {})", files.control.system_identifier),
                "name an empty or absent directory with `--to`; nothing was touched",
            ));
        }
        State::Damaged { .. } => return target.state.clone().into_cluster(&target.directory).map(|_| false),
    }
    if let Some(card) = target.card.as_ref().filter(|card| card.system_identifier != identifier) {
        return Err(Error::refused(
            format!("{to} is empty, but the volume's card says that system identifier {} lives here", card.system_identifier),
            "if its volume is not mounted, mount it; else name another directory with `--to`",
        ));
    }
    if let Some(name) = &target.in_the_way {
        return Err(Error::conflict(
            format!("{to} is not quite empty: `{name}` is in it, so nothing can be put in its place"),
            "remove it, or name a subfolder with `--to`",
        ));
    }
    let Some(marker) = &target.marker else { return Ok(false) };
    if marker.from != source.directory || marker.system_identifier != identifier.to_string() {
        return Err(Error::conflict(
            format!("{to} holds an unfinished migration from {}", marker.from.display()),
            match marker.phase {
                Phase::Copying => format!("finish that one, or remove {} to give it up", target.folder.display()),
                Phase::Switching => "finish that one: its source may be set aside already".to_owned(),
            },
        ));
    }
    Ok(true)
}

/// What the copy can hold.
fn carriable(source: &SourceFacts, target: &TargetFacts) -> Result<()> {
    let Some(tree) = &source.tree else { return Ok(()) };
    if !tree.tablespaces.is_empty() {
        let list: Vec<_> = tree.tablespaces.iter().map(|(oid, path)| format!("{oid} at {}", path.display())).collect();
        return Err(Error::invalid(
            format!("{} has tablespaces outside itself, which migrate does not move: {}", source.directory.display(), list.join(", ")),
            "move their tables back (`ALTER TABLE ALL IN TABLESPACE … SET TABLESPACE pg_default`) and drop them, or move the data with `pgpersist dump` and `load`",
        ));
    }
    if source.directory.to_str().is_none() || target.directory.to_str().is_none() {
        return Err(Error::invalid("a path of the migration is no text", "name both directories without strange bytes"));
    }
    match &tree.odd_name {
        Some(name) if target.whereabouts == Whereabouts::Inside => Err(Error::invalid(
            format!("the name of {} is no text", source.directory.join(name).display()),
            "rename or remove it: it is no file of PostgreSQL",
        )),
        _ => Ok(()),
    }
}
