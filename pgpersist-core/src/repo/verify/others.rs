//! The packs that no backup needs, as far as anybody can tell: those of runs that have not ended, those that wait to be removed, and those of
//! backups whose manifests are closed, or lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorKind, Result};
use crate::repo::dropped::Dropped;
use crate::repo::layout;
use crate::repo::live_runs;
use crate::repo::names::{PackName, RunName};
use crate::repo::pack_reader::look_at_end;
use crate::repo::repository::Repository;
use crate::repo::verify::{Damage, Depth, Needed, RepositoryReport, look};
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
    for pack in packs.iter().filter(|pack| !needed.contains_key(*pack)) {
        let looked = match look(repository, *pack, None, depth).await {
            Err(error) if repository.is_closed(&error) => look_at_end(repository, *pack).await,
            looked => looked.map(|(_, size)| size),
        };
        report.objects += 1;
        match looked {
            Ok(size) => report.bytes += size,
            // It was removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid) => {
                damage.entry(at_fault(repository, *pack, &error)?).or_insert_with(|| (error.to_string(), BTreeSet::new()));
            }
            Err(error) => return Err(error),
        }
    }
    let left: BTreeSet<RunName> = packs.iter().map(|pack| pack.run).collect();
    for run in left {
        let has_intent = runs.get(&run).is_some_and(|run| run.has_intent);
        if has_intent || backups.contains(&run) || dropped.contains(&run) {
            continue;
        }
        // All may have been removed since, and the mark behind the last one.
        if !repository.packs().await?.iter().any(|pack| pack.run == run) {
            continue;
        }
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
