//! What the fuzz targets in `fuzz/` begin with: each thing of the golden repository, cut out as its target takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use pgpersist_core::encryption::identity::PrivateIdentity;
use pgpersist_core::encryption::sealing_key::SealingKey;
use pgpersist_core::repo::descriptor::Descriptor;
use pgpersist_core::repo::dropped::Dropped;
use pgpersist_core::repo::entry;
use pgpersist_core::repo::frame::decompress;
use pgpersist_core::repo::intent::Intent;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::leaf::Leaf;
use pgpersist_core::repo::manifest::Manifest;
use pgpersist_core::repo::run_key::WrappedRunKeys;
use pgpersist_core::repo::sealing::RunKeys;
use pgpersist_core::repo::tombstone::{Doomed, Tombstone};
use pgpersist_core::repo::trailer::{FOOTER_BYTES, Footer, PackKind, Trailer};
use time::OffsetDateTime;

use crate::golden::builder::runs;
use crate::golden::golden;

/// Names a folder: the seeds are written there, a folder for each target.
const WRITE: &str = "PGPERSIST_TEST_WRITE_SEEDS";

/// What stands around the body of an object that is no pack.
const HEADER_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;

/// For each target, what it begins with.
#[derive(Default)]
struct Seeds(BTreeMap<&'static str, BTreeSet<Vec<u8>>>);

impl Seeds {
    fn add(&mut self, target: &'static str, bytes: &[u8]) {
        self.0.entry(target).or_default().insert(bytes.to_vec());
    }

    /// An object, and its body alone: the target seals that again.
    fn object(&mut self, target: &'static str, object: &[u8]) {
        self.add(target, object);
        self.add(target, &object[HEADER_BYTES..object.len() - DIGEST_BYTES]);
    }

    fn pack(&mut self, pack: &[u8]) {
        let kind = PackKind::parse(*pack.first_chunk().unwrap()).unwrap();
        let footer = Footer::parse(*pack.last_chunk().unwrap()).unwrap();
        let end = pack.len() - FOOTER_BYTES;
        let bytes = &pack[end - footer.trailer_bytes as usize..end];
        self.add("trailer", bytes);
        self.add("trailer", &pack[end..]);
        self.add("trailer", &pack[..HEADER_BYTES]);
        let trailer = Trailer::parse(bytes).unwrap();
        for place in trailer.places() {
            let lengths = &trailer.lengths[place.items.start as usize..place.items.end as usize];
            let raw_bytes: u32 = lengths.iter().sum();
            let stored = &pack[place.stored.start as usize..place.stored.end as usize];
            let frame = decompress(trailer.frames[place.frame].codec, stored, raw_bytes).unwrap();
            // How long it is said to be stands first.
            self.add("frame", &[&raw_bytes.to_le_bytes(), stored].concat());
            let mut rest = frame.as_slice();
            for length in lengths {
                let (item, others) = rest.split_at(*length as usize);
                rest = others;
                if kind == PackKind::Chunks {
                    continue;
                }
                match (Leaf::parse(item), entry::parse(item)) {
                    (Ok(_), _) => self.add("leaf", item),
                    (_, Ok(_)) => self.add("entries", item),
                    // A list of packs.
                    _ => assert!(item.starts_with(b"{"), "an item that nothing reads"),
                }
            }
        }
    }

    /// What the golden repository has none of.
    fn others(&mut self) {
        let [run, other, ..] = runs();
        let doomed = Doomed { backups: [other].into(), runs: [run].into(), packs: BTreeSet::new() };
        let tombstone = Tombstone { name: run, made_at: OffsetDateTime::UNIX_EPOCH, doomed };
        self.object("tombstone", &tombstone.encode().unwrap());
        self.object("dropped", &Dropped { run }.encode().unwrap());
        let keys = RunKeys::begin(SealingKey::generate().unwrap()).unwrap();
        let recipient = PrivateIdentity::generate().unwrap().recipient();
        self.object("run_key", &WrappedRunKeys::wrap(&keys, recipient, &[]).unwrap().encode(run));
    }
}

fn seeds() -> Seeds {
    let mut seeds = Seeds::default();
    for (key, bytes) in &golden() {
        seeds.add("names", key.as_bytes());
        if let Some(run) = layout::parse_manifest(key) {
            Manifest::parse(key, bytes).unwrap();
            seeds.object("manifest", bytes);
            let body = &bytes[HEADER_BYTES..bytes.len() - DIGEST_BYTES];
            // The target compresses what it is given, too.
            seeds.add("manifest", &zstd::bulk::decompress(body, 1 << 20).unwrap());
            seeds.add("names", run.to_string().as_bytes());
        } else if let Some(pack) = layout::parse_pack(key) {
            seeds.pack(bytes);
            seeds.add("names", pack.to_string().as_bytes());
        } else if let Some(run) = layout::parse_intent(key) {
            Intent::parse(run, bytes).unwrap();
            seeds.object("intent", bytes);
        } else {
            assert_eq!(key, layout::DESCRIPTOR);
            Descriptor::parse(bytes).unwrap();
            seeds.object("descriptor", bytes);
        }
    }
    seeds.others();
    seeds
}

#[test]
fn each_fuzz_target_has_something_to_begin_with() {
    let seeds = seeds();
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let targets: BTreeSet<OsString> = std::fs::read_dir(targets).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(targets, seeds.0.keys().map(|target| OsString::from(format!("{target}.rs"))).collect());
    let Some(folder) = std::env::var_os(WRITE) else { return };
    for (target, seeds) in &seeds.0 {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::File::create(folder.join(format!("seed-{number:03}"))).unwrap().write_all(seed).unwrap();
        }
    }
}
