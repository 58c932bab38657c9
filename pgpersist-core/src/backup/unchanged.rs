//! [`Unchanged`]: which files need not be read again, since they certainly are what the parent read.
//!
//! Linux notes the time of a write before what is written can be read: a backup may see the new time and read the old content, which the log
//! of that backup repairs, and no later one's. A margin around the read is no proof, since the writer may have been stopped in between. But
//! the checkpoint that a backup begins with waits for all writes that began before it. So only the times of before that moment count, and a
//! file that was touched since is read. A standby makes no checkpoint of its own, so what was read from one is read again.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::statfs;
use time::{Duration, OffsetDateTime};

use crate::backup::source::SourceFile;
use crate::pg::backup_label::BackupLabel;
use crate::repo::entry::FileEntry;
use crate::repo::manifest::Manifest;

/// How long before the parent's beginning a file must have been left alone. Times of files come from a clock that ticks some hundred times
/// a second.
const MARGIN: Duration = Duration::seconds(2);

/// File systems that note each change of a file in its times, at once, by this machine's clock; see `linux/magic.h`. Those of a network,
/// whose answers may be old, are not among them.
const TRUSTED: &[u32] = &[
    0x0000_EF53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0x2FC1_2FC1, // ZFS
    0xF2F5_2010, // F2FS
    0x0102_1994, // tmpfs
    0x794C_7630, // overlay
];

/// What a parent's files are held against.
#[derive(Debug)]
pub struct Unchanged {
    /// Times from here on do not count.
    before_ns: i128,
    /// What was not read since then is read now.
    read_since: OffsetDateTime,
    now: OffsetDateTime,
    /// Files in which pages were damaged: what is wrong with them must be told each time.
    damaged: HashSet<Vec<u8>>,
    /// Devices whose times of files can be built on.
    trusted: HashSet<u64>,
}

impl Unchanged {
    /// Nothing where all files must be read: the clock went back since the parent began, the parent is a standby's, or `full_read` is zero.
    /// `files` are all that there are, `now` a moment after they were looked at, `trusted` what [`trusted`] says of where they lie.
    pub fn since(parent: &Manifest, files: &[SourceFile], now: OffsetDateTime, full_read: Duration, trusted: HashSet<u64>) -> Option<Self> {
        // Nobody but the kernel sets this time: one that lies ahead was noted before the clock went back.
        let went_back = now <= parent.stopped_at || files.iter().any(|file| i128::from(file.stamp.changed_ns) > now.unix_timestamp_nanos());
        let from_standby = BackupLabel::parse(&parent.backup_label).is_none_or(|label| label.from_standby);
        if went_back || from_standby || full_read <= Duration::ZERO {
            return None;
        }
        Some(Self {
            before_ns: (parent.started_at - MARGIN).unix_timestamp_nanos(),
            // Longer ago than names of runs can tell is for ever.
            read_since: now.checked_sub(full_read).unwrap_or(OffsetDateTime::UNIX_EPOCH),
            now,
            damaged: parent.damaged_pages.iter().map(|page| page.path.clone().into_bytes()).collect(),
            trusted,
        })
    }

    /// Whether a file is what the parent's entry says.
    pub fn is(&self, file: &SourceFile, before: &FileEntry) -> bool {
        let quiet = |time_ns: i64| i128::from(time_ns) < self.before_ns;
        file.size == before.size
            && file.stamp == before.stamp
            && quiet(file.stamp.modified_ns)
            && quiet(file.stamp.changed_ns)
            && self.need_not_read(file, before)
            && self.trusted.contains(&file.stamp.device)
    }

    /// Whether a file may be left unread if something tells that it did not change: it was read not long ago, and had no damage.
    pub fn need_not_read(&self, file: &SourceFile, before: &FileEntry) -> bool {
        let read = before.read_fully.began_at();
        self.read_since < read && read <= self.now && !self.damaged.contains(file.path.as_bytes())
    }
}

/// The devices among those of these folders where the times of files can be built on. Blocking.
pub fn trusted(folders: &[PathBuf]) -> HashSet<u64> {
    // The type of the number differs between machines, its lower half does not.
    let is_known = |folder: &&PathBuf| statfs(folder.as_path()).is_ok_and(|about| TRUSTED.contains(&(about.f_type as u32)));
    folders.iter().filter(is_known).filter_map(|folder| Some(fs::metadata(folder).ok()?.dev())).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::repo::entry::{EntryPath, Mode, Stamp};
    use crate::repo::manifest::{ClusterFacts, DamagedPage, Sizes, WalRange};
    use crate::repo::names::RunName;

    const START: OffsetDateTime = datetime!(2026-02-08 09:33:16.5 UTC);
    const NOW: OffsetDateTime = datetime!(2026-02-09 09:33:16 UTC);
    const WEEK: Duration = Duration::days(7);
    const LABEL: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n\
        BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-02-08 09:33:16 UTC\nLABEL: pgpersist\nSTART TIMELINE: 1\n";

    fn parent() -> Manifest {
        Manifest {
            backup: run(START),
            parent: None,
            label: None,
            started_at: START,
            stopped_at: START + Duration::minutes(10),
            cluster: ClusterFacts {
                system_identifier: "7".to_owned(),
                server_version: "15.20".to_owned(),
                major: 15,
                control_version: 1300,
                catalog_version: 202_209_061,
                wal_segment_size: 16 << 20,
                blocks_per_segment: 131_072,
                data_checksums: true,
            },
            wal: WalRange { timeline: 1, start_lsn: "0/2000028".to_owned(), stop_lsn: "0/2000138".to_owned() },
            backup_label: LABEL.to_owned(),
            tablespace_map: None,
            tablespaces: Vec::new(),
            entries: Vec::new(),
            packs: Vec::new(),
            sizes: Sizes::default(),
            damaged_pages: vec![DamagedPage {
                path: "base/5/666".to_owned(),
                block: 7,
                stored: 1,
                computed: 2,
                sha256: String::new(),
                known: false,
            }],
            outside: Vec::new(),
        }
    }

    fn run(began_at: OffsetDateTime) -> RunName {
        RunName::new(began_at, [1, 2, 3, 4])
    }

    fn nanoseconds(at: OffsetDateTime) -> i64 {
        i64::try_from(at.unix_timestamp_nanos()).unwrap()
    }

    /// A file that was touched at this time, and what the parent says of it.
    fn file(path: &str, touched: OffsetDateTime) -> (SourceFile, FileEntry) {
        let stamp = Stamp { modified_ns: nanoseconds(touched), changed_ns: nanoseconds(touched), inode: 12, device: 34 };
        let path = EntryPath::new(path.as_bytes()).unwrap();
        let file = SourceFile {
            path,
            location: "nowhere".into(),
            size: 8192,
            mode: Mode::from_bits(0o600),
            stamp,
            first_block: Some(0),
            fork: None,
        };
        (file, FileEntry { mode: Mode::from_bits(0o600), size: 8192, leaves: Vec::new(), stamp, read_fully: run(START) })
    }

    fn since(files: &[SourceFile], now: OffsetDateTime, full_read: Duration) -> Option<Unchanged> {
        Unchanged::since(&parent(), files, now, full_read, HashSet::from([34, 35]))
    }

    fn unchanged(now: OffsetDateTime) -> Unchanged {
        since(&[], now, WEEK).unwrap()
    }

    #[test]
    fn a_file_that_was_left_alone_is_unchanged_and_any_difference_is_a_change() {
        let (now, before) = file("base/5/1", START - Duration::hours(1));
        assert!(unchanged(NOW).is(&now, &before));
        let with = |stamp: Stamp| SourceFile { stamp, ..now.clone() };
        for other in [
            SourceFile { size: 16_384, ..now.clone() },
            with(Stamp { modified_ns: now.stamp.modified_ns + 1, ..now.stamp }),
            with(Stamp { changed_ns: now.stamp.changed_ns + 1, ..now.stamp }),
            with(Stamp { inode: 13, ..now.stamp }),
            with(Stamp { device: 35, ..now.stamp }),
        ] {
            assert!(!unchanged(NOW).is(&other, &before), "{other:?}");
        }
    }

    #[test]
    fn a_file_on_a_file_system_that_is_not_known_is_read() {
        let (now, before) = file("base/5/1", START - Duration::hours(1));
        let elsewhere = Stamp { device: 99, ..now.stamp };
        assert!(!unchanged(NOW).is(&SourceFile { stamp: elsewhere, ..now }, &FileEntry { stamp: elsewhere, ..before }));
        let folder = tempfile::tempdir().unwrap();
        let (place, processes) = (folder.path().to_owned(), PathBuf::from("/proc"));
        let found = trusted(&[place.clone(), processes, PathBuf::from("/nowhere")]);
        assert!(found.iter().all(|device| *device == fs::metadata(&place).unwrap().dev()), "{found:?}");
    }

    #[test]
    fn a_file_that_was_touched_within_the_same_tick_as_the_parent_began_or_later_is_read() {
        for (ago, expected) in [(-600, false), (0, false), (1, false), (2, false), (3, true)] {
            let (now, before) = file("base/5/1", START - Duration::seconds(ago));
            // Its times say that nothing changed, and they cannot know.
            assert_eq!(unchanged(NOW).is(&now, &before), expected, "{ago} s before the parent began");
        }
        let (now, before) = file("base/5/1", START - Duration::hours(1));
        // The content may have been put back to an older time; the time of the change cannot.
        let stamp = Stamp { changed_ns: nanoseconds(START), ..now.stamp };
        assert!(!unchanged(NOW).is(&SourceFile { stamp, ..now }, &FileEntry { stamp, ..before }));
    }

    #[test]
    fn each_file_is_read_once_in_a_while() {
        let (now, before) = file("base/5/1", START - Duration::hours(1));
        assert!(unchanged(START + WEEK - Duration::seconds(1)).is(&now, &before));
        assert!(!unchanged(START + WEEK).is(&now, &before));
        let of_the_future = FileEntry { read_fully: run(NOW + Duration::days(1)), ..before };
        assert!(!unchanged(NOW).is(&now, &of_the_future));
        assert!(since(&[], NOW, Duration::ZERO).is_none());
    }

    #[test]
    fn a_file_with_damaged_pages_is_read_again() {
        let (now, before) = file("base/5/666", START - Duration::hours(1));
        assert!(!unchanged(NOW).is(&now, &before));
    }

    #[test]
    fn what_was_read_from_a_standby_is_read_again() {
        let of_standby = Manifest { backup_label: LABEL.replace("FROM: primary", "FROM: standby"), ..parent() };
        assert!(Unchanged::since(&of_standby, &[], NOW, WEEK, HashSet::from([34])).is_none());
    }

    #[test]
    fn where_the_clock_went_back_all_is_read() {
        assert!(since(&[], parent().stopped_at, WEEK).is_none());
        let (ahead, _) = file("base/5/1", NOW + Duration::seconds(1));
        assert!(since(&[ahead], NOW, WEEK).is_none());
    }
}
