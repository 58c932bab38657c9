//! A restored cluster always ends on a timeline above its backup's: also when its server is killed between the end of its recovery and the
//! checkpoint that writes the new timeline down.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgpersist_core::backup::physical::{BackupOptions, back_up};
use pgpersist_core::clock::SystemClock;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::fs::durable;
use pgpersist_core::fs::os_user::default_role;
use pgpersist_core::init::plan::InitWishes;
use pgpersist_core::init::ready::{InitOptions, make_ready};
use pgpersist_core::pg::control_file::{CONTROL_FILE_PATH, ControlFile};
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::restore::physical::{RestoreOptions, newest, restore};
use pgpersist_core::server::cluster::{Cluster, ServerState};
use pgpersist_core::server::process::{self, Presence};
use pgpersist_core::server::promotion::FILE_NAME;
use pgpersist_core::server::session::Session;
use pgpersist_core::server::start::{StartOptions, start};
use pgpersist_core::server::stop::stop;
use pgpersist_core::store::memory::MemoryBackupStore;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use time::OffsetDateTime;

use crate::cluster::{cluster_in, kill};
use crate::support::installation::Installation;
use crate::support::scratch::Scratch;

const TIMEOUT: Duration = Duration::from_secs(120);
const ROWS: &str = "SELECT pg_catalog.count(*) FROM public.orders";

/// A backup of a cluster, and places to restore it to.
struct Yard {
    repository: Repository,
    installation: Installation,
    scratch: Scratch,
    number: u32,
}

impl Yard {
    async fn new(installation: &Installation) -> Self {
        let scratch = Scratch::new();
        let cluster = cluster_in(scratch.join("original"), &scratch, installation);
        let options =
            InitOptions { cluster_name: "main".into(), databases: Vec::new(), superuser: default_role(), wishes: InitWishes::default() };
        make_ready(&cluster, None, &options, &(Arc::new(Silent) as Arc<dyn ProgressSink>)).await.unwrap();
        start(&cluster, &StartOptions::default()).await.unwrap();
        let session = session(&cluster).await;
        let sql = "CREATE TABLE public.orders AS SELECT g AS id FROM pg_catalog.generate_series(1, 200000) g";
        session.execute("fill", sql).await.unwrap();
        let system_identifier = session.system_identifier().await.unwrap();
        let folder = ".pgpersist/main/repository".parse().unwrap();
        let store = Arc::new(MemoryBackupStore::new());
        let repository = Repository::open_or_make(store, folder, system_identifier, OffsetDateTime::UNIX_EPOCH).await.unwrap();
        let connection = cluster.connection("postgres").await.unwrap();
        back_up(&connection, cluster.path(), &repository, &BackupOptions::default(), &SystemClock, &Silent).await.unwrap();
        // What the log of the original goes on with lies in no backup.
        session.execute("go on", "DELETE FROM public.orders WHERE id > 5").await.unwrap();
        drop(session);
        stop(&cluster, TIMEOUT).await.unwrap();
        Self { repository, installation: installation.clone(), scratch, number: 0 }
    }

    /// The backup, restored to a new place.
    async fn restored(&mut self) -> Restored {
        self.number += 1;
        let path = self.scratch.join(&format!("restored{}", self.number));
        let directory = LocalDataDirectory::open(&path).unwrap();
        let backup = newest(&self.repository).await.unwrap();
        restore(&self.repository, backup, &directory, &RestoreOptions::default(), &Silent).await.unwrap();
        assert!(path.join(FILE_NAME).exists());
        Restored { cluster: cluster_in(path.clone(), &self.scratch, &self.installation), path }
    }
}

/// A cluster that was restored. Its server ends with it.
struct Restored {
    cluster: Cluster,
    path: PathBuf,
}

impl Drop for Restored {
    fn drop(&mut self) {
        if let Ok(Presence::Running(pid_file)) = Presence::of(&self.path) {
            kill(pid_file.pid, Signal::QUIT);
        }
    }
}

async fn session(cluster: &Cluster) -> Session {
    Session::connect(&cluster.connection("postgres").await.unwrap(), TIMEOUT).await.unwrap()
}

fn control(directory: &Path) -> ControlFile {
    ControlFile::parse(&std::fs::read(directory.join(CONTROL_FILE_PATH)).unwrap()).unwrap()
}

impl Restored {
    /// Begins to start it, and returns as soon as it has chosen a timeline, which is before that is written down.
    async fn chooses_a_timeline(&self) -> tokio::task::JoinHandle<pgpersist_core::error::Result<()>> {
        let cluster = self.cluster.clone();
        let starting = tokio::spawn(async move { start(&cluster, &StartOptions::default()).await.map(drop) });
        let (signal, began) = (self.path.join("recovery.signal"), Instant::now());
        while signal.exists() {
            assert!(began.elapsed() < TIMEOUT && !starting.is_finished(), "the server did not come to its timeline");
            std::thread::sleep(Duration::from_micros(20));
        }
        starting
    }

    fn postmaster(&self) -> i32 {
        Presence::of(&self.path).unwrap().running().unwrap().pid
    }

    /// It starts, and is on a timeline of its own with what the backup holds; and so it stays.
    async fn is_sound(&self) -> u32 {
        let report = start(&self.cluster, &StartOptions { timeout: TIMEOUT, ..StartOptions::default() }).await.unwrap();
        assert_eq!(report.status.state, ServerState::Running);
        assert!(!self.path.join(FILE_NAME).exists());
        let timeline = control(&self.path).timeline;
        let session = session(&self.cluster).await;
        assert_eq!(session.text("ask", "SELECT pg_catalog.pg_is_in_recovery()").await.unwrap().as_deref(), Some("f"));
        assert_eq!(session.text("ask", ROWS).await.unwrap().as_deref(), Some("200000"));
        let began = Instant::now();
        while session.text("ask", "SHOW restart_after_crash").await.unwrap().as_deref() != Some("on") {
            assert!(began.elapsed() < TIMEOUT, "the setting of the recovery outlives it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(session);
        stop(&self.cluster, TIMEOUT).await.unwrap();
        timeline
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_that_is_killed_within_its_promotion_never_stays_on_the_timeline_of_its_backup() {
    let mut random = StdRng::seed_from_u64(20_260_208);
    for installation in Installation::all() {
        let mut yard = Yard::new(&installation).await;
        let mut in_between = 0;
        for round in 0..6 {
            let restored = yard.restored().await;
            let starting = restored.chooses_a_timeline().await;
            std::thread::sleep(Duration::from_micros(random.random_range(0..4_000) * u64::from(round > 1)));
            let postmaster = restored.postmaster();
            // The postmaster first, so that it begins nothing anew.
            let all: Vec<i32> = std::iter::once(postmaster).chain(process::descendants(postmaster)).collect();
            all.iter().for_each(|pid| kill(*pid, Signal::KILL));
            let _ = starting.await.unwrap();
            in_between += u32::from(control(&restored.path).timeline == 1 && !restored.path.join("recovery.signal").exists());
            let timeline = restored.is_sound().await;
            assert!(timeline > 1, "round {round} of {}", installation.version);
        }
        assert!(in_between > 0, "no kill came between the choice of a timeline and its checkpoint: {}", installation.version);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpointer_that_is_killed_within_the_promotion_makes_no_server_go_on_on_the_old_timeline() {
    for installation in Installation::all() {
        let mut yard = Yard::new(&installation).await;
        let restored = yard.restored().await;
        let starting = restored.chooses_a_timeline().await;
        let is_checkpointer = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains("checkpointer"))
        };
        let checkpointer = process::descendants(restored.postmaster()).into_iter().find(is_checkpointer).unwrap();
        kill(checkpointer, Signal::KILL);
        // It either came too late, or the server has ended.
        let ended = starting.await.unwrap().is_err();
        assert!(ended || control(&restored.path).timeline > 1, "{}", installation.version);
        if !ended {
            stop(&restored.cluster, TIMEOUT).await.unwrap();
        }
        assert!(restored.is_sound().await > 1, "{}", installation.version);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_somebody_went_on_with_by_hand_on_the_old_timeline_is_taken_to_one_of_its_own_with_all_it_has() {
    let installation = Installation::all().remove(0);
    let mut yard = Yard::new(&installation).await;
    let restored = yard.restored().await;
    // As a promotion that was interrupted leaves it for a server that is started without pgpersist.
    let mark = std::fs::read(restored.path.join(FILE_NAME)).unwrap();
    for name in [FILE_NAME, "recovery.signal"] {
        durable::remove_file(&restored.path.join(name)).unwrap();
    }
    start(&restored.cluster, &StartOptions::default()).await.unwrap();
    session(&restored.cluster).await.execute("go on", "CREATE TABLE public.of_the_old_timeline ()").await.unwrap();
    for immediate in [false, true] {
        stop(&restored.cluster, TIMEOUT).await.unwrap();
        durable::write(&restored.path.join(FILE_NAME), &mark, 0o600).unwrap();
        start(&restored.cluster, &StartOptions::default()).await.unwrap();
        assert!(control(&restored.path).timeline > 1, "{immediate}");
        let session = session(&restored.cluster).await;
        assert_eq!(session.text("ask", "SELECT pg_catalog.count(*) FROM public.of_the_old_timeline").await.unwrap().as_deref(), Some("0"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_sessions_while_it_recovers_is_waited_for_as_well() {
    for installation in Installation::all() {
        let mut yard = Yard::new(&installation).await;
        let restored = yard.restored().await;
        let mut configuration = std::fs::File::options().append(true).open(restored.path.join("postgresql.conf")).unwrap();
        configuration.write_all(b"hot_standby = off\n").unwrap();
        assert!(restored.is_sound().await > 1, "{}", installation.version);
    }
}
