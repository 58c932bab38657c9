//! The keys of a repository's objects, below its folder.

use crate::repo::names::{PackName, RunName};

/// The descriptor.
pub const DESCRIPTOR: &str = "repository";
/// Where packs lie.
pub const PACKS: &str = "packs/";
/// Where backups lie.
pub const BACKUPS: &str = "backups/";
/// Where intents lie, and the beats beside them.
pub const RUNS: &str = "runs/";
/// Where tombstones lie.
pub const TOMBSTONES: &str = "tombstones/";
/// Where the marks of runs lie that were given up.
pub const DROPPED: &str = "dropped/";

const PACK_SUFFIX: &str = ".pack";
const MANIFEST_SUFFIX: &str = ".manifest";
const INTENT_SUFFIX: &str = ".intent";
const RUN_KEY_SUFFIX: &str = ".key";
const BEAT_SUFFIX: &str = ".beat";
const TOMBSTONE_SUFFIX: &str = ".tombstone";
const DROPPED_SUFFIX: &str = ".dropped";

/// A pack.
pub fn pack(name: PackName) -> String {
    format!("{PACKS}{name}{PACK_SUFFIX}")
}

/// Whose pack a key is, if it is one.
pub fn parse_pack(key: &str) -> Option<PackName> {
    key.strip_prefix(PACKS)?.strip_suffix(PACK_SUFFIX)?.parse().ok()
}

/// A backup's manifest.
pub fn manifest(run: RunName) -> String {
    format!("{BACKUPS}{run}{MANIFEST_SUFFIX}")
}

/// Whose manifest a key is, if it is one.
pub fn parse_manifest(key: &str) -> Option<RunName> {
    key.strip_prefix(BACKUPS)?.strip_suffix(MANIFEST_SUFFIX)?.parse().ok()
}

/// A run's intent.
pub fn intent(run: RunName) -> String {
    format!("{RUNS}{run}{INTENT_SUFFIX}")
}

/// Whose intent a key is, if it is one.
pub fn parse_intent(key: &str) -> Option<RunName> {
    key.strip_prefix(RUNS)?.strip_suffix(INTENT_SUFFIX)?.parse().ok()
}

/// The keys of a run, wrapped; in an encrypted repository alone.
pub fn run_key(run: RunName) -> String {
    format!("{RUNS}{run}{RUN_KEY_SUFFIX}")
}

/// Whose keys these are, if it is a run's.
pub fn parse_run_key(key: &str) -> Option<RunName> {
    key.strip_prefix(RUNS)?.strip_suffix(RUN_KEY_SUFFIX)?.parse().ok()
}

/// The beat of a run: one object that is put again and again, or where nothing may be replaced one more each time.
pub fn beat(run: RunName, number: u32) -> String {
    if number == 0 { format!("{RUNS}{run}{BEAT_SUFFIX}") } else { format!("{RUNS}{run}-{number:06}{BEAT_SUFFIX}") }
}

/// Whose beat a key is, and which one, if it is one.
pub fn parse_beat(key: &str) -> Option<(RunName, u32)> {
    let name = key.strip_prefix(RUNS)?.strip_suffix(BEAT_SUFFIX)?;
    if let Ok(run) = name.parse() {
        return Some((run, 0));
    }
    let (run, number) = name.rsplit_once('-')?;
    let (run, number) = (run.parse().ok()?, number.parse().ok()?);
    (number > 0 && beat(run, number) == key).then_some((run, number))
}

/// A tombstone.
pub fn tombstone(name: RunName) -> String {
    format!("{TOMBSTONES}{name}{TOMBSTONE_SUFFIX}")
}

/// Which tombstone a key is, if it is one.
pub fn parse_tombstone(key: &str) -> Option<RunName> {
    key.strip_prefix(TOMBSTONES)?.strip_suffix(TOMBSTONE_SUFFIX)?.parse().ok()
}

/// The mark of a run that was given up.
pub fn dropped(run: RunName) -> String {
    format!("{DROPPED}{run}{DROPPED_SUFFIX}")
}

/// Which run a key says was given up, if it is such a mark.
pub fn parse_dropped(key: &str) -> Option<RunName> {
    key.strip_prefix(DROPPED)?.strip_suffix(DROPPED_SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn keys_are_read_back_and_nothing_else_is_one() {
        let run = RunName::new(datetime!(2026-02-08 09:33:16 UTC), [15, 142, 125, 108]);
        let name = PackName { run, number: 17 };
        assert_eq!(pack(name), "packs/20260208T093316Z-0f8e7d6c/000017.pack");
        assert_eq!(parse_pack(&pack(name)), Some(name));
        assert_eq!(parse_manifest(&manifest(run)), Some(run));
        assert_eq!(parse_intent(&intent(run)), Some(run));
        assert_eq!(parse_tombstone(&tombstone(run)), Some(run));
        assert_eq!(parse_dropped(&dropped(run)), Some(run));
        for number in [0, 1, 999_999, 1_000_000] {
            assert_eq!(parse_beat(&beat(run, number)), Some((run, number)));
        }
        for wrong in ["runs/20260208T093316Z-0f8e7d6c-1.beat", "runs/20260208T093316Z-0f8e7d6c-000000.beat", "runs/x-000001.beat"] {
            assert_eq!(parse_beat(wrong), None, "{wrong}");
        }
        assert_eq!((run_key(run).as_str(), parse_run_key(&run_key(run))), ("runs/20260208T093316Z-0f8e7d6c.key", Some(run)));
        assert_eq!((parse_intent(&run_key(run)), parse_run_key(&intent(run))), (None, None));
        for wrong in ["", "packs/", "packs/x/000017.pack", "backups/20260208T093316Z-0f8e7d6c", DESCRIPTOR] {
            assert_eq!((parse_pack(wrong), parse_manifest(wrong), parse_intent(wrong)), (None, None, None), "{wrong}");
        }
    }
}
