//! [`Newest`]: which backup `latest` is. One with damaged pages is never taken unseen.

use crate::error::{Error, ErrorKind, Result};
use crate::pg::lsn::Lsn;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;

/// The newest good backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Which one.
    pub backup: RunName,
    /// Why newer ones were not taken, for people.
    pub passed_over: Vec<String>,
}

/// What is known of a backup; the order is that of their age: by the place in the log where they end on the youngest timeline, since clocks can
/// go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    timeline: u32,
    stop: Lsn,
    backup: RunName,
    damaged_pages: usize,
}

impl Newest {
    /// Finds it.
    ///
    /// # Errors
    /// `NotFound` when there is no backup; `Damaged` when none of them is good; `Denied` when no key at hand opens one that may be newer; what
    /// the store says.
    pub async fn find(repository: &Repository) -> Result<Self> {
        let (mut candidates, mut unreadable, mut closed) = (Vec::new(), Vec::new(), None);
        for backup in repository.backups().await? {
            match repository.manifest(backup).await {
                Ok(manifest) => candidates.push(Candidate {
                    timeline: manifest.wal.timeline,
                    stop: manifest.wal.stop_lsn.parse().unwrap_or_default(),
                    backup,
                    damaged_pages: manifest.unknown_damage(),
                }),
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid) => unreadable.push((backup, error)),
                Err(error) if repository.is_closed(&error) => closed = Some((backup, error)),
                // It was removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        candidates.sort_unstable();
        let newer_unreadable = |than: Option<RunName>| -> Vec<String> {
            let newer = unreadable.iter().filter(|(backup, _)| than.is_none_or(|than| backup.began_at() >= than.began_at()));
            newer.map(|(backup, error)| format!("{backup} cannot be read: {error}")).collect()
        };
        let chosen = choose(&candidates);
        // Older ones may be closed to today's key. What is newer must not be passed over in silence; its name is all that tells.
        if let Some((closed, error)) = closed
            && chosen.is_none_or(|(backup, _)| backup < closed)
        {
            return Err(error);
        }
        if let Some((backup, damaged)) = chosen {
            let damaged = damaged.iter().map(told);
            return Ok(Self { backup, passed_over: damaged.chain(newer_unreadable(Some(backup))).collect() });
        }
        let wrong: Vec<String> = candidates.iter().map(told).chain(newer_unreadable(None)).collect();
        if wrong.is_empty() {
            return Err(Error::not_found(format!("there is no backup in {}", repository.store()), "make one with `pgpersist backup`"));
        }
        Err(Error::damaged(
            format!("no backup in {} is good: {}", repository.store(), wrong.join("; ")),
            "one with damaged pages is restored by its name, as it is (`pgpersist restore NAME`); `pgpersist verify` tells what is wrong with others",
        ))
    }
}

/// The last one without damage, and those behind it.
fn choose(candidates: &[Candidate]) -> Option<(RunName, &[Candidate])> {
    let at = candidates.iter().rposition(|candidate| candidate.damaged_pages == 0)?;
    Some((candidates[at].backup, &candidates[at + 1..]))
}

fn told(candidate: &Candidate) -> String {
    format!("{} holds {} damaged pages", candidate.backup, candidate.damaged_pages)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn candidate(timeline: u32, stop: &str, second: u8, damaged_pages: usize) -> Candidate {
        let backup = RunName::new(datetime!(2026-02-08 09:33:16 UTC), [0, 0, 0, second]);
        Candidate { timeline, stop: stop.parse().unwrap(), backup, damaged_pages }
    }

    #[test]
    fn the_youngest_timeline_counts_before_the_place_in_the_log_and_damage_is_passed_over() {
        let mut candidates = vec![
            candidate(2, "0/3000000", 1, 0),
            candidate(1, "0/9000000", 2, 0),
            candidate(2, "0/4000000", 3, 1),
            candidate(2, "0/2000000", 4, 0),
        ];
        candidates.sort_unstable();
        let (backup, passed_over) = choose(&candidates).unwrap();
        assert_eq!(backup, candidates[2].backup);
        assert!(backup.to_string().ends_with("01"), "{backup}");
        assert_eq!(passed_over.iter().map(told).collect::<Vec<_>>(), ["20260208T093316Z-00000003 holds 1 damaged pages"]);
        assert!(choose(&candidates[3..]).is_none() && choose(&[]).is_none());
    }
}
