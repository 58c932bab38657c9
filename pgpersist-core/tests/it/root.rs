//! A program that is root and stays root, as backends in containers are: every operation, and whose the files are afterwards.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgpersist_core::agent::command::channel;
use pgpersist_core::agent::log::Unheard;
use pgpersist_core::agent::run::Agent;
use pgpersist_core::agent::{fencing, supervising};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::config::load::Config;
use pgpersist_core::config::sources::Sources;
use pgpersist_core::configured;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::drill::crash::{self, CrashOptions};
use pgpersist_core::drill::ground::Target;
use pgpersist_core::drill::{Verdict, history, restore};
use pgpersist_core::fs::durable;
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::health::Status;
use pgpersist_core::health::checks::standard::checks;
use pgpersist_core::health::report;
use pgpersist_core::init::plan::InitWishes;
use pgpersist_core::init::ready::{InitOptions, make_ready};
use pgpersist_core::logical::load::load;
use pgpersist_core::logical::load_options::LoadOptions;
use pgpersist_core::migrate::run::{MigrateOptions, migrate};
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::cluster::{Cluster, ServerState};
use pgpersist_core::server::connection::{ConnectionOptions, Host};
use pgpersist_core::server::process::Presence;
use pgpersist_core::server::restart::restart;
use pgpersist_core::server::session::Session;
use pgpersist_core::server::start::{StartOptions, start};
use pgpersist_core::server::stop::stop;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::installation::{Installation, succeed};
use crate::support::skip::skip;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Who owns the folder that the volume is mounted at, and all that a test makes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Volume {
    /// Root: the cluster's user can make nothing in it.
    Roots,
    /// The cluster's user.
    Users,
}

struct Place {
    folder: tempfile::TempDir,
    installation: Installation,
    user: OsUser,
    /// Free a moment ago.
    port: u16,
}

impl Place {
    /// `None` where we are not root.
    fn new(volume: Volume) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("root", "only root can stay root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("pgpersist-root-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let user = OsUser::lookup("postgres").unwrap().unwrap();
        if volume == Volume::Users {
            std::os::unix::fs::chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let installation = Installation::all().into_iter().rfind(|installation| installation.has("pg_checksums")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(Self { folder, installation, user, port })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, data: &str, more: &str) -> Config {
        let folder = self.folder.path().display();
        let text = format!(
            "{more}\n[cluster]\ndata_directory = '{folder}/{data}'\ndatabases = ['customerInvoice']\nbin_directory = '{}'\n\
             port = {}\n[cluster.settings]\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\nshared_buffers = '16MB'\n\
             [log]\ndirectory = '{folder}/log'\n[[store]]\nurl = '{folder}/backups'\n",
            self.installation.bin.display(),
            self.port
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        durable::write(file.path(), text.as_bytes(), 0o644).unwrap();
        Config::load(&Sources::gather(Some(file.path()), [], Path::new("/"), Vec::new()).unwrap()).unwrap()
    }

    /// What below the volume is not the cluster's user's, but root's or anybody's.
    fn not_the_users(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, uid: u32, gid: u32, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                // A server at work removes files of its own meanwhile.
                let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
                if (metadata.uid(), metadata.gid()) != (uid, gid) {
                    found.push(path.clone());
                }
                if metadata.is_dir() {
                    walk(&path, uid, gid, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), self.user.uid, self.user.gid, &mut found);
        found
    }

    #[track_caller]
    fn all_is_the_users(&self) {
        assert_eq!(self.not_the_users(), Vec::<PathBuf>::new());
    }

    /// What a client of our own, such as an application's driver, gets to know: it is root.
    fn ask_as_root(&self, connection: &ConnectionOptions, user: &str, sql: &str) -> Result<String, String> {
        let Host::Socket(socket) = &connection.host else { panic!("no socket: {connection:?}") };
        let mut psql = Command::new(self.installation.bin.join("psql"));
        psql.env_clear().args(["--no-psqlrc", "-At", "-U", user, "-d", &connection.database, "-c", sql]);
        let output = psql.arg("-h").arg(socket).args(["-p", &connection.port.to_string()]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// Ends the server of a test that fails.
struct Ended(PathBuf);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(presence) = Presence::of(&self.0)
            && let Some(pid_file) = presence.running()
        {
            let _ = kill_process(Pid::from_raw(pid_file.pid).unwrap(), Signal::QUIT);
        }
    }
}

async fn session(cluster: &Cluster, database: &str) -> Session {
    Session::connect(&cluster.connection(database).await.unwrap(), TIMEOUT).await.unwrap()
}

fn silent() -> (Arc<dyn ProgressSink>, Arc<dyn Clock>) {
    (Arc::new(Silent), Arc::new(SystemClock))
}

/// A cluster that was made, runs, and has some orders.
async fn made(place: &Place, config: &Config) -> Cluster {
    let (progress, _) = silent();
    let cluster = configured::cluster::open(config, BTreeMap::new()).unwrap();
    let shelf = configured::stores::shelf_if_any(config).unwrap();
    let options = configured::init::options(config, true).unwrap();
    let made = make_ready(&cluster, shelf.as_ref(), &options, &progress).await.unwrap();
    assert_eq!((made.action, made.databases_created.as_slice()), ("created", ["customerInvoice".to_owned()].as_slice()));
    place.all_is_the_users();
    start(&cluster, &StartOptions::default()).await.unwrap();
    let orders = "CREATE TABLE public.orders AS SELECT g AS id FROM pg_catalog.generate_series(1, 8) g";
    session(&cluster, "customerInvoice").await.execute("make a table", orders).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_volume_of_roots_everything_is_done_and_nothing_is_left_to_root() {
    everything(Volume::Roots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_volume_of_the_users_everything_is_done_and_nothing_is_left_to_root() {
    everything(Volume::Users).await;
}

async fn everything(volume: Volume) {
    let Some(place) = Place::new(volume) else { return };
    let _ended = Ended(place.path("pgdata"));
    let config = place.config("pgdata", "");
    let cluster = made(&place, &config).await;
    let (progress, clock) = silent();
    // The same folder that the user finds, which the command becomes.
    let own = cluster.directory().own_folder().path().to_owned();
    let expected = if volume == Volume::Roots { "pgdata/.pgpersist" } else { ".pgpersist/pgdata" };
    assert_eq!(own, place.path(expected));
    let again = configured::cluster::open(&config, BTreeMap::new()).unwrap();
    assert_eq!(again.directory().own_folder().path(), own);

    // Clients of ours that know nothing of pgpersist are root, and get in as the superuser and as nobody else.
    let connection = cluster.connection("customerInvoice").await.unwrap();
    assert_eq!(place.ask_as_root(&connection, "postgres", "SELECT count(*) FROM orders").unwrap(), "8");
    session(&cluster, "postgres").await.execute("make a role", "CREATE ROLE somebody LOGIN").await.unwrap();
    let refused = place.ask_as_root(&connection, "somebody", "SELECT 1").unwrap_err();
    assert!(refused.contains("Peer authentication failed"), "{refused}");

    // Dumps, and what comes of them.
    let request = configured::dump::request(&config, Vec::new()).unwrap();
    let dumped = request.carry_out(&clock, progress.as_ref()).await.unwrap();
    configured::dump::remember_room(&config, &cluster);
    let found = configured::load::find(&config, "latest", None, &Silent).await.unwrap();
    assert_eq!(found.source.name, dumped.dumps[0].name.as_str());
    let database = configured::load::database(&config, &found, Some("copy")).unwrap();
    let options = LoadOptions { trust: found.trust, ..LoadOptions::for_cluster(&cluster, database).await.unwrap() };
    assert_eq!(load(&options, found.source, &clock, &progress).await.unwrap().tables["public.orders"], 8);

    // Drills.
    let small = CrashOptions { rounds: 1, at_least: 20, undisturbed: 60, ..CrashOptions::new(1) };
    for target in [Target::Copy(cluster.clone()), Target::Live(cluster.clone())] {
        let report = crash::run(&target, &small, clock.as_ref(), progress.as_ref()).await.unwrap();
        assert_eq!(report.verdict, Verdict::Pass, "{}", report.to_text());
        history::keep(cluster.directory().own_folder(), &report).unwrap();
    }
    let shelf = configured::stores::shelf(&config).unwrap();
    let drilled = restore::run(&shelf, &configured::drill::scheduled(&config).unwrap(), &clock, &progress).await.unwrap();
    assert_eq!(drilled.verdict, Verdict::Pass, "{drilled:?}");
    let volume_of_reports = configured::drill::volume(&config).unwrap();
    history::keep_restore(&drilled, volume_of_reports.as_ref(), &shelf).await.unwrap();

    // Up and down.
    let options = configured::health::options(&config, &[]).unwrap().with_databases_of_server().await;
    let health = report::run(&checks(&options).unwrap(), &SystemClock).await;
    let failed: Vec<_> = health.findings.iter().filter(|finding| matches!(finding.status, Status::Fail | Status::Unknown)).collect();
    // A test's folder may well be one that does not last.
    assert!(failed.iter().all(|finding| finding.name.starts_with("placement")), "{failed:#?}");
    assert!(restart(&cluster, TIMEOUT, &StartOptions::default()).await.unwrap().started.changed);
    fencing::fence(&cluster, Some("odd rows".into()), TIMEOUT).await.unwrap();
    assert!(fencing::unfence(&cluster, TIMEOUT, progress.as_ref()).await.unwrap().changed);
    start(&cluster, &StartOptions::default()).await.unwrap();
    place.all_is_the_users();
    let crashed = cluster.status().await.unwrap().pid.unwrap();
    kill_process(Pid::from_raw(crashed).unwrap(), Signal::KILL).unwrap();
    start(&cluster, &StartOptions::default()).await.unwrap();
    assert_eq!(cluster.status().await.unwrap().state, ServerState::Running);
    assert!(stop(&cluster, TIMEOUT).await.unwrap().changed);

    // Another place, and back from a dump.
    let moved = place.config("moved", "");
    let target = configured::cluster::open(&moved, BTreeMap::new()).unwrap();
    let report = migrate(&cluster, &target, &MigrateOptions::default(), &progress).await.unwrap();
    assert!(report.changed && report.files > 500);
    let _moved = Ended(place.path("moved"));
    start(&target, &StartOptions::default()).await.unwrap();
    let rows = session(&target, "customerInvoice").await.text("count", "SELECT count(*) FROM public.orders").await.unwrap();
    assert_eq!(rows.as_deref(), Some("8"));
    stop(&target, TIMEOUT).await.unwrap();
    place.all_is_the_users();
    restored(&place, &shelf).await;
    agent(&place).await;
    place.all_is_the_users();
}

async fn restored(place: &Place, shelf: &pgpersist_core::logical::shelf::Shelf) {
    let (progress, _) = silent();
    let _ended = Ended(place.path("restored"));
    let config = place.config("restored", "");
    let cluster = configured::cluster::open(&config, BTreeMap::new()).unwrap();
    let wishes = InitWishes { allow_ephemeral: true, restore_latest: true, ..InitWishes::default() };
    let options = InitOptions { wishes, ..configured::init::options(&config, true).unwrap() };
    assert_eq!(make_ready(&cluster, Some(shelf), &options, &progress).await.unwrap().action, "restored");
    start(&cluster, &StartOptions::default()).await.unwrap();
    let rows = session(&cluster, "customerInvoice").await.text("count", "SELECT count(*) FROM public.orders").await.unwrap();
    assert_eq!(rows.as_deref(), Some("8"));
    let connection = cluster.connection("customerInvoice").await.unwrap();
    assert_eq!(place.ask_as_root(&connection, "postgres", "SELECT count(*) FROM orders").unwrap(), "8");
    assert!(stop(&cluster, TIMEOUT).await.unwrap().changed);
    place.all_is_the_users();
}

/// An agent with a job, told and asked through its socket.
async fn agent(place: &Place) {
    let _ended = Ended(place.path("restored"));
    let config = place.config("restored", "[dump]\nschedule = '* * * * *'\n");
    let cluster = configured::cluster::open(&config, BTreeMap::new()).unwrap();
    let options = configured::agent::options(&config, &cluster, true, false, TIMEOUT).unwrap();
    let (_commands, receiver) = channel();
    let running = Agent::new(cluster.clone(), options, Arc::new(Unheard), receiver);
    let status = running.status();
    let agent = tokio::spawn(running.run());
    // The next minute, and a dump.
    let until = Instant::now() + Duration::from_secs(180);
    let record = cluster.directory().own_folder().path().join("schedule/dump.json");
    let succeeded = || {
        let record = std::fs::read(&record).ok()?;
        serde_json::from_slice::<serde_json::Value>(&record).ok().filter(|record| record.to_string().contains("\"outcome\":\"success\""))
    };
    while succeeded().is_none() {
        assert!(Instant::now() < until && !agent.is_finished(), "no dump was made: {:?}", status.borrow());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(supervising::is_there(&cluster).await.unwrap());
    // The user's own programs reach the agent, as the command does that has become the user.
    let socket = std::fs::metadata(cluster.directory().own_folder().path().join("control.socket")).unwrap();
    assert_eq!(socket.uid(), place.user.uid);
    assert!(supervising::stop(&cluster, TIMEOUT).await.unwrap().changed);
    agent.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_volume_of_roots_is_handed_over_and_a_cluster_of_others_is_left_as_it_is() {
    let Some(place) = Place::new(Volume::Roots) else { return };
    std::fs::create_dir(place.path("pgdata")).unwrap();
    let _ended = Ended(place.path("pgdata"));
    let config = place.config("pgdata", "");
    let cluster = made(&place, &config).await;
    stop(&cluster, TIMEOUT).await.unwrap();
    place.all_is_the_users();

    // One that the user made has no map, and gets none; our own sessions need none.
    let adopted = place.path("adopted");
    std::fs::create_dir(&adopted).unwrap();
    std::os::unix::fs::chown(&adopted, Some(place.user.uid), Some(place.user.gid)).unwrap();
    let mut initdb = place.installation.command("initdb");
    succeed(
        initdb
            .args(["--no-sync", "--no-locale", "--auth-local=peer", "--auth-host=scram-sha-256", "--username=postgres", "-D"])
            .arg(&adopted),
    );
    let rules = std::fs::read(adopted.join("pg_hba.conf")).unwrap();
    let _adopted = Ended(adopted.clone());
    let config = place.config("adopted", "");
    let cluster = configured::cluster::open(&config, BTreeMap::new()).unwrap();
    let (progress, _) = silent();
    let options = configured::init::options(&config, true).unwrap();
    assert_eq!(make_ready(&cluster, None, &options, &progress).await.unwrap().action, "adopted");
    start(&cluster, &StartOptions::default()).await.unwrap();
    session(&cluster, "customerInvoice").await.execute("ask", "SELECT 1").await.unwrap();
    assert_eq!(std::fs::read(adopted.join("pg_hba.conf")).unwrap(), rules);
    let connection = cluster.connection("customerInvoice").await.unwrap();
    assert!(place.ask_as_root(&connection, "postgres", "SELECT 1").unwrap_err().contains("Peer authentication failed"));
    let error = Session::connect(&ConnectionOptions { os_user: None, ..connection }, TIMEOUT).await.unwrap_err();
    assert!(error.remedy().unwrap().contains("map=NAME"), "{error} {:?}", error.remedy());
    assert!(stop(&cluster, TIMEOUT).await.unwrap().changed);
    place.all_is_the_users();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_the_user_planted_lead_root_nowhere() {
    let Some(place) = Place::new(Volume::Roots) else { return };
    let _ended = Ended(place.path("pgdata"));
    let config = place.config("pgdata", "");
    let cluster = made(&place, &config).await;
    stop(&cluster, TIMEOUT).await.unwrap();
    let roots = place.path("roots");
    std::fs::create_dir(&roots).unwrap();
    let secret = roots.join("postgresql.conf");
    durable::write(&secret, b"# root's\n", 0o600).unwrap();
    let plant = |name: &Path, target: &Path| {
        std::os::unix::fs::symlink(target, name).unwrap();
        std::os::unix::fs::lchown(name, Some(place.user.uid), Some(place.user.gid)).unwrap();
    };
    // The settings would be written through it, and the log, the locks and records into it.
    let main = cluster.path().join("postgresql.conf");
    durable::rename(&main, &cluster.path().join("aside")).unwrap();
    plant(&main, &secret);
    start(&cluster, &StartOptions::default()).await.unwrap_err();
    assert_eq!(std::fs::read(&secret).unwrap(), b"# root's\n");
    durable::remove_file(&main).unwrap();
    durable::rename(&cluster.path().join("aside"), &main).unwrap();
    let own = cluster.directory().own_folder().path().to_owned();
    durable::rename(&own, &cluster.path().join("own")).unwrap();
    plant(&own, &roots);
    start(&cluster, &StartOptions::default()).await.unwrap_err();
    durable::remove_file(&own).unwrap();
    durable::rename(&cluster.path().join("own"), &own).unwrap();
    let log = place.path("log").join("postgresql.log");
    durable::remove_file(&log).unwrap();
    plant(&log, &roots.join("cron"));
    start(&cluster, &StartOptions::default()).await.unwrap_err();
    durable::remove_file(&log).unwrap();
    let left: Vec<_> = std::fs::read_dir(&roots).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["postgresql.conf"]);
    start(&cluster, &StartOptions::default()).await.unwrap();
    assert!(stop(&cluster, TIMEOUT).await.unwrap().changed);
}

#[tokio::test]
async fn nothing_is_made_in_a_folder_that_others_can_change() {
    let Some(place) = Place::new(Volume::Roots) else { return };
    std::fs::create_dir(place.path("shared")).unwrap();
    std::fs::set_permissions(place.path("shared"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let directory = LocalDataDirectory::open_for(place.path("shared/deep/pgdata"), Some(place.user.clone())).unwrap();
    let error = pgpersist_core::data_directory::DataDirectory::claim(&directory).await.unwrap_err();
    assert!(error.to_string().contains("can be changed by others") && error.remedy().unwrap().contains("install -d"), "{error}");
    assert_eq!(std::fs::read_dir(place.path("shared")).unwrap().count(), 0);
    // Nor is a folder of root's given away that a link of the user's leads to.
    let (theirs, roots) = (place.path("theirs"), place.path("roots"));
    std::fs::create_dir(&theirs).unwrap();
    std::fs::create_dir(&roots).unwrap();
    for (path, target) in [(theirs.clone(), None), (theirs.join("pgdata"), Some(&roots))] {
        if let Some(target) = target {
            std::os::unix::fs::symlink(target, &path).unwrap();
        }
        std::os::unix::fs::lchown(&path, Some(place.user.uid), Some(place.user.gid)).unwrap();
    }
    let directory = LocalDataDirectory::open_for(theirs.join("pgdata"), Some(place.user.clone())).unwrap();
    assert!(directory.hand_over().unwrap_err().to_string().contains("symbolic link"));
    assert_eq!(std::fs::metadata(&roots).unwrap().uid(), 0);
}
