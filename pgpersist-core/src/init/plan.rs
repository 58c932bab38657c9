//! What `init` will do, decided from what is known before anything is touched.

use std::path::Path;

use serde::Serialize;

use crate::data_directory::placement::{Placement, Verdict};
use crate::data_directory::state::{State, foreign};
use crate::error::{Error, Result};
use crate::init::known::Knowledge;

/// What to do when a cluster is known and its directory is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenMissing {
    /// Refuse: most often its volume is just not mounted.
    #[default]
    Refuse,
    /// Restore it, in a place that is proven persistent.
    Restore,
}

/// What the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InitWishes {
    /// Accept a place that does not survive the machine.
    pub allow_ephemeral: bool,
    /// Begin a new history although another is known; the old one's backups are kept.
    pub new: bool,
    /// Restore the newest backups when the directory is empty.
    pub restore_latest: bool,
    /// What to do, unasked, when a known cluster's directory is empty.
    pub when_missing: WhenMissing,
}

/// What `init` will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum InitPlan {
    /// Use the cluster that is there.
    Adopt {
        /// Its system identifier.
        system_identifier: String,
    },
    /// Run `initdb`.
    Create,
    /// Restore a backup, or make a cluster and load dumps.
    Restore {
        /// The backup's name, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        backup: Option<String>,
        /// Else the dumps' names in the store.
        dumps: Vec<String>,
    },
}

impl InitPlan {
    /// Decides.
    ///
    /// # Errors
    /// A refusal with its reason and the ways out; the state's own error where there is nothing to decide.
    pub fn decide(directory: &Path, state: &State, placement: &Placement, knowledge: &Knowledge, wishes: InitWishes) -> Result<Self> {
        let place = directory.display();
        match state {
            State::Foreign { examples } => return Err(foreign(directory, examples)),
            State::Cluster(_) | State::Absent | State::Empty => {}
            other => {
                other.clone().into_cluster(directory)?;
            }
        }
        if placement.verdict == Verdict::Ephemeral && !wishes.allow_ephemeral {
            return Err(Error::refused(
                format!("{place} would not survive this machine: {}", placement.evidence.join("; ")),
                match state {
                    State::Cluster(_) => {
                        "move the cluster onto a persistent volume with `pgpersist migrate`, or insist with `--allow-ephemeral`"
                    }
                    _ => "name a directory on a persistent volume, or insist with `--allow-ephemeral`",
                },
            ));
        }
        if let State::Cluster(files) = state {
            let here = files.control.system_identifier;
            let other = [
                ("the volume's card", knowledge.card.as_ref().map(|card| card.system_identifier)),
                ("the store's card", knowledge.store_identifier),
            ]
            .into_iter()
            .find_map(|(whose, identifier)| identifier.filter(|identifier| *identifier != here).map(|identifier| (whose, identifier)));
            return match other {
                Some((whose, identifier)) if !wishes.new => Err(Error::refused(
                    format!("{place} holds the cluster with system identifier {here}, and {whose} names {identifier}"),
                    "mount the volume that belongs here, give this cluster another name (`[cluster] name`), or begin a new history with `pgpersist init --new`",
                )),
                _ => Ok(Self::Adopt { system_identifier: here.to_string() }),
            };
        }
        let Some(evidence) = knowledge.evidence() else {
            if wishes.restore_latest {
                return Err(Error::not_found(
                    "there is nothing to restore: the store knows no backup of this cluster",
                    "check `--store` and `[cluster] name`, or leave out `--restore-latest` to create a cluster",
                ));
            }
            return Ok(Self::Create);
        };
        if wishes.new {
            return Ok(Self::Create);
        }
        let unattended = wishes.when_missing == WhenMissing::Restore && placement.verdict == Verdict::Persistent;
        if let Some(elsewhere) = knowledge.lived_on.as_ref().filter(|known| known.mount_point != placement.mount_point)
            && unattended
            && !wishes.restore_latest
        {
            return Err(Error::refused(
                format!(
                    "{place} is empty, and the volume of its cluster is not mounted: {} was mounted at {}, and now {place} lies on what is mounted at {}",
                    elsewhere.source, elsewhere.mount_point, placement.mount_point
                ),
                "mount the volume; only if it is lost, `pgpersist init --restore-latest` loads the newest backups into this place",
            ));
        }
        if wishes.restore_latest || unattended {
            if let Some(backup) = &knowledge.newest_backup {
                return Ok(Self::Restore { backup: Some(backup.name.clone()), dumps: Vec::new() });
            }
            if knowledge.newest_dumps.is_empty() {
                return Err(Error::not_found(
                    format!("{place} is empty, {evidence}, and the store holds no dump of it"),
                    "mount the volume that holds the cluster, name its store with `--store`, or begin a new history with `pgpersist init --new`",
                ));
            }
            if let Some((name, reason)) = knowledge.damaged_dumps.first() {
                return Err(Error::damaged(format!("the newest dump {name} is damaged: {reason}"), without_damaged(name)));
            }
            return Ok(Self::Restore { backup: None, dumps: knowledge.newest_dumps.clone() });
        }
        Err(Error::refused(
            format!("{place} is empty, but a cluster is known to live here: {evidence}"),
            "if its volume is not mounted, mount it; else `pgpersist init --restore-latest` loads the newest backups, and `pgpersist init --new` begins a new history and keeps the old one's backups",
        ))
    }
}

/// What to do when a newest dump is of no use: this command takes the newest ones, and never an older one unseen.
pub(crate) fn without_damaged(name: &str) -> String {
    format!(
        "make a new cluster with `pgpersist init --new` and `pgpersist start`, and load an older dump into it (`pgpersist list`, `pgpersist load NAME`); or look at {name}, move it out of the store if it is worth nothing, and repeat"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::init::known::{KnownBackup, KnownPlace};

    fn placement(verdict: Verdict) -> Placement {
        Placement { verdict, mount_point: "/volume".into(), fs_type: "test".into(), source: "test".into(), evidence: vec!["test".into()] }
    }

    fn decide(state: &State, verdict: Verdict, knowledge: &Knowledge, wishes: InitWishes) -> Result<InitPlan> {
        InitPlan::decide(Path::new("/volume/pgdata"), state, &placement(verdict), knowledge, wishes)
    }

    fn known() -> Knowledge {
        Knowledge { store_identifier: Some(7), newest_dumps: vec!["backup_20260208_093316.sql.gz".into()], ..Default::default() }
    }

    #[test]
    fn creates_only_where_nothing_is_known() {
        for state in [State::Absent, State::Empty] {
            assert_eq!(decide(&state, Verdict::Persistent, &Knowledge::default(), InitWishes::default()).unwrap(), InitPlan::Create);
            let error = decide(&state, Verdict::Persistent, &known(), InitWishes::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsafe);
            assert!(error.remedy().unwrap().contains("--restore-latest") && error.remedy().unwrap().contains("--new"));
        }
    }

    #[test]
    fn restores_unattended_only_where_the_place_is_proven() {
        let wishes = InitWishes { when_missing: WhenMissing::Restore, ..Default::default() };
        assert!(matches!(decide(&State::Empty, Verdict::Persistent, &known(), wishes), Ok(InitPlan::Restore { .. })));
        assert!(decide(&State::Empty, Verdict::Unknown, &known(), wishes).is_err());
        let wishes = InitWishes { restore_latest: true, ..Default::default() };
        assert!(matches!(decide(&State::Empty, Verdict::Unknown, &known(), wishes), Ok(InitPlan::Restore { .. })));
    }

    #[test]
    fn a_backup_is_restored_before_dumps_are_loaded() {
        let wishes = InitWishes { restore_latest: true, ..Default::default() };
        let backup = KnownBackup { name: "20260208T093316Z-0f8e7d6c".into(), major: 15, passed_over: Vec::new() };
        let knowledge = Knowledge { newest_backup: Some(backup.clone()), ..known() };
        let plan = decide(&State::Empty, Verdict::Persistent, &knowledge, wishes).unwrap();
        assert_eq!(plan, InitPlan::Restore { backup: Some(backup.name.clone()), dumps: Vec::new() });
        // The store's card may be lost, and the backups are not.
        let knowledge = Knowledge { newest_backup: Some(backup), ..Default::default() };
        assert_eq!(decide(&State::Empty, Verdict::Persistent, &knowledge, wishes).unwrap(), plan);
        let dumps = decide(&State::Empty, Verdict::Persistent, &known(), wishes).unwrap();
        assert_eq!(dumps, InitPlan::Restore { backup: None, dumps: known().newest_dumps });
    }

    #[test]
    fn never_restores_an_older_dump_unseen() {
        let wishes = InitWishes { restore_latest: true, ..Default::default() };
        let damaged_dumps = vec![("backup_20260208_093316.sql.gz".to_owned(), "it has 10 bytes of 20".to_owned())];
        let error = decide(&State::Empty, Verdict::Persistent, &Knowledge { damaged_dumps, ..known() }, wishes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("10 bytes of 20") && error.remedy().unwrap().contains("`pgpersist init --new`"));
    }

    #[test]
    fn restores_unattended_only_on_the_volume_that_the_cluster_lived_on() {
        let wishes = InitWishes { when_missing: WhenMissing::Restore, ..Default::default() };
        let lived_on = |mount_point: &str| {
            let mount_point = mount_point.to_owned();
            Knowledge {
                lived_on: Some(KnownPlace { format: 1, mount_point, fs_type: "ext4".into(), source: "/dev/sdb".into() }),
                ..known()
            }
        };
        assert!(matches!(decide(&State::Empty, Verdict::Persistent, &lived_on("/volume"), wishes), Ok(InitPlan::Restore { .. })));
        // The volume did not come: what is left of it is its mount point on the disk of the machine.
        let error = decide(&State::Empty, Verdict::Persistent, &lived_on("/volume/pgdata"), wishes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsafe);
        assert!(error.to_string().contains("/dev/sdb was mounted at /volume/pgdata"), "{error}");
        let wishes = InitWishes { restore_latest: true, ..wishes };
        assert!(matches!(decide(&State::Empty, Verdict::Persistent, &lived_on("/volume/pgdata"), wishes), Ok(InitPlan::Restore { .. })));
    }

    #[test]
    fn refuses_an_ephemeral_place_unless_told() {
        assert!(decide(&State::Absent, Verdict::Ephemeral, &Knowledge::default(), InitWishes::default()).is_err());
        let wishes = InitWishes { allow_ephemeral: true, ..Default::default() };
        assert_eq!(decide(&State::Absent, Verdict::Ephemeral, &Knowledge::default(), wishes).unwrap(), InitPlan::Create);
    }

    #[test]
    fn never_touches_foreign_files_whatever_is_wished() {
        let wishes = InitWishes { allow_ephemeral: true, new: true, restore_latest: true, when_missing: WhenMissing::Restore };
        let state = State::Foreign { examples: vec!["thesis.tex".into()] };
        assert!(decide(&state, Verdict::Persistent, &known(), wishes).unwrap_err().to_string().contains("thesis.tex"));
    }
}
