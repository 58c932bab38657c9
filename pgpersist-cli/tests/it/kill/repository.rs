//! The repository of a yard, as a shell sees it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kill::yard::Yard;
use crate::support::volume::must;

/// Where it is.
pub(crate) fn folder(yard: &Yard) -> PathBuf {
    yard.store().join(".pgpersist/main/repository")
}

/// More than a day passes by the store's clock, which is when its objects were put, and files that never became objects written to.
pub(crate) fn a_day_passes(yard: &Yard) {
    let script = "cd \"$1\" && find . -type f '(' -path './runs/*' -o -path './tombstones/*' -o -name '*.pgpersist-tmp' ')' | while read -r object; do
        touch -d \"@$(($(stat -c %Y \"$object\") - 90000))\" \"$object\"
    done";
    must(Command::new("sh").args(["-c", script, "sh"]).arg(folder(yard)));
}

/// How many objects are below one of its folders.
pub(crate) fn count(yard: &Yard, below: &str) -> usize {
    let script = "cd \"$1\" && { [ ! -d \"$2\" ] || find \"$2\" -type f; } | wc -l";
    must(Command::new("sh").args(["-c", script, "sh"]).arg(folder(yard)).arg(below)).trim().parse().unwrap()
}

/// All that stays, by its content: not what tells of runs that have not ended.
pub(crate) fn fingerprint(yard: &Yard) -> String {
    let script =
        "cd \"$1\" && find . -type f -not -path './runs/*' -not -name '*.pgpersist-tmp' -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";
    must(Command::new("sh").args(["-c", script, "sh"]).arg(folder(yard)))
}

/// PostgreSQL's own program accepts an export.
pub(crate) fn is_accepted(export: &Path) {
    must(crate::support::judge::program("pg_verifybackup").arg(export));
}
