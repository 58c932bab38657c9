//! [`Gathered`]: what some runs of chunks need from the store, read in as few pieces as it lies there in, and made in one go, since to go
//! from one thread to another for each frame takes longer than to make it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::repo::fault::Fault;
use crate::repo::frame::Decompressor;
use crate::repo::layout;
use crate::repo::names::{PackName, Place};
use crate::repo::pack_reader::{Frame, OpenPack};
use crate::repo::repository::Repository;
use crate::repo::trailer::{CHUNK_BYTES, FramePlace};

/// How much is read at once, at most.
const READ_BYTES: u64 = 4 << 20;

/// Which frame of which pack.
pub type FrameKey = (PackName, usize);
/// A frame that was opened.
pub type Opened = (FrameKey, Arc<Frame>);

/// Chunks that lie behind each other in a pack, and where they are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where the first one lies.
    pub first: Place,
    /// How many.
    pub chunks: u32,
    /// Where the first one is wanted; all are whole but perhaps the last one.
    pub at: usize,
    /// How long all of them are together.
    pub bytes: usize,
}

/// What cannot be had, and why.
#[derive(Debug)]
pub struct Lack {
    /// Why.
    pub error: Error,
    /// Which chunks of which run.
    pub chunks: Vec<(usize, Range<u32>)>,
}

/// What was read.
#[derive(Debug)]
pub struct Gathered {
    repository: Repository,
    frames: Vec<Needed>,
    known: HashMap<FrameKey, usize>,
    parts: Vec<Part>,
    lacks: Vec<Lack>,
    /// Where nothing can be made, as is known already.
    blank: Vec<Range<usize>>,
}

/// What became of it.
#[derive(Debug)]
pub struct Made {
    /// Frames of which not all was wanted.
    pub opened: Vec<Opened>,
    /// What cannot be had. There is zero in its place.
    pub lacks: Vec<Lack>,
}

/// One read from the store.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) pack: PackName,
    pub(super) range: Range<u64>,
    frames: Vec<usize>,
}

/// A frame that is needed.
#[derive(Debug)]
struct Needed {
    pack: Arc<OpenPack>,
    place: FramePlace,
    /// How many parts need it.
    parts: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Unread,
    Stored(Bytes),
    Open(Arc<Frame>),
    /// Which of the lacks.
    Lacking(usize),
}

/// What one run needs of one frame.
#[derive(Debug)]
struct Part {
    run: usize,
    /// The first one, counted from the first of the run.
    chunk: u32,
    frame: usize,
    items: Range<u32>,
    at: usize,
    bytes: usize,
}

impl Part {
    fn chunks(&self) -> (usize, Range<u32>) {
        (self.run, self.chunk..self.chunk + (self.items.end - self.items.start))
    }

    /// How long its chunks must be.
    fn lengths(&self) -> impl Iterator<Item = usize> {
        let (chunk, bytes) = (CHUNK_BYTES as usize, self.bytes);
        (0..self.items.len()).map(move |nth| chunk.min(bytes.saturating_sub(nth * chunk)))
    }
}

impl Needed {
    fn make(&mut self, part: &Part, decompressor: &mut Decompressor, out: &mut [u8], opened: &mut Vec<Opened>) -> Result<(), Fault> {
        if let Content::Stored(stored) = &self.content {
            let lengths = self.pack.lengths(&self.place).iter().map(|length| *length as usize);
            if self.parts == 1 && part.items == self.place.items && lengths.eq(part.lengths()) {
                return self.pack.open_frame_into(&self.place, stored, decompressor, out);
            }
            let frame = Arc::new(self.pack.open_frame(&self.place, stored, decompressor)?);
            opened.push(((self.pack.name, self.place.frame), Arc::clone(&frame)));
            self.content = Content::Open(frame);
        }
        let Content::Open(frame) = &self.content else { return Err(Fault::CutOff) };
        let mut rest = out;
        for (item, length) in part.items.clone().zip(part.lengths()) {
            let chunk = frame.item(item).filter(|chunk| chunk.len() == length).ok_or(Fault::CutOff)?;
            let (here, behind) = rest.split_at_mut(length);
            here.copy_from_slice(&chunk);
            rest = behind;
        }
        Ok(())
    }
}

impl Gathered {
    pub(super) fn new(repository: Repository) -> Self {
        Self { repository, frames: Vec::new(), known: HashMap::new(), parts: Vec::new(), lacks: Vec::new(), blank: Vec::new() }
    }

    /// Finds the frames that a run needs.
    pub(super) fn plan(&mut self, nth: usize, run: &Run, pack: &Arc<OpenPack>, kept: impl Fn(&FrameKey) -> Option<Arc<Frame>>) {
        let mut chunk = 0;
        while chunk < run.chunks {
            let found = run.first.item.checked_add(chunk).and_then(|item| Some((item, pack.frame_of(item)?)));
            let Some((item, place)) = found else {
                let error = self.repository.wrong(&layout::pack(pack.name), Fault::Reference { what: "an item" });
                return self.lack(nth, run, chunk, error);
            };
            let chunks = (place.items.end - item).min(run.chunks - chunk);
            let key = (pack.name, place.frame);
            let frame = *self.known.entry(key).or_insert_with(|| {
                let content = kept(&key).map_or(Content::Unread, Content::Open);
                self.frames.push(Needed { pack: Arc::clone(pack), place: place.clone(), parts: 0, content });
                self.frames.len() - 1
            });
            self.frames[frame].parts += 1;
            // A run of more chunks than it has bytes wants nothing of the rest, which is told as wrong when it is made.
            let before = (chunk as usize * CHUNK_BYTES as usize).min(run.bytes);
            let bytes = (chunks as usize * CHUNK_BYTES as usize).min(run.bytes - before);
            self.parts.push(Part { run: nth, chunk, frame, items: item..item + chunks, at: run.at + before, bytes });
            chunk += chunks;
        }
    }

    /// Notes that the chunks of a run from this one on cannot be had.
    pub(super) fn lack(&mut self, nth: usize, run: &Run, from: u32, error: Error) {
        self.lacks.push(Lack { error, chunks: vec![(nth, from..run.chunks)] });
        let before = (from as usize * CHUNK_BYTES as usize).min(run.bytes);
        self.blank.push(run.at + before..run.at + run.bytes);
    }

    /// What has to be read.
    pub(super) fn reads(&self) -> Vec<Read> {
        let unread = |(nth, frame): (usize, &Needed)| matches!(frame.content, Content::Unread).then_some(nth);
        let mut wanted: Vec<usize> = self.frames.iter().enumerate().filter_map(unread).collect();
        wanted.sort_by_key(|nth| (self.frames[*nth].pack.name, self.frames[*nth].place.stored.start));
        let mut reads: Vec<Read> = Vec::new();
        for nth in wanted {
            let (pack, stored) = (self.frames[nth].pack.name, &self.frames[nth].place.stored);
            match reads.last_mut() {
                Some(last) if last.pack == pack && last.range.end == stored.start && stored.end - last.range.start <= READ_BYTES => {
                    last.range.end = stored.end;
                    last.frames.push(nth);
                }
                _ => reads.push(Read { pack, range: stored.clone(), frames: vec![nth] }),
            }
        }
        reads
    }

    /// Takes the answer to a read.
    pub(super) fn take(&mut self, read: &Read, answer: Result<Bytes>) {
        let answer = answer.map_err(|error| {
            self.lacks.push(Lack { error, chunks: Vec::new() });
            self.lacks.len() - 1
        });
        for nth in &read.frames {
            let frame = &mut self.frames[*nth];
            frame.content = match &answer {
                Ok(bytes) => {
                    // Of a pack that was cut off there is less, which its hash tells.
                    let within = |at: u64| usize::try_from(at - read.range.start).unwrap_or(usize::MAX).min(bytes.len());
                    Content::Stored(bytes.slice(within(frame.place.stored.start)..within(frame.place.stored.end)))
                }
                Err(lack) => Content::Lacking(*lack),
            };
        }
    }

    /// Makes all of it where it is wanted: every frame is held against its hash, decrypted and decompressed. Blocking.
    ///
    /// # Panics
    /// When a run is wanted beyond the end of `buffer`.
    pub fn make(mut self, decompressor: &mut Decompressor, buffer: &mut [u8]) -> Made {
        for place in &self.blank {
            buffer[place.clone()].fill(0);
        }
        let (mut opened, parts) = (Vec::new(), std::mem::take(&mut self.parts));
        for part in &parts {
            let out = &mut buffer[part.at..part.at + part.bytes];
            if let Err(fault) = self.frames[part.frame].make(part, decompressor, out, &mut opened) {
                out.fill(0);
                self.note(part, fault);
            }
        }
        Made { opened, lacks: self.lacks }
    }

    fn note(&mut self, part: &Part, fault: Fault) {
        let needed = &mut self.frames[part.frame];
        if let Content::Lacking(lack) = needed.content {
            return self.lacks[lack].chunks.push(part.chunks());
        }
        // One that is open is what was written: wrong is who names it.
        if !matches!(needed.content, Content::Open(_)) {
            needed.content = Content::Lacking(self.lacks.len());
        }
        let error = self.repository.wrong(&layout::pack(needed.pack.name), fault);
        self.lacks.push(Lack { error, chunks: vec![part.chunks()] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::repo::contents::Contents;
    use crate::repo::example::Example;
    use crate::repo::frame::Compression;
    use crate::repo::pack_writer::{PackNumbers, PackWriter};
    use crate::repo::trailer::PackKind;
    use crate::workers;

    const CHUNK: usize = CHUNK_BYTES as usize;
    /// Of the last item.
    const SHORT: usize = 100;

    fn page(number: u32) -> Vec<u8> {
        let bytes = if number % 100 == 99 { SHORT } else { CHUNK };
        (0..bytes as u32).map(|at| ((at / 7) ^ number.wrapping_mul(31)) as u8).collect()
    }

    /// A pack of so many pages, in frames of 24 of them at first; each hundredth one is short.
    async fn pack(example: &mut Example, pages: u32) -> PackName {
        let numbers = PackNumbers::new(example.name());
        let (mut writer, written) = PackWriter::begin(&example.repository, numbers, PackKind::Chunks, Compression::Zstd(1)).unwrap();
        let key = example.repository.hash_key().clone();
        let added = workers::run(move || {
            for number in 0..pages {
                writer.add(&page(number), key.identify(&page(number)), None)?;
            }
            writer.finish()
        });
        added.await.unwrap();
        written.wait().await.unwrap().remove(0).pack
    }

    /// Runs that lie behind each other where they are wanted: from which item of which pack on, and how many.
    fn runs(wanted: &[(PackName, u32, u32)]) -> (Vec<Run>, usize) {
        let mut at = 0;
        let run = |(pack, item, chunks): &(PackName, u32, u32)| {
            let bytes = (*item..item + chunks).map(|number| page(number).len()).sum();
            at += bytes;
            Run { first: Place { pack: *pack, item: *item }, chunks: *chunks, at: at - bytes, bytes }
        };
        (wanted.iter().map(run).collect(), at)
    }

    fn expected(wanted: &[(PackName, u32, u32)]) -> Vec<u8> {
        wanted.iter().flat_map(|(_, item, chunks)| (*item..item + chunks).flat_map(page)).collect()
    }

    async fn made(contents: &mut Contents<'_>, wanted: &[(PackName, u32, u32)]) -> (Vec<u8>, Vec<Lack>) {
        let (runs, bytes) = runs(wanted);
        let mut buffer = vec![7; bytes];
        let made = contents.gather(&runs).await.make(&mut Decompressor::default(), &mut buffer);
        contents.keep(made.opened);
        (buffer, made.lacks)
    }

    #[tokio::test]
    async fn runs_are_made_where_they_are_wanted_however_they_cut_frames() {
        let mut example = Example::new().await;
        let (first, second) = (pack(&mut example, 400).await, pack(&mut example, 40).await);
        let mut contents = Contents::new(&example.repository);
        for wanted in [
            // A whole frame, parts of frames, the end of a file and the begin of another one, all of it, one frame for two runs, out of order.
            &[(first, 0, 24)][..],
            &[(first, 5, 4)],
            &[(first, 8, 92)],
            &[(first, 98, 2), (first, 100, 30), (second, 0, 40)],
            &[(first, 0, 100), (first, 100, 100), (first, 200, 100)],
            &[(first, 48, 3), (first, 60, 12), (first, 51, 9)],
            &[(second, 30, 10), (first, 300, 1), (second, 0, 1)],
            &[],
        ] {
            let (bytes, lacks) = made(&mut contents, wanted).await;
            assert!(lacks.is_empty() && bytes == expected(wanted), "{wanted:?}: {lacks:?}");
        }
    }

    #[tokio::test]
    async fn what_lies_together_is_read_together_and_what_was_opened_is_not_read_again() {
        let mut example = Example::new().await;
        let name = pack(&mut example, 400).await;
        let mut contents = Contents::new(&example.repository);
        let reads = async |contents: &mut Contents<'_>, wanted: &[(PackName, u32, u32)]| {
            let pack = contents.pack(name).await.unwrap();
            let mut gathered = Gathered::new(example.repository.clone());
            let (runs, _) = runs(wanted);
            runs.iter().enumerate().for_each(|(nth, run)| gathered.plan(nth, run, &pack, |_| None));
            gathered.reads().len()
        };
        assert_eq!(reads(&mut contents, &[(name, 0, 100), (name, 100, 100), (name, 200, 17)]).await, 1);
        assert_eq!(reads(&mut contents, &[(name, 320, 16), (name, 0, 24), (name, 24, 24)]).await, 2);
        // The rest of a frame is at hand, also when the pack is gone meanwhile.
        made(&mut contents, &[(name, 3, 2)]).await;
        example.store.delete(&example.repository.key(&layout::pack(name)).unwrap()).await.unwrap();
        let (bytes, lacks) = made(&mut contents, &[(name, 5, 19)]).await;
        assert!(lacks.is_empty() && bytes == expected(&[(name, 5, 19)]));
        let (bytes, lacks) = made(&mut contents, &[(name, 23, 1), (name, 24, 24)]).await;
        assert_eq!((bytes.len(), &bytes[..CHUNK]), (25 * CHUNK, &page(23)[..]));
        assert_eq!((lacks.len(), lacks[0].error.kind(), &lacks[0].chunks), (1, ErrorKind::NotFound, &vec![(1, 0..24)]));
        assert!(bytes[CHUNK..].iter().all(|byte| *byte == 0));
    }

    #[tokio::test]
    async fn a_damaged_frame_takes_its_own_chunks_and_no_others() {
        let mut example = Example::new().await;
        let name = pack(&mut example, 64).await;
        let key = example.repository.key(&layout::pack(name)).unwrap();
        let place = OpenPack::read(&example.repository, name).await.unwrap().places()[1].clone();
        let mut bytes = example.store.get(&key).await.unwrap().to_vec();
        bytes[place.stored.start as usize + 3] ^= 1;
        example.store.put(&key, bytes.into()).await.unwrap();
        let mut contents = Contents::new(&example.repository);
        let wanted = [(name, 10, 50), (name, 30, 2)];
        let (bytes, lacks) = made(&mut contents, &wanted).await;
        assert_eq!((lacks.len(), lacks[0].error.kind(), &lacks[0].chunks), (1, ErrorKind::Damaged, &vec![(0, 14..38), (1, 0..2)]));
        let mut right = expected(&wanted);
        right[14 * CHUNK..38 * CHUNK].fill(0);
        right[50 * CHUNK..].fill(0);
        assert!(bytes == right);
    }

    #[tokio::test]
    async fn a_chunk_of_another_length_or_that_is_not_there_is_told() {
        let mut example = Example::new().await;
        let name = pack(&mut example, 120).await;
        let mut contents = Contents::new(&example.repository);
        for (item, chunks, bytes, lacking) in [
            (96, 4, 4 * CHUNK, 0..4),
            (96, 5, 5 * CHUNK, 0..5),
            (0, 2, CHUNK + 5, 0..2),
            (118, 4, 4 * CHUNK, 2..4),
            (u32::MAX, 2, CHUNK, 0..2),
        ] {
            let run = Run { first: Place { pack: name, item }, chunks, at: 0, bytes };
            let mut buffer = vec![7; bytes];
            let made = contents.gather(&[run]).await.make(&mut Decompressor::default(), &mut buffer);
            assert_eq!((made.lacks.len(), made.lacks[0].error.kind()), (1, ErrorKind::Damaged), "{item}");
            assert_eq!(made.lacks[0].chunks, [(0, lacking)], "{item}");
        }
        // More chunks than bytes, in two frames.
        let run = Run { first: Place { pack: name, item: 20 }, chunks: 10, at: 0, bytes: CHUNK };
        let made = contents.gather(&[run]).await.make(&mut Decompressor::default(), &mut vec![7; CHUNK]);
        let lacking: Vec<_> = made.lacks.iter().flat_map(|lack| lack.chunks.clone()).collect();
        assert_eq!(lacking, [(0, 0..4), (0, 4..10)]);
    }
}
