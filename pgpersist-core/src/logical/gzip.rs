//! Parallel gzip: the stream is cut into blocks, each becomes a gzip member of its own, and the members follow one another.
//!
//! RFC 1952 allows several members in a file, and every `gunzip` reads them as one. A reader in Rust must use a decoder for
//! many members ([`decoder`]): one for a single member stops after the first block as if the rest were not there.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::logical::member::{Choice, MemberWriter};

/// How much input a member holds. Larger ones are hardly smaller in all, and cost memory.
const BLOCK_BYTES: usize = 1024 * 1024;

/// How many blocks are compressed as the first one of them advises.
const BLOCKS_PER_CHOICE: usize = 8;

/// One `pg_dump` delivers what two cores compress; more threads than this only hold memory.
const MOST_THREADS: usize = 6;

/// How many threads compress unless told: one for each core, within bounds.
pub fn default_threads() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).min(NonZeroUsize::new(MOST_THREADS).expect("six is not zero"))
}

/// Reads `input` to its end, shows every block to `inspect`, and hands the compressed members to `emit` in order.
/// Returns the number of bytes read. Blocks the calling thread.
///
/// Memory: at most `2 × threads + 3` blocks are on their way, each of 1 MiB and its compressed form of at most as much,
/// plus 2 MiB a thread: 42 MiB with six threads.
///
/// When `emit` fails, the call returns as soon as the current read from `input` does: end the writer of a pipe then.
///
/// # Errors
/// [`Error::File`] with `input_name` when reading fails; what `emit` returns.
pub fn compress<R, I, E>(input: R, input_name: &str, threads: NonZeroUsize, inspect: I, mut emit: E) -> Result<u64>
where
    R: Read + Send,
    I: FnMut(&[u8]) + Send,
    E: FnMut(Bytes) -> Result<()>,
{
    let threads = threads.get();
    // The order of members is the order of this queue; its length bounds the blocks in flight.
    let (promise, promised) = mpsc::sync_channel::<Receiver<Result<Bytes>>>(2 * threads);
    let (job, jobs) = mpsc::sync_channel::<Job>(threads);
    let jobs = Mutex::new(jobs);
    // Used blocks go back to the reader: as many as are in flight.
    let (give_back, free_blocks) = mpsc::channel::<Vec<u8>>();
    thread::scope(|scope| {
        for _ in 0..threads {
            let give_back = give_back.clone();
            let jobs = &jobs;
            scope.spawn(move || compress_blocks(jobs, &give_back));
        }
        drop(give_back);
        let reader = scope.spawn(move || read_blocks(input, input_name, inspect, &free_blocks, &promise, &job));
        let mut outcome = Ok(());
        while let Ok(member) = promised.recv() {
            outcome = match member.recv() {
                Ok(member) => member.and_then(&mut emit),
                Err(_) => Err(Error::Bug("a compressing thread ended early".to_owned())),
            };
            if outcome.is_err() {
                break;
            }
        }
        // Tells the reader to stop where it waits for room.
        drop(promised);
        let read = reader.join().unwrap_or_else(|_| Err(Error::Bug("the reading thread panicked".to_owned())));
        outcome.and(read)
    })
}

/// The flag of a comment in a header, and those of what stands before it; see RFC 1952, 2.3.1.
const HAS_COMMENT: u8 = 0x10;
const HAS_NAME: u8 = 0x08;
const HAS_EXTRA: u8 = 0x04;
/// How long a header without any of these is.
const HEADER_BYTES: usize = 10;

/// The same member with a comment in its header, which every gunzip passes over.
///
/// # Errors
/// [`Error::Bug`] for what is no plain header, and for a comment that a header cannot hold.
pub(super) fn with_comment(member: &[u8], comment: &str) -> Result<Bytes> {
    if member.len() < HEADER_BYTES || member[3] != 0 || !comment.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err(Error::Bug("a gzip header cannot take a comment".to_owned()));
    }
    let mut commented = Vec::with_capacity(member.len() + comment.len() + 1);
    commented.extend_from_slice(&member[..HEADER_BYTES]);
    commented[3] |= HAS_COMMENT;
    commented.extend_from_slice(comment.as_bytes());
    commented.push(0);
    commented.extend_from_slice(&member[HEADER_BYTES..]);
    Ok(commented.into())
}

/// The comment in the header of the first member, from the first bytes of a stream. `None` where there is none, or they end before it
/// does.
pub(super) fn comment(start: &[u8]) -> Option<&str> {
    let flags = *start.get(3).filter(|flags| start.starts_with(&[0x1f, 0x8b, 8]) && **flags & HAS_COMMENT != 0)?;
    let mut rest = start.get(HEADER_BYTES..)?;
    if flags & HAS_EXTRA != 0 {
        let length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
        rest = rest.get(2 + length..)?;
    }
    let mut text = || {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (text, behind) = rest.split_at(end);
        rest = &behind[1..];
        Some(text)
    };
    if flags & HAS_NAME != 0 {
        text()?;
    }
    std::str::from_utf8(text()?).ok()
}

/// A decoder for gzip of any make, of one member or many.
pub fn decoder<R: io::BufRead>(input: R) -> flate2::bufread::MultiGzDecoder<R> {
    flate2::bufread::MultiGzDecoder::new(input)
}

struct Job {
    block: Vec<u8>,
    length: usize,
    choice: Arc<Choice>,
    done: SyncSender<Result<Bytes>>,
}

fn read_blocks(
    mut input: impl Read,
    input_name: &str,
    mut inspect: impl FnMut(&[u8]),
    free_blocks: &Receiver<Vec<u8>>,
    promise: &SyncSender<Receiver<Result<Bytes>>>,
    job: &SyncSender<Job>,
) -> Result<u64> {
    let mut total = 0;
    let mut choice = Arc::new(Choice::by(&[]));
    for number in 0.. {
        let mut block = free_blocks.try_recv().unwrap_or_else(|_| vec![0; BLOCK_BYTES]);
        let length = fill(&mut input, &mut block).map_err(|e| Error::file("read", input_name, e))?;
        // Nothing at all still makes one member: an empty file is no gzip.
        if length == 0 && total > 0 {
            return Ok(total);
        }
        inspect(&block[..length]);
        total += length as u64;
        if number % BLOCKS_PER_CHOICE == 0 {
            choice = Arc::new(Choice::by(&block[..length]));
        }
        let (done, member) = mpsc::sync_channel(1);
        let next = Job { block, length, choice: Arc::clone(&choice), done };
        // A closed queue means that `emit` failed, which is the error to report.
        if promise.send(member).is_err() || job.send(next).is_err() || length < BLOCK_BYTES {
            break;
        }
    }
    Ok(total)
}

fn compress_blocks(jobs: &Mutex<Receiver<Job>>, give_back: &mpsc::Sender<Vec<u8>>) {
    let mut writer = MemberWriter::new(BLOCK_BYTES);
    loop {
        let next = jobs.lock().map(|jobs| jobs.recv());
        let Ok(Ok(Job { block, length, choice, done })) = next else { return };
        let result = writer.write(&block[..length], &choice).map(Bytes::copy_from_slice);
        // Nobody waits for the result or the block any more when the whole failed.
        let _ = give_back.send(block);
        let _ = done.send(result);
    }
}

fn fill(input: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match input.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces of odd sizes, as a pipe does.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn zip(data: &[u8], piece: usize, threads: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        let mut out = Vec::new();
        let threads = NonZeroUsize::new(threads).unwrap();
        let inspect = |block: &[u8]| seen.extend_from_slice(block);
        let total = compress(Pieces(data, piece), "test", threads, inspect, |member| {
            out.extend_from_slice(&member);
            Ok(())
        })
        .unwrap();
        assert_eq!(total, data.len() as u64);
        assert!(seen == data);
        out
    }

    fn many_blocks() -> Vec<u8> {
        (0..700_000_u32).flat_map(|i| format!("{}\t{}\n", i, i.wrapping_mul(2_654_435_761)).into_bytes()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_bytes_come_back(data in proptest::collection::vec(any::<u8>(), 0..5000), repeat in 1_usize..700, piece in 1_usize..300_000, threads in 1_usize..4) {
            let data = data.repeat(repeat);
            let zipped = zip(&data, piece, threads);
            let mut back = Vec::new();
            decoder(&zipped[..]).read_to_end(&mut back).unwrap();
            prop_assert!(back == data);
        }
    }

    #[test]
    fn the_systems_gunzip_reads_it() {
        for data in [Vec::new(), b"x".to_vec(), many_blocks()] {
            let zipped = zip(&data, 65_536, 3);
            let mut gunzip = Command::new("gunzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut stdin = gunzip.stdin.take().unwrap();
            let writer = thread::spawn(move || stdin.write_all(&zipped));
            let output = gunzip.wait_with_output().unwrap();
            writer.join().unwrap().unwrap();
            assert!(output.status.success());
            assert!(output.stdout == data);
        }
    }

    #[test]
    fn a_comment_is_found_again_and_disturbs_nobody() {
        let zipped = zip(b"SELECT 1;", 10, 1);
        let commented = with_comment(&zipped, "pgpersist place").unwrap();
        assert_eq!((comment(&commented), comment(&zipped)), (Some("pgpersist place"), None));
        let mut back = Vec::new();
        decoder(&commented[..]).read_to_end(&mut back).unwrap();
        assert_eq!(back, b"SELECT 1;");
        let mut named = vec![0x1f, 0x8b, 8, HAS_EXTRA | HAS_NAME | HAS_COMMENT, 0, 0, 0, 0, 0, 3, 2, 0, 7, 7];
        named.extend_from_slice(b"name\0what it is\0rest");
        assert_eq!(comment(&named), Some("what it is"));
        for end in 0..named.len() - 5 {
            assert_eq!(comment(&named[..end]), None, "{end}");
        }
        assert!(with_comment(&commented, "again").is_err() && with_comment(&zipped, "a\0b").is_err());
    }

    #[test]
    fn a_failing_store_ends_the_work() {
        let data = many_blocks();
        let mut count = 0;
        let threads = NonZeroUsize::new(2).unwrap();
        let result = compress(
            &data[..],
            "test",
            threads,
            |_| (),
            |_| {
                count += 1;
                if count == 3 { Err(Error::unavailable("the store is full", "")) } else { Ok(()) }
            },
        );
        assert_eq!(result.unwrap_err().to_string(), "the store is full");
    }

    #[test]
    fn a_failing_input_is_an_error() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let result = compress(Broken, "the pipe", NonZeroUsize::MIN, |_| (), |_| Ok(()));
        assert_eq!(result.unwrap_err().to_string(), "could not read the pipe");
    }
}
