//! The packs that no backup needs, as far as anybody can tell: those of runs that have not ended, those that wait to be removed, and those of
//! backups whose manifests are closed, or lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorKind, Result};
use crate::repo::dropped::Dropped;
use crate::repo::layout;
use crate::repo::live_runs;
use crate::repo::names::{PackName, RunName};
use crate::repo::repository::Repository;
use crate::repo::verify::packs::look_at_packs;
use crate::repo::verify::{Damage, Depth, Needed, RepositoryReport};
use crate::store::ObjectKey;

/// Looks at them, and tells of runs that have left packs and nothing that says why.
pub(super) async fn others(
    repository: &Repository,
    needed: &BTreeMap<PackName, Needed>,
    depth: Depth,
    report: &mut RepositoryReport,
    damage: &mut Damage,
) -> Result<()> {
    // In the order of an inventory: what allows a pack to be there is seen after it.
    let packs = repository.packs().await?;
    let runs = live_runs::runs(repository).await?;
    let backups = repository.backups().await?;
    let dropped = Dropped::all(repository).await?;
    let unneeded = packs.iter().copied().filter(|pack| !needed.contains_key(pack)).map(|pack| (pack, None));
    look_at_packs(repository, unneeded, depth, &mut |pack, outcome| {
        report.objects += 1;
        match outcome {
            Ok((_, size)) => report.bytes += size,
            // It was removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid) => {
                damage.entry(at_fault(repository, pack, &error)?).or_insert_with(|| (error.to_string(), BTreeSet::new()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    })
    .await?;
    let left: BTreeSet<RunName> = packs.iter().map(|pack| pack.run).collect();
    let allowed = |run: &RunName| runs.get(run).is_some_and(|run| run.has_intent) || backups.contains(run) || dropped.contains(run);
    let mut lost: BTreeSet<RunName> = left.into_iter().filter(|run| !allowed(run)).collect();
    if !lost.is_empty() {
        // All packs of a run may have been removed since, and the mark behind the last one.
        let still: BTreeSet<RunName> = repository.packs().await?.into_iter().map(|pack| pack.run).collect();
        lost.retain(|run| still.contains(run));
    }
    for run in lost {
        let reason = format!("it is not there, though packs of it are: neither {} is, nor was it dropped", layout::intent(run));
        damage.insert(repository.key(&layout::manifest(run))?, (reason, BTreeSet::new()));
    }
    Ok(())
}

/// The object that an error of a pack is about: its run's keys if they are named.
fn at_fault(repository: &Repository, pack: PackName, error: &Error) -> Result<ObjectKey> {
    let keys = repository.key(&layout::run_key(pack.run))?;
    if error.to_string().contains(keys.as_str()) { Ok(keys) } else { repository.key(&layout::pack(pack)) }
}
