//! Looking into packs: several at once, of each a MiB at a time.

use std::ops::Range;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::error::Result;
use crate::repo::fault::Fault;
use crate::repo::frame::Decompressor;
use crate::repo::identity::HashKey;
use crate::repo::layout;
use crate::repo::names::PackName;
use crate::repo::pack_reader::{OpenPack, look_at_end};
use crate::repo::repository::Repository;
use crate::repo::trailer::{FramePlace, MOST_FRAME_BYTES};
use crate::repo::verify::{Depth, Needed};
use crate::workers;

/// How much of a pack is read at once, and held against its hashes in one go on another thread.
const STRETCH_BYTES: u64 = 1 << 20;

/// How far a pack could be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    Whole,
    /// Its bytes were compared, and no key at hand opens them.
    Closed,
}

/// What became of a look at a pack: how far it went, and how long the pack is.
pub(super) type Outcome = Result<(Looked, u64)>;

/// Looks at packs, of which some are known to be needed, and tells of each what became of it, in the order in which that is known.
///
/// # Errors
/// What `told` says: the look ends then.
pub(super) async fn look_at_packs<'a>(
    repository: &'a Repository,
    packs: impl Iterator<Item = (PackName, Option<&'a Needed>)> + Send,
    depth: Depth,
    told: &mut (dyn FnMut(PackName, Outcome) -> Result<()> + Send),
) -> Result<()> {
    // Of one that is far away, as many as it likes; the processors have enough with one each.
    let at_once = workers::at_once().max(repository.store().reads_at_once());
    let (mut waiting, mut looking) = (packs.fuse(), FuturesUnordered::new());
    loop {
        while looking.len() < at_once
            && let Some((name, needed)) = waiting.next()
        {
            looking.push(async move { (name, look(repository, name, needed, depth).await) });
        }
        let Some((name, outcome)) = looking.next().await else { return Ok(()) };
        told(name, outcome)?;
    }
}

/// Whether a pack is what it says of itself, and what the manifests say of it that need it.
async fn look(repository: &Repository, name: PackName, needed: Option<&Needed>, depth: Depth) -> Outcome {
    let pack = match OpenPack::read(repository, name).await {
        Err(error) if repository.is_closed(&error) => return Ok((Looked::Closed, look_at_end(repository, name).await?)),
        pack => pack?,
    };
    let is_meant = needed.is_none_or(|Needed { record, items, .. }| {
        pack.digest == record.digest && pack.size == record.size && pack.trailer.ids.len() as u64 >= u64::from(*items)
    });
    if !is_meant {
        return Err(repository.wrong(&layout::pack(name), Fault::Digest));
    }
    if depth == Depth::Quick {
        return Ok((Looked::Whole, pack.size));
    }
    let (opens, size) = (pack.opens(), pack.size);
    look_at_frames(repository, pack).await?;
    Ok((if opens { Looked::Whole } else { Looked::Closed }, size))
}

/// Holds each frame of a pack against its hash and, where it opens, each item against its identity.
async fn look_at_frames(repository: &Repository, pack: OpenPack) -> Result<()> {
    let below = layout::pack(pack.name);
    let key = repository.key(&below)?;
    let stretches = stretches(pack.places());
    let mut check = Check { pack, key: repository.hash_key().clone(), decompressor: Decompressor::default(), content: Vec::new() };
    for frames in stretches {
        let places = &check.pack.places()[frames.clone()];
        let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
        let (start, end) = (first.stored.start, last.stored.end);
        let stored = repository.store().get_range(&key, start..end).await?;
        let (back, result) = workers::run(move || {
            let result = check.frames(frames, start, &stored);
            Ok((check, result))
        })
        .await?;
        result.map_err(|fault| repository.wrong(&below, fault))?;
        check = back;
    }
    Ok(())
}

/// Frames that are read at once: as many as there are in a MiB, and one at least.
fn stretches(places: &[FramePlace]) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for (at, place) in places.iter().enumerate() {
        match stretches.last_mut() {
            Some(last) if place.stored.end - places[last.start].stored.start <= STRETCH_BYTES => last.end = at + 1,
            _ => stretches.push(at..at + 1),
        }
    }
    stretches
}

/// What looks at a pack's frames, and what it needs for that, which serves for one after another.
struct Check {
    pack: OpenPack,
    key: HashKey,
    decompressor: Decompressor,
    content: Vec<u8>,
}

impl Check {
    /// Looks at these frames, of which the first begins at `start`, as they lie in the store. Blocking.
    fn frames(&mut self, frames: Range<usize>, start: u64, stored: &[u8]) -> Result<(), Fault> {
        let Self { pack, key, decompressor, content } = self;
        for place in &pack.places()[frames] {
            let within = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
            let stored = stored.get(within(place.stored.start)..within(place.stored.end)).ok_or(Fault::CutOff)?;
            if !pack.opens() {
                pack.hold(place, stored)?;
                continue;
            }
            let lengths = pack.lengths(place);
            let bytes: u32 = lengths.iter().sum();
            if bytes > MOST_FRAME_BYTES {
                return Err(Fault::Bound { what: "the content of a frame" });
            }
            content.resize(bytes as usize, 0);
            pack.open_frame_into(place, stored, decompressor, content)?;
            let ids = pack.trailer.ids.get(place.items.start as usize..place.items.end as usize).ok_or(Fault::Digest)?;
            let mut rest = content.as_slice();
            for (id, length) in ids.iter().zip(lengths) {
                let (item, behind) = rest.split_at(*length as usize);
                if key.identify(item) != *id {
                    return Err(Fault::Digest);
                }
                rest = behind;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first frame of each stretch, where frames are so long.
    fn cut(lengths: &[u64]) -> Vec<usize> {
        let mut at = 4;
        let place = |(frame, length): (usize, &u64)| {
            let stored = at..at + length;
            at = stored.end;
            FramePlace { frame, stored, items: 0..1 }
        };
        let places: Vec<FramePlace> = lengths.iter().enumerate().map(place).collect();
        let stretches = stretches(&places);
        let ends = stretches.iter().map(|stretch| stretch.end);
        assert!(ends.eq(stretches.iter().skip(1).map(|next| next.start).chain((!places.is_empty()).then_some(places.len()))));
        stretches.iter().map(|stretch| stretch.start).collect()
    }

    #[test]
    fn a_stretch_is_a_mib_of_frames_and_one_at_least() {
        let mib = STRETCH_BYTES;
        assert_eq!(cut(&[]), Vec::<usize>::new());
        assert_eq!(cut(&[1]), [0]);
        assert_eq!(cut(&[mib / 2, mib / 2, 1]), [0, 2]);
        assert_eq!(cut(&[3 * mib, 1, mib - 1, 1, 2 * mib]), [0, 1, 3, 4]);
    }
}
