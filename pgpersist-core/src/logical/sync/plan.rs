//! [`SyncPlan`]: what one copy lacks, in the order in which it is brought there; made first, shown or carried out after.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use time::OffsetDateTime;

use crate::error::Result;
use crate::logical::name::{plain, sealed};
use crate::logical::prune_plan::{PrunePlan, loaded_with};
use crate::logical::shelf::{Contents, CopyShelf, DumpEntry, DumpState, Globals};
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
    /// Its path there.
    pub name: ObjectKey,
    /// How much is read of the primary store, its side file included; what is encrypted on the way becomes little more.
    pub bytes: u64,
    /// Its path in the primary store: another one where the copy is encrypted and that is not.
    #[serde(skip)]
    pub(super) from: ObjectKey,
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

    /// What the copy is to get, by its names in the primary store.
    pub(in crate::logical) fn wanted(&self) -> BTreeSet<&ObjectKey> {
        self.copies.iter().filter(|copy| copy.is_of_a_database()).map(|copy| &copy.from).collect()
    }

    /// Compares what is here with what is there.
    ///
    /// # Errors
    /// `Invalid` when a name is too long for a key once it says that the dump is encrypted.
    pub(in crate::logical) fn new(here: &Contents, there: &Contents, copy: &CopyShelf, now: OffsetDateTime) -> Result<Self> {
        let mut plan = Self { behind_s: behind(&here.ours, &there.ours), ..Self::default() };
        let seals = copy.shelf.encrypts();
        let mut standing: BTreeMap<&str, &DumpEntry> = BTreeMap::new();
        for entry in &there.ours {
            // Of both forms of one dump the one that is made now counts.
            let other = standing.entry(plain(&entry.name)).or_insert(entry);
            if entry.encrypted == seals {
                *other = entry;
            }
        }
        let foreign: BTreeSet<&str> = there.foreign.iter().map(|entry| plain(&entry.name)).collect();
        let (mut missing, mut unfinished) = (Vec::new(), Vec::new());
        for entry in &here.ours {
            match standing.get(plain(&entry.name)) {
                _ if foreign.contains(plain(&entry.name)) => plan.conflicts.push(left(&entry.name, "it is another cluster's there")),
                Some(other) => match compare(entry, other) {
                    Comparison::Same => {}
                    Comparison::SideFileMissing(side_file) => unfinished.push((Arriving::new(entry, &other.name), side_file)),
                    Comparison::Other(reason) => plan.conflicts.push(left(&entry.name, reason)),
                    Comparison::DamagedHere(reason) => plan.damaged.push(left(&entry.name, reason)),
                },
                None => match &entry.state {
                    DumpState::Damaged { reason } => plan.damaged.push(left(&entry.name, reason.clone())),
                    DumpState::Complete | DumpState::Unknown => missing.push(Arriving::new(entry, &name_there(&entry.name, seals)?)),
                },
            }
        }
        let known: BTreeMap<&str, &Globals> = there.globals.iter().map(|globals| (plain(&globals.object.key), globals)).collect();
        let mut roles = Vec::new();
        for globals in &here.globals {
            match known.get(plain(&globals.object.key)) {
                None => {
                    let mut arriving = globals.clone();
                    arriving.object.key = name_there(&globals.object.key, seals)?;
                    roles.push((globals, arriving));
                }
                Some(other) if other.named != globals.named => {}
                Some(other) if other.object.size_bytes != globals.object.size_bytes => {
                    plan.conflicts.push(left(&globals.object.key, sizes(other.object.size_bytes, globals.object.size_bytes)));
                }
                Some(_) => {}
            }
        }
        let dropped = dropped_there(there, &missing, &roles, copy, now);
        missing.retain(|arriving| match dropped.get(&arriving.there.name) {
            None => true,
            Some(reason) => {
                plan.left_out.push(left(&arriving.here.name, reason.clone()));
                false
            }
        });
        roles.retain(|(_, arriving)| !dropped.contains_key(&arriving.object.key));
        plan.order(&missing, &unfinished, &roles);
        Ok(plan)
    }

    /// Newest first, as the dumps come, each behind the roles that it needs.
    fn order(&mut self, missing: &[Arriving<'_>], unfinished: &[(Arriving<'_>, &ObjectMeta)], roles: &[(&Globals, Globals)]) {
        let candidates: Vec<Globals> = roles.iter().map(|(globals, _)| (*globals).clone()).collect();
        let mut told = BTreeSet::new();
        let mut add_roles = |plan: &mut Self, (globals, arriving): &(&Globals, Globals)| {
            if told.insert(globals.object.key.clone()) {
                let size_bytes = globals.object.size_bytes;
                let (name, from) = (arriving.object.key.clone(), globals.object.key.clone());
                plan.copies.push(PlannedCopy { name, bytes: size_bytes, from, step: Step::Roles { size_bytes } });
            }
        };
        for (arriving, side_file) in unfinished {
            let step = Step::SideFile { size_bytes: arriving.here.size_bytes, side_file: (*side_file).clone() };
            self.copies.push(arriving.planned(side_file.size_bytes, step));
        }
        for arriving in missing {
            let entry = arriving.here;
            if let Some(roles) = loaded_with(entry, &candidates).and_then(|key| roles.iter().find(|(one, _)| one.object.key == *key)) {
                add_roles(self, roles);
            }
            let side_file = entry.side_object.clone();
            let bytes = entry.size_bytes + side_file.as_ref().map_or(0, |side_file| side_file.size_bytes);
            self.copies.push(arriving.planned(bytes, Step::Dump { size_bytes: entry.size_bytes, side_file }));
        }
        for roles in roles.iter().rev() {
            add_roles(self, roles);
        }
    }
}

/// A dump, and what it is to be there.
struct Arriving<'a> {
    here: &'a DumpEntry,
    there: DumpEntry,
}

impl<'a> Arriving<'a> {
    fn new(here: &'a DumpEntry, name: &ObjectKey) -> Self {
        Self { here, there: DumpEntry { name: name.clone(), ..here.clone() } }
    }

    fn planned(&self, bytes: u64, step: Step) -> PlannedCopy {
        PlannedCopy { name: self.there.name.clone(), bytes, from: self.here.name.clone(), step }
    }
}

/// What a name becomes in a store that is encrypted, or is not. What is encrypted already stays as it is.
fn name_there(name: &ObjectKey, seals: bool) -> Result<ObjectKey> {
    if seals { sealed(name) } else { Ok(name.clone()) }
}

impl PlannedCopy {
    fn is_of_a_database(&self) -> bool {
        matches!(self.step, Step::Dump { .. })
    }

    /// Whether it is encrypted on its way.
    pub(super) fn is_sealed(&self) -> bool {
        self.name != self.from
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
    let alike = here.encrypted == there.encrypted;
    if alike && here.size_bytes != there.size_bytes {
        return Comparison::Other(sizes(there.size_bytes, here.size_bytes));
    }
    match (&here.side_file, &there.side_file) {
        (Some(ours), Some(theirs)) if !ours.tells_of_the_same(theirs) => {
            let what = if alike { "it has another SHA-256 there" } else { "it is another dump there, encrypted or not" };
            Comparison::Other(format!("{what}, by its side file"))
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
    missing: &[Arriving<'_>],
    roles: &[(&Globals, Globals)],
    copy: &CopyShelf,
    now: OffsetDateTime,
) -> BTreeMap<ObjectKey, String> {
    if copy.retention.is_empty() {
        return BTreeMap::new();
    }
    let mut all = Contents { orphans: Vec::new(), ..there.clone() };
    all.ours.extend(missing.iter().map(|arriving| arriving.there.clone()));
    Contents::sort(&mut all.ours, now);
    all.globals.extend(roles.iter().map(|(_, arriving)| arriving.clone()));
    let plan = PrunePlan::new(&all, &copy.retention, now, &BTreeMap::new());
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
