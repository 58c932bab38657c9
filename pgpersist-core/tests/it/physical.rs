//! Physical backups of a running cluster, restored, started and compared. PostgreSQL is the judge.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use pgpersist_core::backup::physical::{BackupOptions, BackupReport, back_up};
use pgpersist_core::clock::SystemClock;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::{ErrorKind, Result};
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::frame::Compression;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::verify::{Depth, verify};
use pgpersist_core::restore::physical::{RestoreOptions, RestoreReport, newest, restore};
use pgpersist_core::server::connection::{ConnectionOptions, Host};
use pgpersist_core::server::session::Session;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey, ObjectMeta};
use time::OffsetDateTime;
use tokio::task::JoinHandle;

use crate::support::server::{BIN, TestServer};

/// Generous: on a loaded machine a recovery takes a while.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) async fn repository(store: Arc<dyn BackupStore>, server: &TestServer) -> Repository {
    let system_identifier = server.session("postgres").await.system_identifier().await.unwrap();
    let folder = ".pgpersist/main/repository".parse().unwrap();
    Repository::open_or_make(store, folder, system_identifier, OffsetDateTime::UNIX_EPOCH).await.unwrap()
}

pub(crate) async fn backup(server: &TestServer, repository: &Repository, options: &BackupOptions) -> Result<BackupReport> {
    back_up(&server.connection("postgres"), &server.path("data"), repository, options, &SystemClock, &Silent).await
}

/// Restores the newest backup beside the server, in a folder of this name.
pub(crate) async fn restored(server: &TestServer, repository: &Repository, name: &str) -> Result<(PathBuf, RestoreReport)> {
    let path = server.path(name);
    let directory = LocalDataDirectory::open(&path)?;
    let newest = newest(repository).await?;
    let report = restore(repository, newest, &directory, &RestoreOptions::default(), &Silent).await?;
    Ok((path, report))
}

/// A server on a restored directory, with a socket of its own.
pub(crate) struct Restored {
    server: Child,
    socket: tempfile::TempDir,
}

impl Restored {
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_in(data, "f").await
    }

    /// Starts it and waits until it says this of whether it is in recovery.
    pub(crate) async fn start_in(data: &Path, recovery: &str) -> Self {
        Self::start_with(Path::new(BIN), data, recovery).await
    }

    /// The same, of the version whose programs are there.
    pub(crate) async fn start_with(bin: &Path, data: &Path, recovery: &str) -> Self {
        let socket = tempfile::Builder::new().prefix("pgpersist-it-").tempdir().unwrap();
        std::fs::set_permissions(socket.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = if rustix::process::geteuid().is_root() {
            for place in [data, socket.path()] {
                assert!(Command::new("chown").args(["-R", "postgres:"]).arg(place).status().unwrap().success());
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"]);
            command.arg(bin.join("postgres"));
            command
        } else {
            Command::new(bin.join("postgres"))
        };
        let log = std::fs::File::create(socket.path().join("log")).unwrap();
        command.arg("-D").arg(data).arg("-k").arg(socket.path()).args(["-c", "listen_addresses="]);
        let server = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let restored = Self { server, socket };
        let begin = Instant::now();
        loop {
            if let Ok(session) = Session::connect(&restored.connection("postgres"), Duration::from_secs(5)).await
                && session.text("ask", "SELECT pg_catalog.pg_is_in_recovery()").await.is_ok_and(|told| told.as_deref() == Some(recovery))
            {
                return restored;
            }
            assert!(begin.elapsed() < DEADLINE, "the restored server did not recover: {}", restored.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.socket.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn connection(&self, database: &str) -> ConnectionOptions {
        let host = Host::Socket(self.socket.path().to_owned());
        ConnectionOptions { host, port: 5432, user: "postgres".into(), database: database.into(), password: None, os_user: None }
    }

    pub(crate) async fn text(&self, database: &str, sql: &str) -> String {
        let session = Session::connect(&self.connection(database), DEADLINE).await.unwrap();
        session.text("ask", sql).await.unwrap().unwrap_or_default()
    }

    /// `pg_amcheck` over everything, heap against indexes.
    pub(crate) fn check(&self) {
        let output = Command::new(Path::new(BIN).join("pg_amcheck"))
            .args(["--all", "--heapallindexed", "--install-missing", "-U", "postgres", "-h"])
            .arg(self.socket.path())
            .output()
            .unwrap();
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.server);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::QUIT);
        let _ = self.server.wait();
    }
}

/// A server with a table of so many rows, and things of several kinds beside it.
pub(crate) async fn server_with(rows: u32) -> TestServer {
    let server = TestServer::start("", "").await;
    fill(&server, rows).await;
    server
}

/// Makes what a backup is made of.
pub(crate) async fn fill(server: &TestServer, rows: u32) {
    server.session("postgres").await.create_database("shop").await.unwrap();
    let fill = format!(
        "CREATE TABLE public.orders (id bigint PRIMARY KEY, note text NOT NULL);
         INSERT INTO public.orders SELECT g, pg_catalog.md5(g::text) FROM pg_catalog.generate_series(1, {rows}) g;
         CREATE INDEX ON public.orders USING gin (pg_catalog.to_tsvector('pg_catalog.simple', note));
         CREATE UNLOGGED TABLE public.cache AS SELECT g AS id FROM pg_catalog.generate_series(1, 1000) g;
         CREATE SEQUENCE public.numbers; SELECT pg_catalog.nextval('public.numbers');
         CREATE MATERIALIZED VIEW public.sums AS SELECT pg_catalog.count(*) FROM public.orders;"
    );
    server.run("shop", &fill).await;
}

/// Somebody who writes into the table of orders, one transaction after another.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writer: JoinHandle<()>,
}

impl Load {
    /// The first of the orders that it adds.
    const FIRST: u64 = 1_000_000;

    /// Begins; the table has so many rows. Returns when something is committed.
    pub(crate) async fn begin(server: &TestServer, rows: u64) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, last, connection) = (Arc::clone(&stop), Arc::clone(&committed), server.connection("shop"));
        let writer = tokio::spawn(async move {
            let session = Session::connect(&connection, DEADLINE).await.unwrap();
            let mut next = Self::FIRST;
            while !stopped.load(Ordering::Relaxed) {
                let statement = format!(
                    "BEGIN; INSERT INTO public.orders VALUES ({next}, 'new'); UPDATE public.orders SET note = 'changed {next}' WHERE id = {}; COMMIT",
                    next % rows + 1
                );
                session.execute("write", &statement).await.unwrap();
                last.store(next, Ordering::SeqCst);
                next += 1;
            }
        });
        let load = Self { stop, committed, writer };
        while load.committed() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        load
    }

    /// The last order that is committed.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::SeqCst)
    }

    /// Ends, and tells the last order that was committed.
    pub(crate) async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.await.unwrap();
        self.committed.load(Ordering::SeqCst)
    }

    /// What is restored are whole transactions, all of them up to one of those between `before` and `after`.
    pub(crate) async fn judge(restored: &Restored, rows: u64, before: u64, after: u64) {
        let newest: u64 = restored.text("shop", "SELECT pg_catalog.max(id) FROM public.orders").await.parse().unwrap();
        assert!((before..=after).contains(&newest), "{before} was committed before the backup, {newest} is there, {after} came last");
        let added = format!("SELECT pg_catalog.count(*) FROM public.orders WHERE id >= {}", Self::FIRST);
        let added: u64 = restored.text("shop", &added).await.parse().unwrap();
        assert_eq!(added, newest - Self::FIRST + 1);
        let changed = format!("SELECT note FROM public.orders WHERE id = {}", newest % rows + 1);
        assert_eq!(restored.text("shop", &changed).await, format!("changed {newest}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_restores_to_what_was_committed_before_its_end() {
    let server = server_with(50_000).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let load = Load::begin(&server, 50_000).await;
    let before = load.committed();
    let report = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let after = load.end().await;
    assert!(report.damaged.is_empty() && report.stored_bytes < report.size_bytes && report.start_lsn < report.stop_lsn, "{report:?}");

    let (data, told) = restored(&server, &repository, "restored").await.unwrap();
    assert_eq!((told.name, told.bytes), (report.name, report.size_bytes));
    let restored = Restored::start(&data).await;
    Load::judge(&restored, 50_000, before, after).await;
    // An unlogged table comes back empty, as PostgreSQL promises.
    assert_eq!(restored.text("shop", "SELECT pg_catalog.count(*) FROM public.cache").await, "0");
    assert_eq!(restored.text("postgres", "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()").await, "2");
    restored.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_compress_gives_back_the_same_files() {
    let server = server_with(2_000).await;
    for (at, compression) in [Compression::Plain, Compression::Zstd(1), Compression::Lz4].into_iter().enumerate() {
        let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
        let options = BackupOptions { compression, workers: at + 1, ..BackupOptions::default() };
        backup(&server, &repository, &options).await.unwrap();
        let (data, _) = restored(&server, &repository, &format!("restored_{at}")).await.unwrap();
        let restored = Restored::start(&data).await;
        let sum = "SELECT pg_catalog.md5(pg_catalog.string_agg(note, '' ORDER BY id)) FROM public.orders";
        assert_eq!(restored.text("shop", sum).await, server.text("shop", sum).await, "{compression:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_in_a_pack_is_found_before_anything_is_published() {
    let server = server_with(2_000).await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(Arc::clone(&store), &server).await;
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let manifest = repository.manifest(newest(&repository).await.unwrap()).await.unwrap();
    let pack = repository.key(&layout::pack(manifest.entries[0].pack)).unwrap();
    let mut bytes = store.get(&pack).await.unwrap().to_vec();
    bytes[100] ^= 1;
    store.put(&pack, bytes.into()).await.unwrap();
    let error = restored(&server, &repository, "restored").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains(".pack"), "{error}");
    assert!(!server.path("restored").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_with_anything_in_it_is_left_alone() {
    let server = server_with(10).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let nothing = newest(&repository).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let occupied = server.path("occupied");
    std::fs::create_dir(&occupied).unwrap();
    std::fs::File::create(occupied.join("mine")).unwrap();
    let error = restored(&server, &repository, "occupied").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe);
    assert!(occupied.join("mine").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_backup_costs_what_changed_and_needs_no_other() {
    let server = server_with(50_000).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let first = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    server.run("shop", "UPDATE public.orders SET note = 'another' WHERE id % 5000 = 0; CHECKPOINT").await;
    let second = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    assert_eq!(first.new_bytes, first.stored_bytes);
    assert!(second.new_bytes * 5 < first.new_bytes, "{second:?} after {first:?}");
    let (data, told) = restored(&server, &repository, "restored").await.unwrap();
    assert_eq!(told.name, second.name);
    let restored = Restored::start(&data).await;
    let sum = "SELECT pg_catalog.md5(pg_catalog.string_agg(note, '' ORDER BY id)) FROM public.orders";
    assert_eq!(restored.text("shop", sum).await, server.text("shop", sum).await);
    restored.check();
}

/// All objects of a store.
async fn objects(store: &dyn BackupStore) -> Vec<ObjectKey> {
    let listed: Vec<ObjectMeta> = store.list("").try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.key).collect()
}

/// What `verify` names as damaged; a repository that cannot be opened names itself.
async fn damaged(store: &Arc<dyn BackupStore>) -> Vec<String> {
    let folder = ".pgpersist/main/repository".parse().unwrap();
    let repository = match Repository::open(Arc::clone(store), folder).await {
        Ok(repository) => repository.unwrap(),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid), "{error}");
            return vec![error.to_string()];
        }
    };
    let report = verify(&repository, None, Depth::Full, &Silent).await.unwrap();
    report.damaged.into_iter().map(|damaged| damaged.name.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_a_cut_or_a_missing_object_is_found_and_named() {
    let server = server_with(500).await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(Arc::clone(&store), &server).await;
    for _ in 0..2 {
        backup(&server, &repository, &BackupOptions { workers: 1, ..BackupOptions::default() }).await.unwrap();
        server.run("shop", "UPDATE public.orders SET note = 'another' WHERE id = 1").await;
    }
    assert_eq!(damaged(&store).await, Vec::<String>::new());
    for key in objects(store.as_ref()).await {
        let good = store.get(&key).await.unwrap();
        let last = good.len() - 1;
        // Of the large ones a few, their ends among them.
        for at in [0, 4, 5, 8, last / 3, last / 2, last - 60, last - 33, last] {
            let mut bad = good.to_vec();
            bad[at.min(last)] ^= 0x10;
            store.put(&key, bad.into()).await.unwrap();
            let named = damaged(&store).await;
            assert!(named.iter().any(|name| name.contains(key.as_str())), "byte {at} of {key}: {named:?}");
        }
        store.put(&key, good.slice(..last)).await.unwrap();
        let named = damaged(&store).await;
        assert!(named.iter().any(|name| name.contains(key.as_str())), "{key} without its last byte: {named:?}");
        if !key.as_str().ends_with("/repository") && !key.as_str().ends_with(".manifest") {
            store.delete(&key).await.unwrap();
            let named = damaged(&store).await;
            assert!(named.iter().any(|name| name.contains(key.as_str())), "{key} is gone: {named:?}");
        }
        store.put(&key, good).await.unwrap();
    }
    assert_eq!(damaged(&store).await, Vec::<String>::new());
}
