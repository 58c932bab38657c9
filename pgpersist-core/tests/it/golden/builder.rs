//! A small repository with all kinds of objects, the same at every time: names, keys, moments and contents are fixed.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgpersist_core::encryption::identity::PrivateIdentity;
use pgpersist_core::encryption::recipient::Recipient;
use pgpersist_core::key_ring::index_key::IndexKey;
use pgpersist_core::repo::descriptor::Descriptor;
use pgpersist_core::repo::dropped::Dropped;
use pgpersist_core::repo::entry::{self, Entry, EntryKind, EntryPath, FileEntry, Mode, Stamp};
use pgpersist_core::repo::envelope::{self, ObjectKind};
use pgpersist_core::repo::frame::{Compression, Compressor};
use pgpersist_core::repo::identity::HashKey;
use pgpersist_core::repo::intent::Intent;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::leaf::{LEAF_CHUNKS, Leaf, Stretch};
use pgpersist_core::repo::manifest::{ClusterFacts, DamagedPage, Manifest, Sizes, WalRange};
use pgpersist_core::repo::names::{PackName, Place, RunName};
use pgpersist_core::repo::pack_builder::{Owner, PackBuilder, PackRecord};
use pgpersist_core::repo::run_key::WrappedRunKeys;
use pgpersist_core::repo::sealing::RunKeys;
use pgpersist_core::repo::tombstone::{Doomed, Tombstone};
use pgpersist_core::repo::trailer::PackKind;
use time::OffsetDateTime;
use time::macros::datetime;

pub(crate) const SYSTEM_IDENTIFIER: u64 = 7_591_234_567_890_123_456;
const MADE: OffsetDateTime = datetime!(2026-02-08 09:33:00 UTC);
const HASH_KEY: [u8; 32] = *b"a key that is known to everybody";

/// Objects by their keys below the repository's folder.
pub(crate) type Objects = BTreeMap<String, Vec<u8>>;

/// The runs: three backups, and one that was interrupted.
pub(crate) fn runs() -> [RunName; 4] {
    [
        RunName::new(datetime!(2026-02-08 09:33:16 UTC), [0x0f, 0x8e, 0x7d, 0x6c]),
        RunName::new(datetime!(2026-02-09 09:33:16 UTC), [1, 2, 3, 4]),
        RunName::new(datetime!(2026-02-10 09:33:16 UTC), [0xff; 4]),
        RunName::new(datetime!(2026-02-11 09:33:16 UTC), [0; 4]),
    ]
}

/// A page that compresses well, of this number.
pub(crate) fn page(number: u8) -> Vec<u8> {
    (0..8192_u32).map(|at| if at % 64 == 0 { number } else { (at % 64) as u8 }).collect()
}

fn hash_key() -> HashKey {
    HashKey::new(HASH_KEY)
}

/// The keys of a run, where its repository is encrypted.
type Keys = Option<Arc<RunKeys>>;

/// A pack in the making.
struct Pack {
    builder: PackBuilder,
    compressor: Compressor,
    bytes: Vec<u8>,
}

impl Pack {
    fn begin(run: RunName, keys: &Keys, number: u32, kind: PackKind, compression: Compression) -> Self {
        let mut bytes = Vec::new();
        let builder = PackBuilder::begin_sealed(PackName { run, number }, kind, keys.clone(), &mut bytes);
        Self { builder, compressor: Compressor::new(compression).unwrap(), bytes }
    }

    fn add(&mut self, item: &[u8], owner: Option<Owner<'_>>) -> Place {
        self.builder.add(item, hash_key().identify(item), owner, &mut self.compressor, &mut self.bytes).unwrap()
    }

    fn end(self, objects: &mut Objects) -> PackRecord {
        let Self { builder, mut compressor, mut bytes } = self;
        let record = builder.finish(&mut compressor, &mut bytes).unwrap();
        objects.insert(layout::pack(record.pack), bytes);
        record
    }
}

/// A backup in the making: chunks of three codecs, leaves and lists as they are.
struct Backup {
    run: RunName,
    keys: Keys,
    plain: Pack,
    zstd: Pack,
    lz4: Pack,
    maps: Pack,
    entries: BTreeMap<Vec<u8>, EntryKind>,
}

impl Backup {
    fn begin(run: RunName, keys: Keys, entries: BTreeMap<Vec<u8>, EntryKind>) -> Self {
        Self {
            run,
            plain: Pack::begin(run, &keys, 0, PackKind::Chunks, Compression::Plain),
            zstd: Pack::begin(run, &keys, 1, PackKind::Chunks, Compression::Zstd(1)),
            lz4: Pack::begin(run, &keys, 2, PackKind::Chunks, Compression::Lz4),
            maps: Pack::begin(run, &keys, 3, PackKind::Maps, Compression::Plain),
            keys,
            entries,
        }
    }

    fn folder(&mut self, path: &str) {
        self.entries.insert(path.into(), EntryKind::Directory { mode: Mode::from_bits(0o700) });
    }

    /// A file of one chunk, which is not compressed.
    fn small(&mut self, path: &[u8], content: &[u8]) {
        let place = self.plain.add(content, Some(Owner { path, chunk: 0 }));
        self.file(path, content.len() as u64, &[vec![Stretch { chunks: 1, place: Some(place) }]]);
    }

    fn file(&mut self, path: &[u8], size: u64, leaves: &[Vec<Stretch>]) {
        let leaves = leaves.iter().map(|stretches| {
            let mut leaf = Leaf::default();
            for stretch in stretches {
                assert_eq!(leaf.push(*stretch), 0);
            }
            self.maps.add(&leaf.encode(), None)
        });
        let stamp = Stamp { modified_ns: 1_770_543_196_123_456_789, changed_ns: 1_770_543_196_123_456_790, inode: 12, device: 34 };
        let file = FileEntry { mode: Mode::from_bits(0o600), size, leaves: leaves.collect(), stamp, read_fully: self.run };
        self.entries.insert(path.to_vec(), EntryKind::File(file));
    }

    /// Publishes it. `packs` are those of its parents, and become those of the next one's.
    fn end(mut self, facts: Facts, packs: &mut Vec<PackRecord>, objects: &mut Objects) {
        let mut list = Vec::new();
        for (path, kind) in &self.entries {
            entry::append(&mut list, &Entry { path: EntryPath::new(path).unwrap(), kind: kind.clone() }).unwrap();
        }
        let place = self.maps.add(&list, None);
        packs.extend([self.plain, self.zstd, self.lz4, self.maps].map(|pack| pack.end(objects)));
        publish(self.run, &self.keys, facts, place, packs, objects);
    }
}

/// What is particular about a backup.
#[derive(Default)]
struct Facts {
    parent: Option<RunName>,
    label: Option<&'static str>,
    timeline: u32,
    stop: u64,
    damaged_pages: Vec<DamagedPage>,
}

fn publish(run: RunName, keys: &Keys, facts: Facts, entries: Place, packs: &[PackRecord], objects: &mut Objects) {
    let mut list = Vec::new();
    for record in packs {
        serde_json::to_writer(&mut list, record).unwrap();
        list.push(b'\n');
    }
    let mut of_packs = Pack::begin(run, keys, 4, PackKind::Maps, Compression::Plain);
    let place = of_packs.add(&list, None);
    of_packs.end(objects);
    let stored_bytes = packs.iter().map(|pack| pack.size).sum();
    let (timeline, stop) = (facts.timeline, facts.stop);
    let manifest = Manifest {
        backup: run,
        parent: facts.parent,
        label: facts.label.map(str::to_owned),
        started_at: run.began_at(),
        stopped_at: run.began_at() + time::Duration::seconds(5),
        cluster: ClusterFacts {
            system_identifier: SYSTEM_IDENTIFIER.to_string(),
            server_version: "15.20".to_owned(),
            major: 15,
            control_version: 1300,
            catalog_version: 202_209_061,
            wal_segment_size: 16 << 20,
            blocks_per_segment: 131_072,
            data_checksums: true,
        },
        wal: WalRange { timeline, start_lsn: format!("0/{:X}", stop - 0x110), stop_lsn: format!("0/{stop:X}") },
        backup_label: format!("START WAL LOCATION: 0/{:X} (file {timeline:08X}0000000000000002)\n", stop - 0x110),
        tablespace_map: None,
        tablespaces: Vec::new(),
        entries: vec![entries],
        packs: vec![place],
        sizes: Sizes { files: 6, bytes: 39 << 20, stored_bytes, new_bytes: stored_bytes },
        damaged_pages: facts.damaged_pages,
        outside: Vec::new(),
    };
    let key = layout::manifest(run);
    let bytes = match keys {
        Some(keys) => manifest.encode_sealed(&key, keys),
        None => manifest.encode(&key),
    };
    objects.insert(key, bytes.unwrap());
}

fn stretch(chunks: u32, place: Place) -> Stretch {
    Stretch { chunks, place: Some(place) }
}

const ZERO: Stretch = Stretch { chunks: 1, place: None };

/// The repository.
pub(crate) fn repository() -> Objects {
    built(|_, _| None)
}

/// The same, encrypted with keys by chance for whoever has the private half of this.
pub(crate) fn encrypted(reader: Recipient) -> Objects {
    let data_key = PrivateIdentity::generate().unwrap();
    built(|run, objects| {
        let keys = RunKeys::begin(IndexKey::of(&data_key).for_run(&run.to_string())).unwrap();
        let wrapped = WrappedRunKeys::wrap(&keys, data_key.recipient(), &[reader]).unwrap();
        objects.insert(layout::run_key(run), wrapped.encode(run));
        Some(Arc::new(keys))
    })
}

/// `keys_of` makes the keys of a run and puts them, where it is to be encrypted.
fn built(keys_of: impl Fn(RunName, &mut Objects) -> Keys) -> Objects {
    let mut objects = Objects::new();
    let [first, second, third, interrupted] = runs();
    let keys = [first, second, third].map(|run| keys_of(run, &mut objects));
    let descriptor = Descriptor::new([0x5a; 16], HASH_KEY, SYSTEM_IDENTIFIER, MADE);
    let descriptor = if keys[0].is_some() { descriptor.encrypted() } else { descriptor };
    objects.insert(layout::DESCRIPTOR.to_owned(), descriptor.encode().unwrap());
    let [of_first, of_second, of_third] = keys;
    let mut packs = Vec::new();

    let mut backup = Backup::begin(first, of_first, BTreeMap::new());
    for folder in ["base", "base/5", "global", "pg_tblspc", "pg_wal"] {
        backup.folder(folder);
    }
    backup.small(b"PG_VERSION", b"15\n");
    backup.small(b"postgresql.conf", b"shared_buffers = '128MB'\n");
    backup.small(b"pg_hba.conf", b"local all all peer\n");
    backup.small(b"global/pg_control", &page(0xc0)[..296]);
    backup.small(b"pg_wal/000000010000000000000002", &page(0xa1));
    let settings = "# Do not edit this file manually!\r\nwork_mem = '9MB'\n\nrestore_command = 'cp /old/%f %p'\n  Recovery_Target_Time='x'";
    backup.small(b"postgresql.auto.conf", settings.as_bytes());
    backup.file(b"base/5/1260", 0, &[]);
    // Three pages of a table, a zero one among them.
    let owner = |chunk| Some(Owner { path: b"base/5/1259", chunk });
    let pages = [(1, 0), (2, 1), (3, 3)].map(|(number, chunk)| backup.zstd.add(&page(number), owner(chunk)));
    backup.file(b"base/5/1259", 4 * 8192, &[vec![stretch(2, pages[0]), ZERO, stretch(1, pages[2])]]);
    let short = backup.lz4.add(&page(4)[..524], Some(Owner { path: b"base/5/pg_filenode.map", chunk: 0 }));
    backup.file(b"base/5/pg_filenode.map", 524, &[vec![stretch(1, short)]]);
    let entries = backup.entries.clone();
    backup.end(Facts { timeline: 1, stop: 0x200_0138, ..Facts::default() }, &mut packs, &mut objects);

    // A page of the table changed, and a file came whose name is no text.
    let mut backup = Backup::begin(second, of_second, entries);
    let changed = backup.zstd.add(&page(6), owner(1));
    backup.file(b"base/5/1259", 4 * 8192, &[vec![stretch(1, pages[0]), stretch(1, changed), ZERO, stretch(1, pages[2])]]);
    backup.small(b"base/5/\xff", b"no text");
    let long = backup.lz4.add(&page(9), Some(Owner { path: b"base/5/2619", chunk: 0 }));
    backup.file(b"base/5/2619", 8192, &[vec![stretch(1, long)]]);
    let entries = backup.entries.clone();
    let label = Some("before the migration");
    backup.end(Facts { parent: Some(first), label, timeline: 1, stop: 0x400_0138, ..Facts::default() }, &mut packs, &mut objects);

    // On another timeline, with a table that is nearly all zero and has two leaves.
    let mut backup = Backup::begin(third, of_third, entries);
    let ends = [7, 8].map(|number| backup.zstd.add(&page(number), Some(Owner { path: b"base/5/16384", chunk: u64::from(LEAF_CHUNKS) })));
    let hole = Stretch { chunks: LEAF_CHUNKS, place: None };
    let size = (u64::from(LEAF_CHUNKS) + 3) * 8192;
    backup.file(b"base/5/16384", size, &[vec![hole], vec![stretch(1, ends[0]), ZERO, stretch(1, ends[1])]]);
    backup.small(b"pg_wal/00000002.history", b"1\t0/4000138\tno recovery target specified\n");
    let last = backup.lz4.add(&page(10)[..100], Some(Owner { path: b"base/5/2620", chunk: 0 }));
    backup.file(b"base/5/2620", 100, &[vec![stretch(1, last)]]);
    let damaged =
        DamagedPage { path: "base/5/16384".to_owned(), block: 8192, stored: 1, computed: 2, sha256: "0f".repeat(16), known: false };
    let facts = Facts { parent: Some(second), timeline: 2, stop: 0x600_0138, damaged_pages: vec![damaged], ..Facts::default() };
    backup.end(facts, &mut packs, &mut objects);

    let intent = Intent::of_backup(interrupted, Some(third), interrupted.began_at());
    objects.insert(layout::intent(interrupted), intent.encode().unwrap());
    objects
}

/// What lies beside backups for a while: runs that show that they live, what is to be removed, and runs that were given up. Two of each kind,
/// with the intent that is in the repository itself.
pub(crate) fn passing() -> Objects {
    let [first, second, third, interrupted] = runs();
    let [reader, given_up] = [0x77, 0x78].map(|number| RunName::new(third.began_at(), [number; 4]));
    let mut objects = Objects::new();
    let reading = Intent::of_reading(reader, "restore", vec![first], reader.began_at());
    objects.insert(layout::intent(reader), reading.encode().unwrap());
    for run in [reader, given_up] {
        objects.insert(layout::dropped(run), Dropped { run }.encode().unwrap());
    }
    for (number, name) in [0, 1].into_iter().zip([layout::beat(interrupted, 0), layout::beat(interrupted, 1)]) {
        let json = format!("{{\"run\":\"{interrupted}\",\"number\":{number}}}");
        let object = envelope::seal(ObjectKind::Beat, &name, json.as_bytes());
        objects.insert(name, object);
    }
    for (name, backup) in [(second, first), (third, second)] {
        let doomed = Doomed { backups: [backup].into(), packs: [PackName { run: backup, number: 4 }].into(), ..Doomed::default() };
        objects.insert(layout::tombstone(name), Tombstone { name, made_at: MADE, doomed }.encode().unwrap());
    }
    objects
}

/// A repository with one backup, whose list of entries is this text, well sealed, and one chunk, [`chunk`].
pub(crate) fn hostile(list: &str) -> Objects {
    let [run, ..] = runs();
    let mut objects = Objects::new();
    let descriptor = Descriptor::new([0x5a; 16], HASH_KEY, SYSTEM_IDENTIFIER, MADE);
    objects.insert(layout::DESCRIPTOR.to_owned(), descriptor.encode().unwrap());
    let mut backup = Backup::begin(run, None, BTreeMap::new());
    backup.small(b"PG_VERSION", b"15\n");
    let place = backup.maps.add(list.as_bytes(), None);
    let Backup { plain, maps, .. } = backup;
    let packs = [plain, maps].map(|pack| pack.end(&mut objects));
    publish(run, &None, Facts { timeline: 1, stop: 0x200_0138, ..Facts::default() }, place, &packs, &mut objects);
    objects
}

/// The same, with this in the manifest of its backup.
pub(crate) fn with_field(mut objects: Objects, name: &str, value: serde_json::Value) -> Objects {
    let key = layout::manifest(runs()[0]);
    let body = envelope::open(ObjectKind::Manifest, &key, &objects[&key]).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&zstd::bulk::decompress(body, 1 << 20).unwrap()).unwrap();
    manifest[name] = value;
    let body = zstd::bulk::compress(manifest.to_string().as_bytes(), 1).unwrap();
    objects.insert(key.clone(), envelope::seal(ObjectKind::Manifest, &key, &body));
    objects
}

/// A line for a file at this path, with the one chunk that [`hostile`] has.
pub(crate) fn line_of_file(path: &str, size: u64) -> String {
    let run = runs()[0];
    let stamp = "\"modified_ns\":1,\"changed_ns\":1,\"inode\":12,\"device\":34";
    let path = serde_json::Value::from(path);
    format!(
        "{{\"path\":{path},\"kind\":\"file\",\"mode\":\"0600\",\"size\":{size},\"leaves\":[[\"{run}\",3,0]],{stamp},\"read_fully\":\"{run}\"}}\n"
    )
}

/// The object that lies under `key`, of a version that does not exist yet.
pub(crate) fn of_the_future(key: &str) -> Vec<u8> {
    let mut object = envelope::seal(ObjectKind::Descriptor, key, b"{}");
    object[4] = 2;
    object
}
