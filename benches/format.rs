//! How long should a chunk, a frame and a pack be, and what do the maps take?
//!
//!     cargo bench --package pgpersist-benches -- format --scale 30 --rounds 7
//!
//! So many days of one in a hundred rows changed at random, and of as many new ones, on a real server. Each day's relations are stored in turn
//! by every layout, with the repository's own identities, compression and leaves, in memory. Bytes and no times: they are the same on any machine.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use pgpersist_core::repo::frame::{Compression, Compressor};
use pgpersist_core::repo::identity::{HashKey, ItemId};
use pgpersist_core::repo::leaf::{LEAF_CHUNKS, Leaf, Stretch};
use pgpersist_core::repo::names::{PackName, Place as At, RunName};

use crate::support::arguments::Arguments;
use crate::support::place::Place;
use crate::support::server::Server;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What a trailer takes for an item and for a frame.
const TRAILER: [usize; 2] = [17, 38];
/// How many of the last days are kept.
const KEPT: usize = 3;

/// The lengths of chunks, frames before compression, and packs.
#[derive(Clone, Copy, PartialEq)]
struct Lengths {
    chunk: usize,
    frame: usize,
    pack: usize,
}

/// What the format has.
const CHOSEN: Lengths = Lengths { chunk: 8 * KIB, frame: 192 * KIB, pack: 32 * MIB };

pub(crate) fn compare(arguments: &Arguments) {
    let days = arguments.rounds(7);
    let chunks = [8, 16, 32, 64, 128].map(|chunk| Lengths { chunk: chunk * KIB, ..CHOSEN });
    let frames = [8, 32, 64, 128, 192, 256, 1024].map(|frame| Lengths { frame: frame * KIB, ..CHOSEN });
    let packs = [4, 16, 32, 64, 128].map(|pack| Lengths { pack: pack * MIB, ..CHOSEN });
    let mut layouts: Vec<Layout> = Vec::new();
    for lengths in chunks.into_iter().chain(frames).chain(packs) {
        if layouts.iter().all(|known| known.lengths != lengths) {
            layouts.push(Layout::new(lengths));
        }
    }
    let place = Place::new();
    let server = Server::start(&place);
    server.generate("bench", arguments.scale);
    for day in 0..=days {
        if day > 0 {
            server.ask("bench", &change(day));
        }
        server.ask("bench", "CHECKPOINT");
        eprintln!("day {day} of {days}");
        for file in relations(&server.data()) {
            let content = fs::read(&file).expect("nobody drops it");
            layouts.iter_mut().for_each(|layout| layout.store(day, &file, &content));
        }
        layouts.iter_mut().for_each(|layout| layout.end_day(day));
    }
    println!(
        "## format\n\nScale {}, a full backup and {days} days of 1 % of the rows, each any one, and as many new rows.\n",
        arguments.scale
    );
    let pick = |wanted: &[Lengths]| {
        wanted.iter().filter_map(|lengths| layouts.iter().find(|layout| layout.lengths == *lengths)).collect::<Vec<&Layout>>()
    };
    print("chunk", &pick(&chunks), |lengths| lengths.chunk);
    print("frame", &pick(&frames), |lengths| lengths.frame);
    print("pack", &pick(&packs), |lengths| lengths.pack);
}

fn change(day: usize) -> String {
    format!(
        "UPDATE pgbench_accounts SET abalance = abalance + {day}, filler = md5(aid::text || '{day}') WHERE hashint8extended(aid, {day}) % 100 = 0;
         INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler)
         SELECT aid % 10, 1, aid, {day}, now(), left(md5(aid::text), 22) FROM pgbench_accounts WHERE hashint8extended(aid, {day}) % 100 = 1"
    )
}

/// The files of all relations.
fn relations(data: &Path) -> Vec<PathBuf> {
    let below = |folder: PathBuf| fs::read_dir(folder).expect("the server has it").filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = below(data.join("base")).flat_map(below).filter(|file| is_relation(file)).collect();
    files.sort();
    files
}

fn is_relation(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(|first: char| first.is_ascii_digit()))
}

/// A frame, and what became of its items.
struct Frame {
    stored: usize,
    pack: usize,
    items: usize,
    /// The last day on which each of them was needed.
    last: Vec<usize>,
}

/// Where a chunk lies.
#[derive(Clone, Copy)]
struct Stored {
    id: ItemId,
    /// The frame and which of its items; none for zeros.
    item: Option<(usize, usize)>,
    at: Option<At>,
}

/// A repository with certain lengths.
struct Layout {
    lengths: Lengths,
    key: HashKey,
    compressor: Compressor,
    files: HashMap<PathBuf, Vec<Stored>>,
    frames: Vec<Frame>,
    /// The length of each, the item behind its last, and its name.
    packs: Vec<(usize, u32, PackName)>,
    /// What waits to be a frame.
    pending: Vec<u8>,
    waiting: usize,
    /// Of each day: stored bytes with trailers, and maps.
    days: Vec<(usize, usize)>,
    written: (usize, usize),
}

impl Layout {
    fn new(lengths: Lengths) -> Self {
        Self {
            lengths,
            key: HashKey::new([7; 32]),
            compressor: Compressor::new(Compression::default()).expect("zstd is built in"),
            files: HashMap::new(),
            frames: Vec::new(),
            packs: Vec::new(),
            pending: Vec::new(),
            waiting: 0,
            days: Vec::new(),
            written: (0, 0),
        }
    }

    fn store(&mut self, day: usize, file: &Path, content: &[u8]) {
        let old = self.files.remove(file).unwrap_or_default();
        let mut new = Vec::with_capacity(content.len() / self.lengths.chunk + 1);
        let mut moved = Vec::new();
        for (number, chunk) in content.chunks(self.lengths.chunk).enumerate() {
            let id = self.key.identify(chunk);
            let same = old.get(number).filter(|stored| stored.id == id);
            let stored = match same {
                Some(stored) => *stored,
                None if chunk.iter().all(|byte| *byte == 0) => Stored { id, item: None, at: None },
                None => self.add(day, id, chunk),
            };
            if same.is_none() {
                moved.push(number / LEAF_CHUNKS as usize);
            }
            if let Some((frame, item)) = stored.item
                && let Some(frame) = self.frames.get_mut(frame)
            {
                frame.last[item] = day;
            }
            new.push(stored);
        }
        moved.dedup();
        for leaf in moved {
            let from = leaf * LEAF_CHUNKS as usize;
            let bytes = leaf_of(&new[from..new.len().min(from + LEAF_CHUNKS as usize)]);
            self.written.1 += self.compressed(&bytes);
        }
        self.files.insert(file.to_owned(), new);
    }

    fn add(&mut self, day: usize, id: ItemId, chunk: &[u8]) -> Stored {
        if !self.pending.is_empty() && self.pending.len() + chunk.len() > self.lengths.frame {
            self.end_frame();
        }
        if self.waiting == 0 {
            let full = self.packs.last().is_none_or(|(length, _, name)| *length >= self.lengths.pack || name.run != run(day));
            if full {
                let number = u32::try_from(self.packs.len()).expect("few packs");
                self.packs.push((0, 0, PackName { run: run(day), number }));
            }
            self.frames.push(Frame { stored: 0, pack: self.packs.len() - 1, items: 0, last: Vec::new() });
        }
        self.pending.extend_from_slice(chunk);
        self.waiting += 1;
        let frame = self.frames.len() - 1;
        self.frames[frame].items += 1;
        self.frames[frame].last.push(day);
        let (_, next, name) = self.packs.last_mut().expect("one was begun");
        let at = At { pack: *name, item: *next };
        *next += 1;
        Stored { id, item: Some((frame, self.waiting - 1)), at: Some(at) }
    }

    fn end_frame(&mut self) {
        if self.waiting == 0 {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let stored = self.compressed(&pending) + TRAILER[0] * self.waiting + TRAILER[1];
        let frame = self.frames.last_mut().expect("one was begun");
        frame.stored = stored;
        self.packs[frame.pack].0 += stored;
        self.written.0 += stored;
        self.waiting = 0;
    }

    fn end_day(&mut self, day: usize) {
        self.end_frame();
        debug_assert_eq!(self.days.len(), day);
        self.days.push(std::mem::take(&mut self.written));
    }

    fn compressed(&mut self, bytes: &[u8]) -> usize {
        let mut out = Vec::new();
        self.compressor.compress(bytes, &mut out).expect("it fits");
        out.len()
    }

    /// What a restore of the last day reads, by the length of what it needs.
    fn reads(&self) -> f64 {
        self.of_needed(self.days.len() - 1, |layout, from| {
            layout.frames.iter().filter(|frame| frame.is_needed(from)).map(|frame| frame.stored).sum()
        })
    }

    /// What stands when the days before the last ones are gone, by the length of what those need.
    fn kept(&self) -> f64 {
        self.of_needed(self.days.len().saturating_sub(KEPT), |layout, from| {
            let mut standing: Vec<usize> = layout.frames.iter().filter(|frame| frame.is_needed(from)).map(|frame| frame.pack).collect();
            standing.dedup();
            standing.iter().map(|pack| layout.packs[*pack].0).sum()
        })
    }

    fn of_needed(&self, from: usize, all: impl Fn(&Self, usize) -> usize) -> f64 {
        let needed: f64 = self.frames.iter().map(|frame| frame.share(from) * frame.stored as f64).sum();
        all(self, from) as f64 / needed
    }
}

impl Frame {
    fn is_needed(&self, from: usize) -> bool {
        self.last.iter().any(|last| *last >= from)
    }

    fn share(&self, from: usize) -> f64 {
        self.last.iter().filter(|last| **last >= from).count() as f64 / self.items as f64
    }
}

fn run(day: usize) -> RunName {
    format!("202602{:02}T000000Z-00000000", day + 1).parse().expect("a day of February")
}

fn leaf_of(chunks: &[Stored]) -> Vec<u8> {
    let mut leaf = Leaf::default();
    for chunk in chunks {
        leaf.push(Stretch { chunks: 1, place: chunk.at });
    }
    leaf.encode()
}

fn print(what: &str, layouts: &[&Layout], of: impl Fn(&Lengths) -> usize) {
    println!("| {what} | full | its maps | a day | its maps, first | and last | packs in all | a restore reads | {KEPT} days kept |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for layout in layouts {
        let length = of(&layout.lengths);
        let told = if length < MIB { format!("{} KiB", length / KIB) } else { format!("{} MiB", length / MIB) };
        let (full, days) = layout.days.split_first().expect("there is one");
        let mut each: Vec<usize> = days.iter().map(|day| day.0).collect();
        each.sort_unstable();
        let mib = |bytes: usize| bytes as f64 / MIB as f64;
        let (first, last) = (days.first().map_or(0, |day| day.1), days.last().map_or(0, |day| day.1));
        println!(
            "| {told} | {:.1} MiB | {:.3} MiB | {:.1} MiB | {:.2} MiB | {:.2} MiB | {} | {:.2} | {:.2} |",
            mib(full.0),
            mib(full.1),
            mib(each.get(each.len() / 2).copied().unwrap_or(0)),
            mib(first),
            mib(last),
            layout.packs.len(),
            layout.reads(),
            layout.kept(),
        );
    }
    println!();
}
