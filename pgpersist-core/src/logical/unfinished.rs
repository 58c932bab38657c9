//! Uploads that never ended: a process that was killed in the middle of a dump has left parts of it in a bucket, where nobody sees
//! them and somebody pays for them. Pruning has the store forget them.

use std::time::Duration;

use crate::logical::cluster_card::FOLDER;
use crate::logical::name::{DumpName, database_of};
use crate::store::{BackupStore, ObjectKey};

/// Nobody who lives sends nothing for so long.
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a store may take for it.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Has those forgotten that would have become dumps, or notes of ours, and returns how many it were.
///
/// What cannot be done now is done the next time: it harms nobody, and credentials that may not do it are no fault of a prune.
pub(super) async fn remove(store: &dyn BackupStore, given_up_after: Duration) -> u64 {
    let removed = tokio::time::timeout(LIMIT, store.remove_unfinished(given_up_after, &is_ours)).await;
    removed.ok().and_then(Result::ok).unwrap_or_default()
}

fn is_ours(key: &ObjectKey) -> bool {
    let name = key.file_name();
    let is_dump = DumpName::parse(name).or_else(|| DumpName::parse_side_file(name)).is_some();
    match key.folder() {
        None => is_dump,
        Some(folder) => is_dump && database_of(folder).is_some() || key.parts().next() == Some(FOLDER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_name_of_ours_is_ours() {
        for (name, expected) in [
            ("backup_20260101_000000.sql.gz", true),
            ("globals_20260101_000000.sql.gz.age", true),
            ("shop/backup_20260101_000000.sql.gz.json", true),
            (".pgpersist/check/0123456789abcdef/speed/throughput/object", true),
            ("backup_20260101_000000.sql", false),
            ("shop/deeper/backup_20260101_000000.sql.gz", false),
            ("shop/movie.mkv", false),
            ("pgpersist/x", false),
        ] {
            assert_eq!(is_ours(&name.parse().unwrap()), expected, "{name}");
        }
    }
}
