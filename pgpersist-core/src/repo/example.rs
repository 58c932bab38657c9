//! Small repositories for tests: backups of a few packs, made without a server, in a store whose clock is wound by hand.

use std::sync::Arc;

use time::OffsetDateTime;
use time::macros::datetime;

use crate::clock::{Clock, ManualClock};
use crate::repo::frame::Compression;
use crate::repo::manifest::{ClusterFacts, Manifest, Sizes, WalRange};
use crate::repo::names::{Place, RunName};
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_writer::{PackNumbers, PackWriter};
use crate::repo::repository::Repository;
use crate::repo::trailer::PackKind;
use crate::store::BackupStore;
use crate::store::memory::MemoryBackupStore;
use crate::workers;

/// When it begins.
pub(crate) const BEGIN: OffsetDateTime = datetime!(2026-02-08 09:33:16 UTC);

/// A repository in memory.
pub(crate) struct Example {
    pub(crate) store: Arc<dyn BackupStore>,
    pub(crate) repository: Repository,
    pub(crate) clock: ManualClock,
    /// How many names were given.
    names: u32,
}

/// The repository in a store.
pub(crate) async fn repository(store: Arc<dyn BackupStore>) -> Repository {
    let folder = ".pgpersist/main/repository".parse().unwrap();
    Repository::open_or_make(store, folder, 7, BEGIN).await.unwrap()
}

/// The repository that is in a store, opened by one `Get`.
pub(crate) async fn opened(store: Arc<dyn BackupStore>) -> Repository {
    let folder = ".pgpersist/main/repository".parse().unwrap();
    Repository::open(store, folder).await.unwrap().unwrap()
}

impl Example {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::new(BEGIN);
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::with_clock(Arc::new(clock.clone())));
        Self { repository: repository(Arc::clone(&store)).await, store, clock, names: 0 }
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// The name of a run that begins now.
    pub(crate) fn name(&mut self) -> RunName {
        self.names += 1;
        RunName::new(self.now(), self.names.to_be_bytes())
    }

    /// Writes so many packs.
    pub(crate) async fn packs(&self, numbers: &PackNumbers, count: u32) -> Vec<PackRecord> {
        let mut packs = Vec::new();
        for number in 0..count {
            packs.push(self.pack(numbers, format!("the item {number} of {numbers:?}").into_bytes()).await.1);
        }
        packs
    }

    async fn pack(&self, numbers: &PackNumbers, item: Vec<u8>) -> (Place, PackRecord) {
        let (mut writer, written) = PackWriter::begin(&self.repository, numbers.clone(), PackKind::Maps, Compression::Plain).unwrap();
        let id = self.repository.hash_key().identify(&item);
        let place = workers::run(move || {
            let place = writer.add(&item, id, None)?;
            writer.finish()?;
            Ok(place)
        });
        let place = place.await.unwrap();
        (place, written.wait().await.unwrap().remove(0))
    }

    /// The manifest of a backup that needs these packs, the list of which is written. It is further in the log than all before.
    pub(crate) async fn manifest(&mut self, backup: RunName, numbers: &PackNumbers, packs: &mut Vec<PackRecord>) -> Manifest {
        let mut list = Vec::new();
        for record in packs.iter() {
            serde_json::to_writer(&mut list, record).unwrap();
            list.push(b'\n');
        }
        let (place, record) = self.pack(numbers, list).await;
        packs.push(record);
        self.names += 1;
        Manifest {
            backup,
            parent: None,
            label: None,
            started_at: backup.began_at(),
            stopped_at: self.now(),
            cluster: ClusterFacts {
                system_identifier: "7".to_owned(),
                server_version: "15.20".to_owned(),
                major: 15,
                control_version: 1300,
                catalog_version: 202_209_061,
                wal_segment_size: 16 << 20,
                blocks_per_segment: 131_072,
                data_checksums: true,
            },
            wal: WalRange { timeline: 1, start_lsn: format!("0/{:X}", self.names), stop_lsn: format!("1/{:X}", self.names) },
            backup_label: String::new(),
            tablespace_map: None,
            tablespaces: Vec::new(),
            entries: Vec::new(),
            packs: vec![place],
            sizes: Sizes::default(),
            damaged_pages: Vec::new(),
            outside: Vec::new(),
        }
    }

    /// Makes and publishes a backup that has packs of its own, and these of others. Returns its name and all its packs.
    pub(crate) async fn backup(&mut self, own: u32, shared: &[PackRecord]) -> (RunName, Vec<PackRecord>) {
        let name = self.name();
        let numbers = PackNumbers::new(name);
        let mut packs = self.packs(&numbers, own).await;
        packs.extend_from_slice(shared);
        let manifest = self.manifest(name, &numbers, &mut packs).await;
        self.repository.publish(&manifest).await.unwrap();
        (name, packs)
    }
}
