//! [`Manifest`]: a backup's first object. A backup exists once this does.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::Error;
use crate::repo::envelope::{self, ObjectKind};
use crate::repo::fault::Fault;
use crate::repo::names::{Place, RunName};
use crate::repo::sealing::RunKeys;

/// What a manifest decompresses to at most: it names lists of entries, not entries.
const MOST_BYTES: usize = 64 << 20;
/// How hard it is compressed: it is small, and read more often than it is written.
const LEVEL: i32 = 9;

/// A physical backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which backup: the run that made it.
    pub backup: RunName,
    /// The backup that this one compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunName>,
    /// What its user called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When all files were read and the server had ended the backup: a restore leads to this moment at the earliest.
    #[serde(with = "time::serde::rfc3339")]
    pub stopped_at: OffsetDateTime,
    /// Which cluster.
    pub cluster: ClusterFacts,
    /// From where to where the log is needed.
    pub wal: WalRange,
    /// What PostgreSQL gave for `backup_label`, byte for byte; it is written last but one at a restore.
    pub backup_label: String,
    /// What PostgreSQL gave for `tablespace_map`; nothing where there are no tablespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tablespace_map: Option<String>,
    /// Where each tablespace lay.
    pub tablespaces: Vec<Tablespace>,
    /// The lists of entries, in order.
    pub entries: Vec<Place>,
    /// The lists of packs.
    pub packs: Vec<Place>,
    /// Sizes.
    pub sizes: Sizes,
    /// Pages whose checksum is wrong on the disk. With any that nobody acknowledged, the backup is not good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged_pages: Vec<DamagedPage>,
    /// The configuration files that lay outside the data directory, such as Debian's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<OutsideFile>,
}

/// A configuration file that lay outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideFile {
    /// What led to it: `config_file`, `hba_file`, `ident_file`, or `include` where another file includes it.
    pub setting: String,
    /// Where it lay.
    pub location: String,
    /// What stood in it.
    pub content: String,
}

/// What identifies a cluster, and what a machine must have to run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// Its system identifier, as text: not every reader of JSON has numbers of 64 bits.
    pub system_identifier: String,
    /// The server's version, as it tells it.
    pub server_version: String,
    /// The major version.
    pub major: u32,
    /// Of `pg_control`.
    pub control_version: u32,
    /// Of `pg_control`.
    pub catalog_version: u32,
    /// Bytes of a WAL segment.
    pub wal_segment_size: u32,
    /// Pages of a segment of a relation.
    pub blocks_per_segment: u32,
    /// Whether pages have checksums; else damage of theirs cannot be told.
    pub data_checksums: bool,
}

/// A stretch of the write-ahead log on one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRange {
    /// The timeline.
    pub timeline: u32,
    /// Where recovery begins.
    pub start_lsn: String,
    /// Where the cluster is consistent.
    pub stop_lsn: String,
}

/// A tablespace outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its OID, the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it lay.
    pub location: String,
}

/// How large a backup is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of all packs that it needs.
    pub stored_bytes: u64,
    /// Bytes that it added to the store.
    pub new_bytes: u64,
}

/// A page whose checksum is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPage {
    /// The file, relative to the data directory.
    pub path: String,
    /// The page's number within its fork.
    pub block: u32,
    /// The checksum on the page.
    pub stored: u16,
    /// The checksum of what is on the page.
    pub computed: u16,
    /// The first half of SHA-256 of the page, as 32 hexadecimal digits.
    pub sha256: String,
    /// Somebody has looked at exactly this and said that it is known: the backup is as good as it can be.
    #[serde(default)]
    pub known: bool,
}

/// A damaged page that somebody knows of: `base/5/16384:7:0123456789abcdef0123456789abcdef`, its file, block and the first half of the page's SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KnownDamage {
    path: String,
    block: u32,
    sha256: String,
}

impl KnownDamage {
    /// Whether it is this page, as it was then.
    pub fn is(&self, page: &DamagedPage) -> bool {
        (&self.path, self.block, &self.sha256) == (&page.path, page.block, &page.sha256)
    }
}

impl DamagedPage {
    /// By what name it is told that the damage is known.
    pub fn name(&self) -> String {
        format!("{}:{}:{}", self.path, self.block, self.sha256)
    }
}

impl FromStr for KnownDamage {
    type Err = Error;

    fn from_str(text: &str) -> crate::error::Result<Self> {
        let wrong = || {
            Error::invalid(
                format!("`{text}` names no damaged page"),
                "take it from what `pgpersist backup` tells of it: FILE:BLOCK:HASH, as `base/5/16384:7:` and 32 hexadecimal digits",
            )
        };
        let (rest, sha256) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (path, block) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let is_hash = sha256.len() == 32 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        let block = block.parse().ok().filter(|_| is_hash && !path.is_empty()).ok_or_else(wrong)?;
        Ok(Self { path: path.to_owned(), block, sha256: sha256.to_ascii_lowercase() })
    }
}

impl Manifest {
    /// How many pages are damaged that nobody has said to know of.
    pub fn unknown_damage(&self) -> usize {
        self.damaged_pages.iter().filter(|page| !page.known).count()
    }

    /// The object's bytes; `key` is where it will lie, below the repository's folder.
    ///
    /// # Errors
    /// `Bound` when it is too large.
    pub fn encode(&self, key: &str) -> Result<Vec<u8>, Fault> {
        Ok(envelope::seal(ObjectKind::Manifest, key, &self.body()?))
    }

    /// The same, encrypted with the keys of the backup's run.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_sealed(&self, key: &str, keys: &RunKeys) -> Result<Vec<u8>, Fault> {
        Ok(envelope::seal(ObjectKind::Manifest, key, &keys.seal_manifest(self.backup, &self.body()?)?))
    }

    fn body(&self) -> Result<Vec<u8>, Fault> {
        let json = serde_json::to_vec(self).map_err(|_| Fault::NotCanonical)?;
        if json.len() > MOST_BYTES {
            return Err(Fault::Bound { what: "the manifest" });
        }
        zstd::bulk::compress(&json, LEVEL).map_err(|_| Fault::Compression)
    }

    /// Reads what lies under `key`.
    ///
    /// # Errors
    /// What is wrong with the bytes; `Version` when a newer pgpersist wrote them.
    pub fn parse(key: &str, bytes: &[u8]) -> Result<Self, Fault> {
        Self::of_body(envelope::open(ObjectKind::Manifest, key, bytes)?)
    }

    /// Reads what lies encrypted under `key`, with the keys of this run.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); `Sealed`.
    pub fn parse_sealed(key: &str, bytes: &[u8], run: RunName, keys: &RunKeys) -> Result<Self, Fault> {
        Self::of_body(&keys.open_manifest(run, envelope::open(ObjectKind::Manifest, key, bytes)?)?)
    }

    /// Whether the object is what was written, as far as that is told without a key.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn look_at(key: &str, bytes: &[u8]) -> Result<(), Fault> {
        envelope::open(ObjectKind::Manifest, key, bytes).map(|_| ())
    }

    fn of_body(body: &[u8]) -> Result<Self, Fault> {
        let json = zstd::bulk::decompress(body, MOST_BYTES).map_err(|_| Fault::Compression)?;
        serde_json::from_slice(&json).map_err(|_| Fault::NotCanonical)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::encryption::sealing_key::SealingKey;
    use crate::repo::layout;
    use crate::repo::names::PackName;

    fn run() -> RunName {
        RunName::new(datetime!(2026-02-08 09:33:16 UTC), [15, 142, 125, 108])
    }

    fn example() -> Manifest {
        let place = |item| Place { pack: PackName { run: run(), number: 1 }, item };
        Manifest {
            backup: run(),
            parent: None,
            label: Some("before the migration".to_owned()),
            started_at: datetime!(2026-02-08 09:33:16 UTC),
            stopped_at: datetime!(2026-02-08 09:33:21 UTC),
            cluster: ClusterFacts {
                system_identifier: "7591234567890123456".to_owned(),
                server_version: "15.20".to_owned(),
                major: 15,
                control_version: 1300,
                catalog_version: 202_209_061,
                wal_segment_size: 16 << 20,
                blocks_per_segment: 131_072,
                data_checksums: true,
            },
            wal: WalRange { timeline: 1, start_lsn: "0/2000028".to_owned(), stop_lsn: "0/2000138".to_owned() },
            backup_label: "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n".to_owned(),
            tablespace_map: None,
            tablespaces: vec![Tablespace { oid: 16400, name: "fast".to_owned(), location: "/fast".to_owned() }],
            entries: vec![place(10), place(11)],
            packs: vec![place(12)],
            sizes: Sizes { files: 966, bytes: 39 << 20, stored_bytes: 5 << 20, new_bytes: 5 << 20 },
            damaged_pages: vec![DamagedPage {
                path: "base/5/1259".to_owned(),
                block: 7,
                stored: 1,
                computed: 2,
                sha256: "0f".repeat(16),
                known: false,
            }],
            outside: vec![OutsideFile {
                setting: "hba_file".to_owned(),
                location: "/etc/postgresql/15/main/pg_hba.conf".to_owned(),
                content: "local all all peer\n".to_owned(),
            }],
        }
    }

    #[test]
    fn a_manifest_survives_a_round_trip_under_its_own_name_only() {
        let key = layout::manifest(run());
        let bytes = example().encode(&key).unwrap();
        assert_eq!(Manifest::parse(&key, &bytes), Ok(example()));
        assert_eq!(Manifest::parse("backups/another.manifest", &bytes), Err(Fault::Digest));
    }

    #[test]
    fn a_sealed_manifest_opens_with_the_keys_of_its_run_and_shows_nothing() {
        let (key, keys) = (layout::manifest(run()), RunKeys::begin(SealingKey::generate().unwrap()).unwrap());
        let bytes = example().encode_sealed(&key, &keys).unwrap();
        assert_eq!(Manifest::parse_sealed(&key, &bytes, run(), &keys), Ok(example()));
        assert_eq!(Manifest::look_at(&key, &bytes), Ok(()));
        assert!(Manifest::parse(&key, &bytes).is_err());
        let others = RunKeys::begin(SealingKey::generate().unwrap()).unwrap();
        assert_eq!(Manifest::parse_sealed(&key, &bytes, run(), &others), Err(Fault::Sealed));
        let plain = example().encode(&key).unwrap();
        assert_eq!(Manifest::parse_sealed(&key, &plain, run(), &keys), Err(Fault::Sealed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Manifest::parse("backups/x.manifest", &bytes);
            let _ = Manifest::parse("x", &envelope::seal(ObjectKind::Manifest, "x", &bytes));
        }
    }
}
