//! A durable cluster's life: made, started, killed, recovered, adopted, stopped, on every major found.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::fs::lock_file;
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::init::plan::InitWishes;
use pgpersist_core::init::ready::{InitOptions, InitReport, make_ready};
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::cluster::{Cluster, ClusterOptions, ServerState};
use pgpersist_core::server::installation::InstallationSearch;
use pgpersist_core::server::process;
use pgpersist_core::server::start::{StartOptions, start};
use pgpersist_core::server::stop::stop;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::installation::{Installation, server_user};
use crate::support::scratch::Scratch;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster below a scratch folder whose server ends with it.
struct Life {
    cluster: Cluster,
    scratch: Scratch,
}

impl Life {
    fn new(installation: &Installation) -> Self {
        let scratch = Scratch::new();
        let cluster = cluster_in(scratch.join("pgdata"), &scratch, installation);
        Self { cluster, scratch }
    }

    async fn init(&self, databases: &[&str]) -> InitReport {
        let options = InitOptions {
            cluster_name: "main".into(),
            databases: databases.iter().map(|name| (*name).to_owned()).collect(),
            superuser: "postgres".into(),
            wishes: InitWishes::default(),
        };
        make_ready(&self.cluster, None, &options, &(Arc::new(Silent) as Arc<dyn ProgressSink>)).await.unwrap()
    }

    async fn start(&self) -> i32 {
        let report = start(&self.cluster, &StartOptions::default()).await.unwrap();
        assert_eq!(report.status.state, ServerState::Running);
        report.status.pid.unwrap()
    }

    fn own(&self) -> PathBuf {
        self.cluster.directory().own_folder().path().to_owned()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Only a server of this very folder, proven by its working directory.
        if let Ok(presence) = process::Presence::of(self.cluster.path())
            && let Some(pid_file) = presence.running()
        {
            kill(pid_file.pid, Signal::QUIT);
        }
    }
}

pub(crate) fn cluster_in(directory: PathBuf, scratch: &Scratch, installation: &Installation) -> Cluster {
    let options = ClusterOptions {
        // The socket is private, so its number may be anything; nothing listens on TCP.
        port: 5432,
        settings: [("listen_addresses".to_owned(), String::new())].into(),
        socket_directory: Some(scratch.path().to_owned()),
        os_user: server_user().map(|_| OsUser::lookup("postgres").unwrap().unwrap()),
        ..ClusterOptions::default()
    };
    let search = InstallationSearch { configured: Some(installation.bin.clone()), ..InstallationSearch::default() };
    Cluster::new(Arc::new(LocalDataDirectory::open(directory).unwrap()), search, options)
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

#[tokio::test]
async fn a_cluster_is_made_started_killed_recovered_and_stopped() {
    for installation in Installation::all() {
        let life = Life::new(&installation);
        let report = life.init(&["customerInvoice", "odd \"name' 1"]).await;
        assert_eq!((report.action, report.databases_created.len()), ("created", 2), "{}", installation.version);
        assert_eq!(life.cluster.status().await.unwrap().state, ServerState::Stopped);

        let pid = life.start().await;
        let again = start(&life.cluster, &StartOptions::default()).await.unwrap();
        assert_eq!((again.changed, again.status.pid), (false, Some(pid)));
        assert!(!lock_file::is_free(&life.own().join("server.lock")).unwrap(), "the server holds the lock");

        kill(pid, Signal::KILL);
        let second = life.start().await;
        assert_ne!(second, pid);
        let adopted = life.init(&["customerInvoice"]).await;
        assert_eq!((adopted.action, adopted.system_identifier), ("adopted", report.system_identifier));

        let stopped = stop(&life.cluster, TIMEOUT).await.unwrap();
        assert!(stopped.changed && !stopped.immediate);
        assert_eq!(stopped.status.state, ServerState::Stopped);
        assert!(lock_file::is_free(&life.own().join("server.lock")).unwrap());
        assert!(!stop(&life.cluster, TIMEOUT).await.unwrap().changed);
    }
}

#[tokio::test]
async fn a_database_that_was_added_to_the_configuration_is_created_at_the_next_init() {
    let installation = Installation::all().pop().unwrap();
    let life = Life::new(&installation);
    life.init(&["first"]).await;
    let report = life.init(&["first", "second"]).await;
    assert_eq!((report.action, report.databases_created), ("adopted", vec!["second".to_owned()]));
    assert!(life.init(&["first", "second"]).await.databases_created.is_empty());
}

#[tokio::test]
async fn a_second_claim_is_refused_and_names_the_holder() {
    let installation = Installation::all().pop().unwrap();
    let life = Life::new(&installation);
    life.init(&[]).await;
    let claim = life.cluster.directory().claim().await.unwrap();
    let error = start(&life.cluster, &StartOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(claim);
    life.start().await;
}

#[tokio::test]
async fn a_server_that_was_started_by_hand_is_seen_and_not_adopted() {
    let installation = Installation::all().pop().unwrap();
    let life = Life::new(&installation);
    life.init(&[]).await;
    let mut by_hand =
        installation.command("postgres").arg("-D").arg(life.cluster.path()).arg("-k").arg(life.scratch.path()).spawn().unwrap();
    let deadline = std::time::Instant::now() + TIMEOUT;
    while life.cluster.status().await.unwrap().state != ServerState::Running {
        assert!(std::time::Instant::now() < deadline, "the server by hand never came up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = start(&life.cluster, &StartOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(stop(&life.cluster, TIMEOUT).await.unwrap().changed);
    by_hand.wait().unwrap();
}

#[tokio::test]
async fn a_pid_file_of_somebody_else_is_not_removed() {
    let installation = Installation::all().pop().unwrap();
    let life = Life::new(&installation);
    life.init(&[]).await;
    let pid_file = life.cluster.path().join("postmaster.pid");
    // Another container's server: its number means nothing here, and it is younger than our boot.
    let now = std::fs::metadata(life.cluster.path().join("PG_VERSION")).unwrap().modified().unwrap();
    let seconds = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    std::io::Write::write_all(
        &mut std::fs::File::create(&pid_file).unwrap(),
        format!("999999\n{}\n{seconds}\n5432\n\n\n", life.cluster.path().display()).as_bytes(),
    )
    .unwrap();
    let options = StartOptions { timeout: Duration::from_secs(1), trust_stale_pid: false };
    let error = start(&life.cluster, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe);
    assert!(error.to_string().contains("999999") && pid_file.exists(), "{error}");
    // Signs of life beat whoever says that there is none: somebody writes WAL here.
    let trusted = StartOptions { timeout: Duration::from_secs(20), trust_stale_pid: true };
    let (ended, ends) = std::sync::mpsc::channel::<()>();
    let segment = life.cluster.path().join("pg_wal/somebody");
    let writer = std::thread::spawn(move || {
        while ends.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            std::io::Write::write_all(&mut std::fs::OpenOptions::new().create(true).append(true).open(&segment).unwrap(), b"wal").unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::remove_file(&segment).unwrap();
    });
    let error = start(&life.cluster, &trusted).await.unwrap_err();
    drop(ended);
    writer.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsafe);
    assert!(error.to_string().contains("changed while it was watched") && pid_file.exists(), "{error}");
    assert!(!error.remedy().unwrap().contains("--yes"));
    start(&life.cluster, &trusted).await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_postgres_refuses_is_told_by_its_own_words() {
    let installation = Installation::all().pop().unwrap();
    let life = Life::new(&installation);
    life.init(&[]).await;
    let auto = life.cluster.path().join("postgresql.auto.conf");
    std::io::Write::write_all(&mut std::fs::File::create(&auto).unwrap(), b"shared_buffers = 'lots'\n").unwrap();
    let error = start(&life.cluster, &StartOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.causes().concat().contains("shared_buffers"), "{:?}", error.causes());
    assert_eq!(life.cluster.status().await.unwrap().state, ServerState::Stopped);
}
