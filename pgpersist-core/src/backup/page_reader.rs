//! [`PageReader`]: the chunks of a file, each page held against its checksum, and read again where the server was just writing it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::pg::lsn::Lsn;
use crate::pg::page::{PAGE_SIZE, Page, PageCheck};

/// How often a page is read again before it counts as suspicious.
const TRIES: u32 = 5;
/// How long the server has between two tries to end its write.
const PAUSE: Duration = Duration::from_millis(20);

/// A page that was wrong whenever it was read. Whether the log repairs it is known when the backup has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspiciousPage {
    /// Its number within its fork.
    pub block: u32,
    /// What the page says of its last change.
    pub lsn: Lsn,
    /// Whether it changed while it was read again.
    pub changing: bool,
    /// The checksum on the page.
    pub stored: u16,
    /// The checksum of what is on the page.
    pub computed: u16,
    /// The first half of its SHA-256.
    pub sha256: [u8; 16],
}

impl SuspiciousPage {
    /// Whether it was torn by a write of the server's, which the log between these positions repairs: its last change lies between them, and
    /// the server was seen writing it. A page that says so of itself alone may be garbage that happens to say so.
    pub fn is_torn(&self, start: Lsn, stop: Lsn) -> bool {
        self.changing && start <= self.lsn && self.lsn <= stop
    }
}

/// Reads pages of one file.
#[derive(Debug)]
pub struct PageReader<'a> {
    file: &'a File,
    first_block: Option<u32>,
    reading: Duration,
    verifying: Duration,
}

impl<'a> PageReader<'a> {
    /// `first_block` is the number of the file's first page within its fork; without one, pages are not looked at.
    pub fn new(file: &'a File, first_block: Option<u32>) -> Self {
        Self { file, first_block, reading: Duration::ZERO, verifying: Duration::ZERO }
    }

    /// How long it has read, and how long it has held pages against their checksums.
    pub fn spent(&self) -> (Duration, Duration) {
        (self.reading, self.verifying)
    }

    /// Fills as much of `buffer` as there is, from `offset`, a multiple of a page's size. The buffer has whole pages.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8], suspicious: &mut Vec<SuspiciousPage>) -> io::Result<usize> {
        let began = Instant::now();
        let read = fill(self.file, offset, buffer)?;
        self.reading += began.elapsed();
        let Some(first_block) = self.first_block else { return Ok(read) };
        let began = Instant::now();
        for (at, page) in buffer[..read].chunks_exact_mut(PAGE_SIZE).enumerate() {
            let offset = offset + (at * PAGE_SIZE) as u64;
            let Some(block) = u32::try_from(offset / PAGE_SIZE as u64).ok().and_then(|page| first_block.checked_add(page)) else {
                continue;
            };
            if check(page, block).is_none() {
                continue;
            }
            suspicious.extend(self.read_again(offset, block, page)?);
        }
        self.verifying += began.elapsed();
        Ok(read)
    }

    /// Reads a page until it is right; if it never is, tells what it was like the last time.
    fn read_again(&self, offset: u64, block: u32, page: &mut [u8]) -> io::Result<Option<SuspiciousPage>> {
        let mut changing = false;
        for _ in 0..TRIES {
            std::thread::sleep(PAUSE);
            let before = page.to_vec();
            if fill(self.file, offset, page)? < PAGE_SIZE {
                // The file was cut off before it: recovery cuts it off again.
                return Ok(None);
            }
            if check(page, block).is_none() {
                return Ok(None);
            }
            changing |= before != page;
        }
        let (stored, computed) = check(page, block).unwrap_or_default();
        let lsn = Page::new(page).map(Page::lsn).unwrap_or_default();
        let mut sha256 = [0; 16];
        sha256.copy_from_slice(&Sha256::digest(&*page)[..16]);
        Ok(Some(SuspiciousPage { block, lsn, changing, stored, computed, sha256 }))
    }
}

/// What is wrong with a page.
fn check(page: &[u8], block: u32) -> Option<(u16, u16)> {
    match Page::new(page)?.verify(block) {
        PageCheck::Good | PageCheck::New => None,
        PageCheck::NotZero => Some((0, 0)),
        PageCheck::WrongChecksum { stored, computed } => Some((stored, computed)),
    }
}

fn fill(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn page(block: u32, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; PAGE_SIZE];
        bytes[14..16].copy_from_slice(&8000_u16.to_le_bytes());
        let checksum = Page::new(&bytes).unwrap().checksum(block);
        bytes[8..10].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn file(pages: &[Vec<u8>]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        pages.iter().for_each(|page| file.write_all(page).unwrap());
        file
    }

    #[test]
    fn good_and_new_pages_pass_and_a_part_of_a_page_is_no_page() {
        let file = file(&[page(100, 1), vec![0; PAGE_SIZE], page(102, 3), vec![7; 100]]);
        let (mut buffer, mut suspicious) = (vec![0; 4 * PAGE_SIZE], Vec::new());
        let read = PageReader::new(&file, Some(100)).read(0, &mut buffer, &mut suspicious).unwrap();
        assert_eq!((read, suspicious), (3 * PAGE_SIZE + 100, Vec::new()));
    }

    #[test]
    fn a_page_that_stays_wrong_is_told_with_its_block() {
        let mut bad = page(101, 2);
        bad[500] ^= 1;
        let file = file(&[page(100, 1), bad]);
        let (mut buffer, mut suspicious) = (vec![0; 2 * PAGE_SIZE], Vec::new());
        PageReader::new(&file, Some(100)).read(0, &mut buffer, &mut suspicious).unwrap();
        assert_eq!((suspicious.len(), suspicious[0].block, suspicious[0].changing), (1, 101, false));
        let lsn = suspicious[0].lsn;
        // However well its position fits: nobody was writing it.
        assert!(!suspicious[0].is_torn(Lsn(0), Lsn(u64::MAX)));
        let seen = SuspiciousPage { changing: true, ..suspicious[0].clone() };
        assert!(seen.is_torn(lsn, lsn));
        assert!(!seen.is_torn(Lsn(lsn.0 + 1), Lsn(u64::MAX)) && !seen.is_torn(Lsn(0), Lsn(lsn.0 - 1)));
    }

    #[test]
    fn what_is_no_relation_is_not_looked_at() {
        let file = file(&[vec![9; PAGE_SIZE]]);
        let (mut buffer, mut suspicious) = (vec![0; PAGE_SIZE], Vec::new());
        PageReader::new(&file, None).read(0, &mut buffer, &mut suspicious).unwrap();
        assert!(suspicious.is_empty());
    }

    #[test]
    fn a_page_that_the_server_ends_writing_is_taken_as_it_is_then() {
        let (good, mut torn) = (page(5, 1), page(5, 1));
        torn[4096..].fill(2);
        let file = file(&[torn]);
        let writer = file.try_clone().unwrap();
        let ending = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            writer.write_at(&page(5, 1), 0).unwrap();
        });
        let (mut buffer, mut suspicious) = (vec![0; PAGE_SIZE], Vec::new());
        PageReader::new(&file, Some(5)).read(0, &mut buffer, &mut suspicious).unwrap();
        ending.join().unwrap();
        assert_eq!((buffer == good, suspicious), (true, Vec::new()));
    }
}
