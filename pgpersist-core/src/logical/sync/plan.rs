//! [`SyncPlan`]: what one copy lacks, in the order in which it is brought there; made first, shown or carried out after.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use time::OffsetDateTime;

use crate::logical::prune_plan::{PrunePlan, loaded_with};
use crate::logical::shelf::{Contents, DumpEntry, DumpState, Globals};
use crate::retention::Retention;
use crate::store::{ObjectKey, ObjectMeta};

/// What would be done with one copy. As JSON it is what `sync --dry-run` tells of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SyncPlan {
    /// What is copied, in this order.
    pub copies: Vec<PlannedCopy>,
    /// What lies there under the same name and is something else.
    pub conflicts: Vec<Left>,
    /// What is damaged in the primary store, and not whole there either.
    pub damaged: Vec<Left>,
    /// What is not copied, since retention there would drop it.
    pub left_out: Vec<Left>,
    /// By how much the newest dump there is older than the newest one here, of the database where that is most.
    #[serde(skip)]
    pub(super) behind_s: Option<f64>,
}

/// One dump, or dump of roles, that is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedCopy {
    /// Its path in both stores.
    pub name: ObjectKey,
    /// How much goes over the wire, its side file included.
    pub bytes: u64,
    #[serde(skip)]
    pub(super) step: Step,
}

/// What is to be done about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A dump of roles: nothing is known of its bytes.
    Roles { size_bytes: u64 },
    /// A dump, and its side file where it has one.
    Dump { size_bytes: u64, side_file: Option<ObjectMeta> },
    /// The side file of a dump that is there already, if that is what it says.
    SideFile { size_bytes: u64, side_file: ObjectMeta },
}

/// A name that is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Its path.
    pub name: ObjectKey,
    /// Why.
    pub reason: String,
}

impl SyncPlan {
    /// Whether nothing is to be copied.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// How many dumps of databases are to come.
    pub fn dumps(&self) -> u64 {
        self.copies.iter().filter(|copy| copy.is_of_a_database()).count() as u64
    }

    /// What the copy is to get, by name.
    pub(in crate::logical) fn wanted(&self) -> BTreeSet<&ObjectKey> {
        self.copies.iter().filter(|copy| copy.is_of_a_database()).map(|copy| &copy.name).collect()
    }

    /// Compares what is here with what is there.
    pub(in crate::logical) fn new(here: &Contents, there: &Contents, retention: &Retention, now: OffsetDateTime) -> Self {
        let mut plan = Self { behind_s: behind(&here.ours, &there.ours), ..Self::default() };
        let standing: BTreeMap<&ObjectKey, &DumpEntry> = there.ours.iter().map(|entry| (&entry.name, entry)).collect();
        let foreign: BTreeSet<&ObjectKey> = there.foreign.iter().map(|entry| &entry.name).collect();
        let (mut missing, mut unfinished) = (Vec::new(), Vec::new());
        for entry in &here.ours {
            match standing.get(&entry.name) {
                _ if foreign.contains(&entry.name) => plan.conflicts.push(left(&entry.name, "it is another cluster's there")),
                Some(other) => match compare(entry, other) {
                    Comparison::Same => {}
                    Comparison::SideFileMissing(side_file) => unfinished.push((entry, side_file)),
                    Comparison::Other(reason) => plan.conflicts.push(left(&entry.name, reason)),
                    Comparison::DamagedHere(reason) => plan.damaged.push(left(&entry.name, reason)),
                },
                None => match &entry.state {
                    DumpState::Damaged { reason } => plan.damaged.push(left(&entry.name, reason.clone())),
                    DumpState::Complete | DumpState::Unknown => missing.push(entry),
                },
            }
        }
        let known: BTreeMap<&ObjectKey, &Globals> = there.globals.iter().map(|globals| (&globals.object.key, globals)).collect();
        let mut roles = Vec::new();
        for globals in &here.globals {
            match known.get(&globals.object.key) {
                None => roles.push(globals),
                Some(other) if other.object.size_bytes != globals.object.size_bytes => {
                    plan.conflicts.push(left(&globals.object.key, sizes(other.object.size_bytes, globals.object.size_bytes)));
                }
                Some(_) => {}
            }
        }
        let dropped = dropped_there(there, &missing, &roles, retention, now);
        missing.retain(|entry| match dropped.get(&entry.name) {
            None => true,
            Some(reason) => {
                plan.left_out.push(left(&entry.name, reason.clone()));
                false
            }
        });
        roles.retain(|globals| !dropped.contains_key(&globals.object.key));
        plan.order(&missing, &unfinished, &roles);
        plan
    }

    /// Newest first, as the dumps come, each behind the roles that it needs.
    fn order(&mut self, missing: &[&DumpEntry], unfinished: &[(&DumpEntry, &ObjectMeta)], roles: &[&Globals]) {
        let candidates: Vec<Globals> = roles.iter().map(|globals| (*globals).clone()).collect();
        let mut told = BTreeSet::new();
        let mut add_roles = |plan: &mut Self, globals: &Globals| {
            if told.insert(globals.object.key.clone()) {
                let size_bytes = globals.object.size_bytes;
                let copy = PlannedCopy { name: globals.object.key.clone(), bytes: size_bytes, step: Step::Roles { size_bytes } };
                plan.copies.push(copy);
            }
        };
        for (entry, side_file) in unfinished {
            let step = Step::SideFile { size_bytes: entry.size_bytes, side_file: (*side_file).clone() };
            self.copies.push(PlannedCopy { name: entry.name.clone(), bytes: side_file.size_bytes, step });
        }
        for entry in missing {
            if let Some(globals) = loaded_with(entry, &candidates).and_then(|key| roles.iter().find(|one| one.object.key == *key)) {
                add_roles(self, globals);
            }
            let side_file = entry.side_object.clone();
            let bytes = entry.size_bytes + side_file.as_ref().map_or(0, |side_file| side_file.size_bytes);
            self.copies.push(PlannedCopy { name: entry.name.clone(), bytes, step: Step::Dump { size_bytes: entry.size_bytes, side_file } });
        }
        for globals in roles.iter().rev() {
            add_roles(self, globals);
        }
    }
}

impl PlannedCopy {
    fn is_of_a_database(&self) -> bool {
        matches!(self.step, Step::Dump { .. })
    }
}

/// How one name stands in two stores.
enum Comparison<'a> {
    Same,
    SideFileMissing(&'a ObjectMeta),
    Other(String),
    DamagedHere(String),
}

fn compare<'a>(here: &'a DumpEntry, there: &DumpEntry) -> Comparison<'a> {
    match (&here.state, &there.state) {
        (DumpState::Damaged { .. }, DumpState::Complete) => return Comparison::Same,
        (DumpState::Damaged { reason }, _) => return Comparison::DamagedHere(reason.clone()),
        (_, DumpState::Damaged { reason }) => return Comparison::Other(format!("it is damaged there: {reason}")),
        _ => {}
    }
    if here.size_bytes != there.size_bytes {
        return Comparison::Other(sizes(there.size_bytes, here.size_bytes));
    }
    match (&here.side_file, &there.side_file) {
        (Some(ours), Some(theirs)) if ours.sha256 != theirs.sha256 => {
            Comparison::Other("it has another SHA-256 there, by its side file".to_owned())
        }
        (Some(_), None) => here.side_object.as_ref().map_or(Comparison::Same, Comparison::SideFileMissing),
        _ => Comparison::Same,
    }
}

fn sizes(there: u64, here: u64) -> String {
    format!("it has {there} bytes there, and {here} in the primary store")
}

fn left(name: &ObjectKey, reason: impl Into<String>) -> Left {
    Left { name: name.clone(), reason: reason.into() }
}

/// What retention would drop there if all of this were brought, with its reason.
fn dropped_there(
    there: &Contents,
    missing: &[&DumpEntry],
    roles: &[&Globals],
    retention: &Retention,
    now: OffsetDateTime,
) -> BTreeMap<ObjectKey, String> {
    if retention.is_empty() {
        return BTreeMap::new();
    }
    let mut all = Contents { orphans: Vec::new(), ..there.clone() };
    all.ours.extend(missing.iter().map(|entry| (*entry).clone()));
    Contents::sort(&mut all.ours, now);
    all.globals.extend(roles.iter().map(|globals| (*globals).clone()));
    let plan = PrunePlan::new(&all, retention, now, &BTreeMap::new());
    plan.dropped.into_iter().map(|dropped| (dropped.name, dropped.reason)).collect()
}

/// By how many seconds the newest good dump there is older than the newest one here, of the database where that is most;
/// nothing where a database has none there.
fn behind(here: &[DumpEntry], there: &[DumpEntry]) -> Option<f64> {
    let newest = |entries: &[DumpEntry]| {
        let mut newest: BTreeMap<Option<String>, OffsetDateTime> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.is_good()) {
            let time = newest.entry(entry.database.clone()).or_insert(entry.named_time());
            *time = (*time).max(entry.named_time());
        }
        newest
    };
    let (here, there) = (newest(here), newest(there));
    let each = here.into_iter().map(|(database, time)| Some((time - *there.get(&database)?).as_seconds_f64().max(0.0)));
    each.collect::<Option<Vec<_>>>().map(|all| all.into_iter().fold(0.0, f64::max))
}

#[cfg(test)]
mod tests;
