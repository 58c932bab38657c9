//! `data_directory`: is a sound cluster there, which version, how large, and will it stay?

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::data_directory::placement::{Placement, Verdict};
use crate::data_directory::state::State;
use crate::data_directory::{DataDirectory, DiskUsage};
use crate::error::{Error, ErrorKind, Result};
use crate::health::checks::judgement::{not_known, told};
use crate::health::{Finding, HealthCheck};
use crate::pg::version::{NEWEST_MAJOR, OLDEST_MAJOR};
use crate::wording;

/// The name of its finding.
pub const NAME: &str = "data_directory";

/// Looks at the directory's files; measuring a large one that takes too long is left out of the answer.
#[derive(Debug, Clone)]
pub struct DataDirectoryCheck {
    directory: Arc<dyn DataDirectory>,
    deadline: Duration,
}

impl DataDirectoryCheck {
    /// A check of this directory.
    pub fn new(directory: Arc<dyn DataDirectory>, deadline: Duration) -> Self {
        Self { directory, deadline }
    }
}

#[async_trait]
impl HealthCheck for DataDirectoryCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        let state = match self.directory.state().await {
            Ok(state) => state,
            Err(error) => return not_there(&error),
        };
        let placement = self.directory.placement().await.ok();
        let usage = tokio::time::timeout(self.deadline * 3 / 5, self.directory.disk_usage()).await;
        judge(self.directory.path(), state, placement.as_ref(), usage.ok().and_then(Result::ok))
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn not_there(error: &Error) -> Finding {
    match error.kind() {
        // Something is there that we cannot see.
        ErrorKind::Denied | ErrorKind::Unavailable => not_known(NAME, error),
        _ => Finding::fail(NAME, told(error), error.remedy().unwrap_or_default()),
    }
}

fn judge(path: &Path, state: State, placement: Option<&Placement>, usage: Option<DiskUsage>) -> Finding {
    let word = state.word();
    let files = match state.into_cluster(path) {
        Ok(files) => files,
        Err(error) => {
            let finding = Finding::fail(NAME, told(&error), error.remedy().unwrap_or_default());
            return finding.observing("path", path.to_string_lossy()).observing("state", word);
        }
    };
    let size = usage.map_or_else(|| "size not measured in time".to_owned(), |usage| wording::size(usage.used_bytes));
    let stays = placement.map_or_else(|| "persistent or not: unknown".to_owned(), in_words);
    let summary = format!("{} ({}, {size}, {stays})", path.display(), files.major);
    let finding = if (OLDEST_MAJOR..=NEWEST_MAJOR).contains(&files.major) {
        Finding::pass(NAME, summary)
    } else {
        let remedy =
            format!("upgrade to a supported version: `pgpersist dump` here, `pgpersist load` into a cluster of PostgreSQL {NEWEST_MAJOR}");
        Finding::warn(NAME, format!("{summary}; pgpersist supports PostgreSQL {OLDEST_MAJOR} to {NEWEST_MAJOR}"), remedy)
    };
    let finding = finding
        .observing("path", path.to_string_lossy())
        .observing("state", "cluster")
        .observing("version", files.major.to_string())
        .observing("system_identifier", files.control.system_identifier.to_string());
    match usage {
        Some(usage) => finding.observing("size_bytes", usage.used_bytes).observing("files", usage.files),
        None => finding,
    }
}

/// `persistent: ext4 on /dev/nvme0n9`.
pub(super) fn in_words(placement: &Placement) -> String {
    let verdict = match placement.verdict {
        Verdict::Persistent => "persistent",
        Verdict::Ephemeral => "ephemeral",
        Verdict::Unknown => "perhaps persistent",
    };
    let source = if placement.source.is_empty() || placement.source == placement.fs_type {
        String::new()
    } else {
        format!(" on {}", placement.source)
    };
    format!("{verdict}: {}{source}", placement.fs_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;
    use crate::health::checks::places::{Role, tests::place};

    #[test]
    fn what_is_no_cluster_fails_and_says_the_way_out() {
        let path = Path::new("/app/pgdata");
        for state in [
            State::Absent,
            State::Empty,
            State::HalfMade { operation: "init".into() },
            State::Foreign { examples: vec!["x".into()] },
            State::Damaged { reason: "bad".into() },
        ] {
            let word = state.word();
            let finding = judge(path, state, None, None);
            assert_eq!((finding.status, finding.observed["state"].as_str()), (Status::Fail, Some(word)), "{finding:?}");
            assert!(finding.summary.contains("/app/pgdata") && finding.remedy.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn a_place_is_told_in_a_few_words() {
        let told = |line: &str| in_words(&place(Role::Data, "/app/pgdata", line).placement);
        assert_eq!(told("1 1 8:1 / /app/pgdata rw - ext4 /dev/nvme0n9 rw"), "persistent: ext4 on /dev/nvme0n9");
        assert_eq!(told("1 1 0:1 / / rw - overlay overlay rw"), "ephemeral: overlay");
    }
}
