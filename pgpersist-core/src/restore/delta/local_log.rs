//! [`LocalLog`]: where the log of a cluster that stands here ends, and whether it holds work that a backup has not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::pg::control_file::ControlFile;
use crate::pg::lsn::Lsn;
use crate::pg::wal_page::{LONG_HEADER_SIZE, WalSegmentHeader};
use crate::pg::wal_record::{ALIGNMENT, SHORT_HEADER_SIZE, WalPageHeader, WalRecordHeader, WalWork};
use crate::pg::wal_segment::WalSegment;

/// The log of a stopped cluster, held against where a backup ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalLog {
    /// The end of the last record.
    pub(crate) end: Lsn,
    /// Its timeline.
    pub(crate) timeline: u32,
    /// How many transactions were committed or prepared behind the end of the backup; nothing where that part of the log is gone.
    pub(crate) commits: Option<u64>,
    /// Whether anything would be lost.
    pub(crate) goes_past: bool,
}

impl LocalLog {
    /// Reads the log of a data directory whose server is stopped, against a backup that ends at `stop` on a timeline. Blocking.
    ///
    /// # Errors
    /// [`Error::File`] when the folder of the log cannot be listed.
    pub(crate) fn look(directory: &Path, control: &ControlFile, timeline: u32, stop: Lsn) -> Result<Self> {
        let folder = directory.join("pg_wal");
        let mut reader = Reader::open(&folder, control)?;
        let here = control.timeline.max(control.min_recovery_point_timeline);
        let same = here == timeline;
        // From where the backup ends, if that is before the checkpoint: then every record since is seen.
        let from = if same && control.checkpoint >= stop { stop } else { control.redo };
        let found = reader.walk(from, stop);
        // Else part of it is gone or cannot be read, and nobody knows what it held.
        let whole = found.end > control.checkpoint && found.end >= control.min_recovery_point;
        let end = found.end.max(control.checkpoint).max(control.min_recovery_point);
        let commits = (same && whole).then_some(found.commits);
        Ok(Self { end, timeline: here, commits, goes_past: !same || !whole || found.works })
    }
}

/// What a walk through the log came to.
struct Walked {
    end: Lsn,
    commits: u64,
    works: bool,
}

struct Reader<'a> {
    folder: &'a Path,
    control: &'a ControlFile,
    /// By their numbers the timelines whose segments are there, the youngest first.
    segments: BTreeMap<u64, Vec<u32>>,
    /// The segment that was read last, by number and timeline.
    open: Option<(u64, u32, File)>,
}

impl<'a> Reader<'a> {
    fn open(folder: &'a Path, control: &'a ControlFile) -> Result<Self> {
        let mut segments: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(|error| Error::file("list", folder, error))? {
            let name = entry.map_err(|error| Error::file("list", folder, error))?.file_name();
            if let Some(segment) = name.to_str().and_then(|name| WalSegment::parse(name, control.wal_segment_size)) {
                segments.entry(segment.number).or_default().push(segment.timeline);
            }
        }
        segments.values_mut().for_each(|timelines| timelines.sort_unstable_by_key(|timeline| std::cmp::Reverse(*timeline)));
        Ok(Self { folder, control, segments, open: None })
    }

    /// Reads record after record, and counts those that begin at `past` or behind.
    fn walk(&mut self, from: Lsn, past: Lsn) -> Walked {
        let mut walked = Walked { end: from, commits: 0, works: false };
        let (mut at, mut previous) = (from, None);
        while let Some((begin, header, end)) = self.record(at) {
            if previous.is_some_and(|previous| header.previous != previous) {
                break;
            }
            if begin >= past {
                walked.commits += u64::from(header.work == WalWork::Commit);
                walked.works |= matches!(header.work, WalWork::Commit | WalWork::Other);
            }
            (previous, walked.end, at) = (Some(begin), end, end);
            if header.work == WalWork::Switch {
                at = Lsn(end.0.next_multiple_of(self.control.wal_segment_size.into()));
            }
        }
        walked
    }

    /// The record that begins here, or behind the header of the page that does: where it begins and ends.
    fn record(&mut self, at: Lsn) -> Option<(Lsn, WalRecordHeader, Lsn)> {
        let page_bytes = u64::from(self.control.wal_block_size);
        let mut at = Lsn(at.0.checked_next_multiple_of(ALIGNMENT)?);
        let mut page = self.page(at.0 / page_bytes * page_bytes)?;
        if at.0.is_multiple_of(page_bytes) {
            at = Lsn(at.0 + self.header_bytes(at.0));
        }
        let begin = at;
        let mut offset = usize::try_from(at.0 % page_bytes).ok()?;
        let length = WalRecordHeader::length(page.get(offset..)?)? as usize;
        let mut record = Vec::with_capacity(length);
        loop {
            let here = page.get(offset..)?;
            let taken = here.len().min(length - record.len());
            record.extend_from_slice(&here[..taken]);
            at = Lsn(at.0 + taken as u64);
            if record.len() == length {
                break;
            }
            page = self.page(at.0)?;
            let header = WalPageHeader::parse(&page)?;
            if !header.continues || header.left as usize != length - record.len() {
                return None;
            }
            offset = usize::try_from(self.header_bytes(at.0)).ok()?;
            at = Lsn(at.0 + offset as u64);
        }
        let header = WalRecordHeader::parse(&record)?;
        Some((begin, header, Lsn(at.0.checked_next_multiple_of(ALIGNMENT)?)))
    }

    fn header_bytes(&self, page: u64) -> u64 {
        let begins_segment = page.is_multiple_of(u64::from(self.control.wal_segment_size));
        if begins_segment { LONG_HEADER_SIZE as u64 } else { SHORT_HEADER_SIZE as u64 }
    }

    /// The page at this address, of the youngest timeline that has it: a recycled segment says that it is another one.
    fn page(&mut self, address: u64) -> Option<Vec<u8>> {
        let segment_bytes = u64::from(self.control.wal_segment_size);
        let number = address / segment_bytes;
        let timelines = self.segments.get(&number)?.clone();
        for timeline in timelines {
            let mut page = vec![0; self.control.wal_block_size as usize];
            let Some(file) = self.segment(number, timeline) else { continue };
            if file.read_exact_at(&mut page, address % segment_bytes).is_err() {
                continue;
            }
            let is_ours = !address.is_multiple_of(segment_bytes)
                || WalSegmentHeader::parse(&page).is_some_and(|header| header.system_identifier == self.control.system_identifier);
            if is_ours && WalPageHeader::parse(&page).is_some_and(|header| header.address == Lsn(address)) {
                return Some(page);
            }
        }
        None
    }

    fn segment(&mut self, number: u64, timeline: u32) -> Option<&File> {
        if self.open.as_ref().is_none_or(|(open, of, _)| (*open, *of) != (number, timeline)) {
            let per_log = (1_u64 << 32) / u64::from(self.control.wal_segment_size);
            let name = format!("{timeline:08X}{:08X}{:08X}", number / per_log, number % per_log);
            self.open = Some((number, timeline, File::open(self.folder.join(name)).ok()?));
        }
        self.open.as_ref().map(|(_, _, file)| file)
    }
}
