//! How far a recovery is, how fast, and how long it will still take: seen from outside, since nobody can log in yet.
//!
//! The process that replays writes the segment at hand into its title (`update_process_title`, *Monitoring Database
//! Activity*; `walreceiver` and `xlogrecovery.c`, PostgreSQL 17). After a crash the log ends with the last segment in `pg_wal`
//! whose first page says that it is this very segment: recycled ones that are not written yet still say what they were.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::pg::lsn::Lsn;
use crate::pg::wal_page::{LONG_HEADER_SIZE, WalSegmentHeader};
use crate::server::process;

/// What a recovery has done and has to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RecoveryProgress {
    /// Where it began.
    pub from: Lsn,
    /// The beginning of the segment at hand.
    pub replayed: Lsn,
    /// Where the log ends, as far as it is known: a recovery from an archive goes on as long as the archive has more.
    pub end: Option<Lsn>,
    /// Bytes of log a second, since it was first seen; `None` until it has replayed a segment under our eyes.
    pub bytes_per_s: Option<f64>,
    /// Seconds until the end at this rate.
    pub eta_s: Option<f64>,
    /// Seconds since it was first seen.
    pub elapsed_s: f64,
}

/// Watches one recovery from look to look.
#[derive(Debug, Default)]
pub(crate) struct RecoveryWatch {
    first: Option<(Instant, Lsn)>,
}

impl RecoveryWatch {
    /// Looks once; `None` where no process replays. Blocking.
    pub(crate) fn look(&mut self, directory: &Path, postmaster: i32, from: Lsn, segment_bytes: u32) -> Option<RecoveryProgress> {
        let segment = process::descendants(postmaster).into_iter().find_map(segment_at_hand)?;
        let replayed = begin_of(&segment, segment_bytes)?;
        let now = Instant::now();
        let (since, seen_at) = *self.first.get_or_insert((now, replayed));
        let from_archive = ["recovery.signal", "standby.signal"].iter().any(|name| directory.join(name).exists());
        let end = if from_archive { None } else { end_of_log(&directory.join("pg_wal"), &segment, segment_bytes) };
        Some(RecoveryProgress::between(from, seen_at, replayed, end, now - since))
    }
}

impl RecoveryProgress {
    fn between(from: Lsn, seen_at: Lsn, replayed: Lsn, end: Option<Lsn>, elapsed: Duration) -> Self {
        let done = replayed.0.saturating_sub(seen_at.0);
        let bytes_per_s = (done > 0 && !elapsed.is_zero()).then(|| done as f64 / elapsed.as_secs_f64());
        let left = end.map(|end| end.0.saturating_sub(replayed.0) as f64);
        let eta_s = left.zip(bytes_per_s).map(|(left, rate)| (left / rate).ceil());
        // It may begin in the middle of the segment at hand.
        let replayed = replayed.max(from);
        Self { from, replayed, end, bytes_per_s, eta_s, elapsed_s: elapsed.as_secs_f64() }
    }

    /// In one line, for people.
    pub fn describe(&self) -> String {
        let mut text = format!("recovering since {:.0} s: replayed up to {}", self.elapsed_s, self.replayed);
        if let Some(end) = self.end {
            text += &format!(" of {end}");
        }
        if let Some(rate) = self.bytes_per_s {
            text += &format!(", {:.1} MB/s", rate / 1e6);
        }
        if let Some(eta) = self.eta_s {
            text += &format!(", about {eta:.0} s to go");
        }
        text
    }
}

/// The segment in the title of a process that replays.
fn segment_at_hand(pid: i32) -> Option<String> {
    let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let title = String::from_utf8_lossy(&title);
    let (_, doing) = title.split_once("startup ")?;
    let name = doing.trim_end_matches(['\0', ' ']).rsplit(' ').next()?;
    is_segment(name).then(|| name.to_owned())
}

fn is_segment(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
}

/// Where a segment begins; see `XLogFileName` in `xlog_internal.h`.
fn begin_of(segment: &str, segment_bytes: u32) -> Option<Lsn> {
    let (log, number) = (u64::from_str_radix(segment.get(8..16)?, 16).ok()?, u64::from_str_radix(segment.get(16..24)?, 16).ok()?);
    Some(Lsn(log.checked_shl(32)?.checked_add(number.checked_mul(u64::from(segment_bytes))?)?))
}

/// The end of the last segment, from the one at hand on, that holds its own log.
fn end_of_log(folder: &Path, at_hand: &str, segment_bytes: u32) -> Option<Lsn> {
    let names = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let begins = names.filter(|name| is_segment(name) && name.as_str() >= at_hand).filter_map(|name| {
        let begin = begin_of(&name, segment_bytes)?;
        let mut header = [0; LONG_HEADER_SIZE];
        File::open(folder.join(name)).ok()?.read_exact(&mut header).ok()?;
        WalSegmentHeader::parse(&header).filter(|header| header.address == begin).map(|_| begin)
    });
    begins.max().map(|begin| Lsn(begin.0.saturating_add(u64::from(segment_bytes))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SEGMENT: u32 = 16 << 20;

    #[test]
    fn a_rate_needs_something_done_and_an_end_makes_it_a_time() {
        let look = |replayed: u64, end: Option<u64>, seconds: u64| {
            let lsn = |segments: u64| Lsn(segments * u64::from(SEGMENT));
            RecoveryProgress::between(lsn(1), lsn(2), lsn(replayed), end.map(lsn), Duration::from_secs(seconds))
        };
        assert_eq!(look(2, Some(9), 5).bytes_per_s, None);
        let later = look(4, Some(10), 4);
        assert_eq!((later.bytes_per_s, later.eta_s), (Some(f64::from(SEGMENT) / 2.0), Some(12.0)));
        assert_eq!(look(4, None, 4).eta_s, None);
        assert_eq!(later.describe(), "recovering since 4 s: replayed up to 0/4000000 of 0/A000000, 8.4 MB/s, about 12 s to go");
    }

    #[test]
    fn the_log_ends_before_recycled_segments() {
        let folder = tempfile::tempdir().unwrap();
        let name = |number: u32| format!("0000000100000000{number:08X}");
        let put = |name: &str, bytes: &[u8]| File::create(folder.path().join(name)).unwrap().write_all(bytes).unwrap();
        let write = |number: u32, says: u32| {
            let mut header = [0; LONG_HEADER_SIZE];
            header[0] = 0x10;
            header[2] = 2;
            header[8..16].copy_from_slice(&(u64::from(says) * u64::from(SEGMENT)).to_le_bytes());
            put(&name(number), &header);
        };
        for (number, says) in [(3, 3), (4, 4), (5, 5), (6, 2), (7, 1)] {
            write(number, says);
        }
        put(&name(8), &[0; 100]);
        assert_eq!(end_of_log(folder.path(), &name(4), SEGMENT), Some(Lsn(6 * u64::from(SEGMENT))));
        assert_eq!(begin_of("00000002000000AB000000FE", SEGMENT), Some(Lsn(0xAB_FE00_0000)));
        assert!(!is_segment("00000002.history") && !is_segment("000000010000000000000003.partial"));
    }
}
