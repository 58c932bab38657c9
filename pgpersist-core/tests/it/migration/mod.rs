//! Moving a cluster: stopped, crashed, running, from Debian's layout, killed at any moment. PostgreSQL is the judge.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::state::State;
use pgpersist_core::error::{Error, ErrorKind};
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::init::plan::InitWishes;
use pgpersist_core::init::ready::{InitOptions, make_ready};
use pgpersist_core::migrate::plan::MigrationAction;
use pgpersist_core::migrate::run::{MigrateOptions, MigrateReport, migrate, plan};
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::cluster::{Cluster, ClusterOptions};
use pgpersist_core::server::installation::InstallationSearch;
use pgpersist_core::server::process::{self, Presence};
use pgpersist_core::server::session::Session;
use pgpersist_core::server::start::{StartOptions, start};
use pgpersist_core::server::stop::stop;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::installation::{Installation, server_user, succeed};
use crate::support::scratch::Scratch;

mod debian;
mod kills;
mod whole;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Tells the worker below, a process of its own, what to migrate.
const WORKER: &str = "PGPERSIST_TEST_MIGRATION";

/// A source and a target below a scratch folder; servers in them end with it.
struct Place {
    /// A volume in the scratch folder. The servers end before it is unmounted, and that comes before the folder's removal.
    mounted: Option<kills::Mounted>,
    scratch: Scratch,
    installation: Installation,
    source: PathBuf,
    target: PathBuf,
}

impl Place {
    /// With a stopped source: 1,000 rows in `orders`.
    async fn new() -> Self {
        let scratch = Scratch::new();
        let installation = Installation::all().pop().unwrap();
        let (source, target) = (scratch.join("old"), scratch.join("volume/pgdata"));
        installation.initdb(&source, &["--data-checksums"]);
        own(&scratch, "volume");
        let place = Self { mounted: None, scratch, installation, source, target };
        place.start(&place.source).await;
        place.psql(
            "create table orders (id int primary key, amount numeric); insert into orders select n, n from generate_series(1, 1000) n",
        );
        stop(&place.cluster(&place.source), TIMEOUT).await.unwrap();
        place
    }

    fn cluster(&self, directory: &Path) -> Cluster {
        cluster(directory, self.scratch.path(), &self.installation)
    }

    async fn start(&self, directory: &Path) -> i32 {
        start(&self.cluster(directory), &StartOptions::default()).await.unwrap().status.pid.unwrap()
    }

    fn options(&self) -> MigrateOptions {
        MigrateOptions { etc_root: self.scratch.join("etc"), ..MigrateOptions::default() }
    }

    async fn migrate(&self) -> Result<MigrateReport, Error> {
        self.migrate_with(&self.options()).await
    }

    async fn migrate_with(&self, options: &MigrateOptions) -> Result<MigrateReport, Error> {
        migrate(&self.cluster(&self.source), &self.cluster(&self.target), options, &silent()).await
    }

    /// What psql, which knows nothing of us, says.
    fn psql(&self, sql: &str) -> String {
        let mut command = self.installation.command("psql");
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"])
            .arg(self.scratch.path())
            .args(["-c", sql]);
        succeed(&mut command).trim().to_owned()
    }

    /// Init and start of the new place, alone, and its rows.
    async fn serve_target(&self) -> String {
        let options = InitOptions {
            cluster_name: "main".into(),
            databases: Vec::new(),
            superuser: "postgres".into(),
            wishes: InitWishes { allow_ephemeral: true, ..InitWishes::default() },
        };
        let cluster = self.cluster(&self.target);
        assert_eq!(make_ready(&cluster, None, &options, &silent()).await.unwrap().action, "adopted");
        start(&cluster, &StartOptions::default()).await.unwrap();
        self.psql("select count(*), sum(amount) from orders")
    }

    /// The target serves all rows also when the source is gone.
    async fn prove_target(&self) {
        remove(&self.source);
        assert_eq!(self.serve_target().await, "1000|500500");
        stop(&self.cluster(&self.target), TIMEOUT).await.unwrap();
        let checked = self.installation.command("pg_checksums").arg("--check").arg("-D").arg(&self.target).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    fn state(&self) -> State {
        LocalDataDirectory::open(&self.target).unwrap().state_now().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for directory in [&self.source, &self.target] {
            if let Ok(presence) = Presence::of(directory)
                && let Some(pid_file) = presence.running()
            {
                kill(pid_file.pid, Signal::QUIT);
            }
        }
    }
}

fn cluster(directory: &Path, sockets: &Path, installation: &Installation) -> Cluster {
    let options = ClusterOptions {
        settings: [("listen_addresses".to_owned(), String::new()), ("autovacuum".to_owned(), "off".to_owned())].into(),
        socket_directory: Some(sockets.to_owned()),
        // Whoever runs the test: the source was made so.
        user: "postgres".to_owned(),
        os_user: server_user().map(|_| OsUser::lookup("postgres").unwrap().unwrap()),
        ..ClusterOptions::default()
    };
    let search = InstallationSearch { configured: Some(installation.bin.clone()), ..InstallationSearch::default() };
    Cluster::new(Arc::new(LocalDataDirectory::open(directory).unwrap()), search, options)
}

fn silent() -> Arc<dyn ProgressSink> {
    Arc::new(Silent)
}

fn kill(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// A folder of the server's user.
fn own(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.join(name);
    fs::create_dir_all(&path).unwrap();
    give(&path);
    path
}

fn give(path: &Path) {
    if let Some(user) = server_user() {
        std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

fn write(path: &Path, text: &str) {
    File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    give(path);
}

fn remove(path: &Path) {
    pgpersist_core::fs::durable::remove_tree(path).unwrap();
}

/// Each file's hash, what is ours and a server's own left out. By the system's programs, which share no code with us.
fn hashes(directory: &Path) -> BTreeMap<PathBuf, String> {
    let script = "cd \"$1\" && find . -path ./.pgpersist -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum --zero";
    let sums = succeed(Command::new("sh").args(["-c", script, "sh"]).arg(directory));
    let sums: BTreeMap<PathBuf, String> = sums
        .split_terminator('\0')
        .map(|line| line.split_once("  ./").expect("a sum and a name"))
        .map(|(sum, name)| (PathBuf::from(name), sum.to_owned()))
        .collect();
    // A judge that sees nothing finds everything equal.
    assert!(!sums.is_empty(), "{} has no files", directory.display());
    assert!(sums.len() > 500 || !directory.join("base").exists(), "{} has only {} files", directory.display(), sums.len());
    sums
}

/// The source is what it was, but for one name.
fn assert_set_aside(source: &Path, before: &BTreeMap<PathBuf, String>) {
    let mut expected = before.clone();
    let control = expected.remove(Path::new("global/pg_control")).unwrap();
    expected.insert("global/pg_control.migrated".into(), control);
    assert_eq!(hashes(source), expected);
}

#[tokio::test]
async fn a_stopped_cluster_moves_and_its_source_stays_whole_and_dead() {
    let place = Place::new().await;
    File::create(place.source.join("odd \u{1F600}\nname")).unwrap().write_all(b"odd").unwrap();
    let before = hashes(&place.source);
    let planned = plan(&place.cluster(&place.source), &place.cluster(&place.target), &place.options()).await.unwrap();
    assert_eq!((planned.action, &planned.stop), (MigrationAction::Move, &None));
    assert!(!place.target.exists() && !place.scratch.join("volume/.pgpersist").exists(), "a plan touches nothing");

    let report = place.migrate().await.unwrap();
    assert_eq!((report.resumed, report.changed, report.downtime_s), (false, true, 0.0));
    assert!(report.files > 900 && report.bytes > 20_000_000, "{report:?}");
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    assert_set_aside(&place.source, &before);
    let error = start(&place.cluster(&place.source), &StartOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}");
    assert!(error.remedy().unwrap().contains("pg_control.migrated"));
    assert!(!place.installation.command("postgres").arg("-D").arg(&place.source).output().unwrap().status.success());
    assert_eq!(fs::read(place.target.join("odd \u{1F600}\nname")).unwrap(), b"odd");
    let own = place.scratch.join("volume/.pgpersist/pgdata");
    assert!(own.join("identity.json").exists() && !own.join("migration").exists());

    let again = place.migrate().await.unwrap();
    assert_eq!((again.changed, again.bytes, again.undo.clone()), (false, report.bytes, report.undo.clone()));
    place.prove_target().await;
    // The source is gone, and the answer is the same.
    assert!(!place.migrate().await.unwrap().changed);
}

#[tokio::test]
async fn the_undo_of_the_report_brings_the_source_back() {
    let place = Place::new().await;
    let report = place.migrate().await.unwrap();
    for command in report.undo.iter().filter(|command| !command.starts_with("pgpersist")) {
        succeed(Command::new("sh").args(["-c", command]));
    }
    place.start(&place.source).await;
    assert_eq!(place.psql("select count(*) from orders"), "1000");
}

#[tokio::test]
async fn a_crashed_cluster_moves_and_recovers_in_its_new_place() {
    let place = Place::new().await;
    let pid = place.start(&place.source).await;
    place.psql("delete from orders; insert into orders select n, n from generate_series(1, 1000) n");
    kill(pid, Signal::KILL);
    let report = place.migrate().await.unwrap();
    assert_eq!(report.downtime_s, 0.0);
    assert!(place.source.join("postmaster.pid").exists() && !place.target.join("postmaster.pid").exists());
    place.prove_target().await;
}

/// Rows that the server acknowledged, written as fast as it takes them until it goes.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    async fn begin(place: &Place) -> Self {
        let connection = place.cluster(&place.source).connection("postgres").await.unwrap();
        let session = Session::connect(&connection, TIMEOUT).await.unwrap();
        session.execute("make a table", "create table public.ledger (id bigint primary key, filler text)").await.unwrap();
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ending, counter) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let task = tokio::spawn(async move {
            for id in 1.. {
                let row = format!("insert into public.ledger values ({id}, repeat('x', 700))");
                if ending.load(Ordering::Relaxed) || session.execute("write", &row).await.is_err() {
                    return;
                }
                counter.store(id, Ordering::Relaxed);
            }
        });
        Self { stop, acknowledged, task }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.acknowledged.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_cluster_under_load_moves_with_every_acknowledged_row() {
    let place = Place::new().await;
    place.start(&place.source).await;
    let load = Load::begin(&place).await;
    let error = place.migrate().await.unwrap_err();
    let Error::ConsentNeeded { plan, .. } = &error else { panic!("{error}") };
    assert!(plan.iter().any(|step| step.contains("pgpersist stop")), "{plan:?}");
    assert!(!place.target.exists());
    let report = place.migrate_with(&MigrateOptions { consent: true, ..place.options() }).await.unwrap();
    assert!(report.downtime_s > 0.0 && !report.resumed);
    let acknowledged = load.end().await;
    assert!(acknowledged > 0);
    remove(&place.source);
    assert_eq!(place.serve_target().await, "1000|500500");
    let found: u64 = place.psql(&format!("select count(*) from ledger where id <= {acknowledged}")).parse().unwrap();
    assert_eq!(found, acknowledged);
    place.psql("create extension amcheck; select bt_index_check(oid, true) from pg_class where relname in ('orders_pkey', 'ledger_pkey')");
}

#[tokio::test]
async fn a_linked_pg_wal_becomes_a_folder_and_a_tablespace_is_refused() {
    let place = Place::new().await;
    let wal = own(&place.scratch, "disk2").join("wal");
    pgpersist_core::fs::durable::rename(&place.source.join("pg_wal"), &wal).unwrap();
    symlink(&wal, place.source.join("pg_wal")).unwrap();
    let space = own(&place.scratch, "space");
    place.start(&place.source).await;
    place.psql(&format!("create tablespace elsewhere location '{}'", space.display()));
    stop(&place.cluster(&place.source), TIMEOUT).await.unwrap();
    let before = hashes(&place.source);
    let error = place.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(space.to_str().unwrap()) && error.remedy().unwrap().contains("TABLESPACE"), "{error}");
    assert_eq!((hashes(&place.source), place.target.exists()), (before, false));
    place.start(&place.source).await;
    place.psql("drop tablespace elsewhere");
    stop(&place.cluster(&place.source), TIMEOUT).await.unwrap();
    place.migrate().await.unwrap();
    assert!(fs::symlink_metadata(place.target.join("pg_wal")).unwrap().is_dir());
    remove(&place.scratch.join("disk2"));
    place.prove_target().await;
}

#[tokio::test]
async fn a_target_that_cannot_be_is_refused_before_anything_is_touched() {
    let mut place = Place::new().await;
    let before = hashes(&place.source);
    let foreign = own(&place.scratch, "volume/foreign");
    write(&foreign.join("thesis.tex"), "mine");
    let other = place.scratch.join("volume/other");
    place.installation.initdb(&other, &[]);
    for (target, kind, word) in [
        (place.source.clone(), ErrorKind::Invalid, "both source and target"),
        (place.source.join("inside"), ErrorKind::Invalid, "lies in"),
        (place.scratch.path().to_owned(), ErrorKind::Invalid, "lies in"),
        (foreign.clone(), ErrorKind::Unsafe, "thesis.tex"),
        (other, ErrorKind::Unsafe, "another cluster"),
    ] {
        place.target = target.clone();
        let error = place.migrate().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}: {error}", target.display());
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(hashes(&place.source), before);
    assert!(!place.scratch.join("volume/.pgpersist").exists() && !foreign.join(".pgpersist").exists());
    place.target = place.scratch.join("volume/pgdata");
    place.source = place.scratch.join("nothing");
    assert_eq!(place.migrate().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_copy_made_by_hand_is_not_taken_for_ours() {
    let place = Place::new().await;
    succeed(Command::new("cp").arg("-a").arg(&place.source).arg(&place.target));
    let error = place.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("the same cluster"), "{error}");
}

#[tokio::test]
async fn only_the_same_migration_goes_on_where_one_stopped() {
    let mut place = Place::new().await;
    let folder = place.scratch.join("volume/.pgpersist/pgdata/migration");
    // A target that is half-made: the settings cannot be rendered at the end of the copy.
    let cluster = place.cluster(&place.target);
    let broken = ClusterOptions { settings: [("no_such_setting".to_owned(), "1".to_owned())].into(), ..cluster.options().clone() };
    let broken = Cluster::new(Arc::clone(cluster.directory()), cluster.search().clone(), broken);
    let error = migrate(&place.cluster(&place.source), &broken, &place.options(), &silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.causes().concat().contains("no_such_setting"), "{:?}", error.causes());
    assert_eq!(place.state(), State::HalfMade { operation: "migrate".into() });
    let init = InitOptions {
        cluster_name: "main".into(),
        databases: Vec::new(),
        superuser: "postgres".into(),
        wishes: InitWishes { allow_ephemeral: true, ..InitWishes::default() },
    };
    let error = make_ready(&cluster, None, &init, &silent()).await.unwrap_err();
    assert!(error.remedy().unwrap().contains("pgpersist migrate"), "{error}");
    assert!(folder.join("data/PG_VERSION").exists(), "init leaves the unfinished migration alone");

    let right = place.source.clone();
    place.source = place.scratch.join("another");
    place.installation.initdb(&place.source, &[]);
    let error = place.migrate().await.unwrap_err();
    assert!(error.to_string().contains("unfinished migration") && error.remedy().unwrap().contains(folder.to_str().unwrap()), "{error}");
    place.source = right;
    assert!(place.migrate().await.unwrap().resumed);
    place.prove_target().await;
}
