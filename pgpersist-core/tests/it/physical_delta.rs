//! `restore --delta`: over a stopped cluster, of which stays what is as it should be.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgpersist_core::backup::physical::BackupOptions;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::state::State;
use pgpersist_core::data_directory::{Claim, DataDirectory, staging};
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::fs::durable;
use pgpersist_core::pg::lsn::Lsn;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::restore::delta::journey;
use pgpersist_core::restore::physical::{RestoreOptions, RestoreReport, newest, restore};
use pgpersist_core::restore::plan::RestorePlan;
use pgpersist_core::restore::survey::Survey;
use pgpersist_core::store::BackupStore;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::workers;

use crate::physical::{Restored, backup, repository, server_with};
use crate::support::server::TestServer;
use crate::support::tree::Tree;

/// Generous: what was dropped ends within a moment, but on a loaded machine that may be long.
const DEADLINE: Duration = Duration::from_secs(120);
const SUM: &str = "SELECT pg_catalog.md5(pg_catalog.string_agg(note, '' ORDER BY id)) FROM public.orders";
/// What goes on in a cluster after its backup: changed, new and dropped relations, and an unlogged one that is filled.
const LATER: &str = "UPDATE public.orders SET note = 'later' WHERE id % 10 = 0; CREATE TABLE public.later AS SELECT * FROM public.orders;
    DROP TABLE public.gone; INSERT INTO public.cache SELECT 7; CHECKPOINT; DELETE FROM public.orders WHERE id % 7 = 0";

/// A server with a backup, and that backup restored beside it: a cluster that can go on and be stopped.
struct Scene {
    server: TestServer,
    repository: Repository,
    data: PathBuf,
    sum: String,
}

impl Scene {
    async fn new(tablespace: bool) -> Self {
        let server = server_with(20_000).await;
        server.run("shop", "CREATE TABLE public.gone AS SELECT * FROM public.orders").await;
        if tablespace {
            let space = server.path("space");
            fs::create_dir(&space).unwrap();
            give(&space);
            server.run("postgres", &format!("CREATE TABLESPACE fast LOCATION '{}'", space.display())).await;
            server.run("shop", "CREATE TABLE public.elsewhere TABLESPACE fast AS SELECT * FROM public.orders").await;
        }
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let repository = repository(store, &server).await;
        backup(&server, &repository, &BackupOptions::default()).await.unwrap();
        let sum = server.text("shop", SUM).await;
        let data = server.path("restored");
        let scene = Self { server, repository, data, sum };
        scene.whole("restored").await;
        scene
    }

    /// The backup restored as a whole, to a folder of this name.
    async fn whole(&self, name: &str) -> PathBuf {
        let path = self.server.path(name);
        let survey = self.survey().await;
        let place = self.server.path(&format!("{name}_space"));
        let tablespaces = survey.manifest.tablespaces.iter().map(|one| format!("{}={}", one.oid, place.display()).parse().unwrap());
        let options = RestoreOptions { tablespaces: tablespaces.collect(), ..RestoreOptions::default() };
        let directory = LocalDataDirectory::open(&path).unwrap();
        restore(&self.repository, newest(&self.repository).await.unwrap(), &directory, &options, &Silent).await.unwrap();
        path
    }

    async fn survey(&self) -> Survey {
        Survey::look(&self.repository, newest(&self.repository).await.unwrap(), &Silent).await.unwrap()
    }

    fn directory(&self) -> LocalDataDirectory {
        LocalDataDirectory::open(&self.data).unwrap()
    }

    /// The cluster runs, changes, and is killed.
    async fn goes_on(&self) {
        let space = self.server.path("restored_space");
        if space.exists() {
            give(&space);
        }
        let restored = Restored::start(&self.data).await;
        for statement in LATER.split(';') {
            restored.text("shop", statement).await;
        }
    }

    async fn plan(&self) -> RestorePlan {
        journey::look(&self.repository, &self.survey().await, &self.directory(), &RestoreOptions::default(), &Silent).await.unwrap()
    }

    async fn delta(&self, discard: Option<Lsn>) -> Result<RestoreReport> {
        let options = RestoreOptions { delta: true, consent: true, discard_unshipped_wal: discard, ..RestoreOptions::default() };
        let (survey, directory) = (self.survey().await, self.directory());
        let restoring = journey::restore(&self.repository, &survey, &directory, &options, &Silent);
        workers::holding(Arc::new(self.claim().await), restoring).await
    }

    /// Nobody else is at work in the directory any more, a step of what was dropped included.
    async fn claim(&self) -> Claim {
        let began = Instant::now();
        loop {
            match self.directory().claim().await {
                Ok(claim) => return claim,
                Err(error) if error.kind() == ErrorKind::Conflict && began.elapsed() < DEADLINE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn end(plan: &RestorePlan) -> Lsn {
        plan.delta.as_ref().unwrap().unshipped_wal.unwrap().end_lsn
    }
}

fn give(path: &Path) {
    if rustix::process::geteuid().is_root() {
        assert!(std::process::Command::new("chown").args(["-R", "postgres:"]).arg(path).status().unwrap().success());
    }
}

/// All of a tree, but for the links to tablespaces, which lead elsewhere.
fn differences(one: &Path, other: &Path) -> Vec<String> {
    let differ = Tree::read(one).differences(&Tree::read(other));
    let names = differ.into_iter().map(|name| name.into_string().unwrap());
    names.filter(|name| !name.starts_with("pg_tblspc/")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_cluster_becomes_what_a_whole_restore_makes_and_keeps_what_was_right() {
    let scene = Scene::new(true).await;
    scene.goes_on().await;
    durable::write(&scene.data.join("server.key"), b"a secret", 0o600).unwrap();
    let plan = scene.plan().await;
    let planned = plan.delta.clone().unwrap();
    let unshipped = planned.unshipped_wal.unwrap();
    assert!(unshipped.timeline > 1 && planned.set_aside.contains(&"server.key".to_owned()), "{planned:?}");
    let refused = scene.delta(None).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Unsafe && refused.remedy().unwrap().contains(&unshipped.end_lsn.to_string()), "{refused}");
    let other = scene.delta(Some(Lsn(unshipped.end_lsn.0 - 8))).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Unsafe, "{other}");
    assert!(matches!(scene.directory().state().await.unwrap(), State::Cluster(_)), "nothing was touched");

    let report = scene.delta(Some(unshipped.end_lsn)).await.unwrap();
    let (kept, written) = (report.kept_bytes.unwrap(), report.written_bytes.unwrap());
    assert!(kept > written && report.kept_files.unwrap() > 500, "kept {kept}, wrote {written}: {report:?}");
    assert_eq!((Some(kept), Some(written)), (planned.kept_bytes, planned.written_bytes), "the plan had told it");
    let aside = report.kept_aside.unwrap();
    assert!(aside.join("pg_wal").is_dir() && aside.join("pg_control").exists());
    assert_eq!(fs::read(aside.join("server.key")).unwrap(), b"a secret");
    let measure = scene.whole("measure").await;
    assert_eq!(differences(&scene.data, &measure), Vec::<String>::new());
    assert_eq!(differences(&scene.server.path("restored_space"), &scene.server.path("measure_space")), Vec::<String>::new());

    let restored = Restored::start(&scene.data).await;
    assert_eq!(restored.text("shop", SUM).await, scene.sum);
    assert_eq!(restored.text("shop", &SUM.replace("orders", "elsewhere")).await, scene.sum);
    assert_eq!(restored.text("shop", "SELECT pg_catalog.count(*) FROM public.cache").await, "0");
    restored.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_holds_nothing_more_is_changed_without_giving_anything_up() {
    let scene = Scene::new(false).await;
    // Never started: all that its log has is the backup's.
    let plan = scene.plan().await;
    assert_eq!(plan.delta.as_ref().unwrap().unshipped_wal, None, "{:?}", plan.steps);
    let asked = RestoreOptions { delta: true, ..RestoreOptions::default() };
    let unasked = journey::restore(&scene.repository, &scene.survey().await, &scene.directory(), &asked, &Silent).await.unwrap_err();
    assert!(matches!(unasked, Error::ConsentNeeded { .. }), "{unasked}");
    // A page that rotted, and a file that shares its bytes with somebody's copy.
    let victim = fs::read_dir(scene.data.join("base/5")).unwrap().map(|entry| entry.unwrap().path());
    let victim = victim.filter(|path| fs::metadata(path).unwrap().len() > 8192).min().unwrap();
    let copy = scene.server.path("copy");
    fs::hard_link(&victim, &copy).unwrap();
    let mut bytes = fs::read(&victim).unwrap();
    let right = bytes.clone();
    bytes[5000] ^= 1;
    File::create(&victim).unwrap().write_all(&bytes).unwrap();
    let report = scene.delta(None).await.unwrap();
    assert_eq!(fs::read(&victim).unwrap(), right);
    assert_eq!((fs::read(&copy).unwrap(), fs::metadata(&copy).unwrap().nlink()), (bytes, 1), "the copy is as it was");
    assert!(report.written_bytes.unwrap() < 64 << 20, "{report:?}");
    let restored = Restored::start(&scene.data).await;
    assert_eq!(restored.text("shop", SUM).await, scene.sum);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_interrupted_starts_nowhere_and_is_gone_on_with() {
    let scene = Scene::new(false).await;
    scene.goes_on().await;
    let end = Scene::end(&scene.plan().await);
    // Dropped at a moment within the work, as a run that is cancelled; killed ones are the command line's tests.
    for milliseconds in [2_u64, 20, 60, 120] {
        let _ = tokio::time::timeout(Duration::from_millis(milliseconds), scene.delta(Some(end))).await;
        drop(scene.claim().await);
        if matches!(scene.directory().state().await.unwrap(), State::HalfMade { .. }) {
            assert!(!scene.data.join("global/pg_control").exists());
            let error = staging::recover(&scene.data, scene.directory().own_folder()).unwrap_err();
            assert!(error.remedy().unwrap().contains("restore --delta"), "{error}");
            break;
        }
    }
    let report = scene.delta(Some(end)).await.unwrap();
    assert!(report.kept_aside.unwrap().join("pg_wal").is_dir());
    assert!(!scene.directory().own_folder().path().join("half-made.json").exists());
    let measure = scene.whole("measure").await;
    assert_eq!(differences(&scene.data, &measure), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_and_one_that_runs_are_not_touched() {
    let (scene, other) = (Scene::new(false).await, Scene::new(false).await);
    let options = RestoreOptions { delta: true, consent: true, ..RestoreOptions::default() };
    let error = journey::restore(&scene.repository, &scene.survey().await, &other.directory(), &options, &Silent).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsafe && error.to_string().contains("system identifier"), "{error}");
    let running = LocalDataDirectory::open(scene.server.path("data")).unwrap();
    let error = journey::restore(&scene.repository, &scene.survey().await, &running, &options, &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let absent = LocalDataDirectory::open(scene.server.path("absent")).unwrap();
    let error = journey::restore(&scene.repository, &scene.survey().await, &absent, &options, &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}");
    assert!(scene.server.path("data/global/pg_control").exists() && other.data.join("global/pg_control").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_since_the_backup_are_counted() {
    let server = server_with(100).await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(store, &server).await;
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    for id in 1000..1005 {
        server.run("shop", &format!("INSERT INTO public.orders VALUES ({id}, 'new')")).await;
    }
    let data = server.path("data");
    let survey = Survey::look(&repository, newest(&repository).await.unwrap(), &Silent).await.unwrap();
    // A copy of the files of a server that was killed.
    let copy = server.path("copy");
    assert!(std::process::Command::new("cp").arg("-a").arg(&data).arg(&copy).status().unwrap().success());
    fs::remove_file(copy.join("postmaster.pid")).unwrap();
    let directory = LocalDataDirectory::open(&copy).unwrap();
    let plan = journey::look(&repository, &survey, &directory, &RestoreOptions::default(), &Silent).await.unwrap();
    let unshipped = plan.delta.unwrap().unshipped_wal.unwrap();
    assert!((5..50).contains(&unshipped.commits.unwrap()) && unshipped.timeline == 1, "{unshipped:?}");
}
