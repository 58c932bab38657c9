//! What health says of real servers and real file systems: well, stopped, silent, careless, full, and gone with the pod.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::health::checks::probe::Probe;
use pgpersist_core::health::checks::standard::{HealthOptions, checks};
use pgpersist_core::health::render::{prometheus, text};
use pgpersist_core::health::report::{self, Report};
use pgpersist_core::health::{Finding, HealthCheck, Status, conformance};
use pgpersist_core::init::plan::InitWishes;
use pgpersist_core::init::ready::{InitOptions, make_ready};
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::cluster::{Cluster, ClusterOptions};
use pgpersist_core::server::installation::InstallationSearch;
use pgpersist_core::server::process::Presence;
use pgpersist_core::server::session::Session;
use pgpersist_core::server::start::{StartOptions, start};
use pgpersist_core::server::stop::stop;
use rustix::process::{Pid, Signal, kill_process};
use time::OffsetDateTime;

use crate::support::installation::{Installation, server_user};
use crate::support::scratch::Scratch;
use crate::support::skip::skip;

/// A name that needs quotes.
const DATABASE: &str = "customerInvoice";

/// A cluster with eight orders, and a store beside it.
struct Shop {
    cluster: Cluster,
    scratch: Scratch,
}

impl Shop {
    fn new(installation: &Installation) -> Self {
        let scratch = Scratch::new();
        let options = ClusterOptions {
            settings: [("listen_addresses".to_owned(), String::new()), ("shared_buffers".to_owned(), "32MB".to_owned())].into(),
            socket_directory: Some(scratch.path().to_owned()),
            os_user: server_user().map(|_| OsUser::lookup("postgres").unwrap().unwrap()),
            user: "postgres".into(),
            ..ClusterOptions::default()
        };
        let search = InstallationSearch { configured: Some(installation.bin.clone()), ..InstallationSearch::default() };
        let directory = LocalDataDirectory::open(scratch.join("pgdata")).unwrap();
        Self { cluster: Cluster::new(Arc::new(directory), search, options), scratch }
    }

    /// Made by `init`, and let in without a password, since tests may be root.
    async fn made(installation: &Installation) -> Self {
        let shop = Self::new(installation);
        let options = InitOptions {
            cluster_name: "main".into(),
            databases: vec![DATABASE.into()],
            superuser: "postgres".into(),
            wishes: InitWishes::default(),
        };
        let silent: Arc<dyn ProgressSink> = Arc::new(Silent);
        make_ready(&shop.cluster, None, &options, &silent).await.unwrap();
        File::create(shop.cluster.path().join("pg_hba.conf")).unwrap().write_all(b"local all all trust\n").unwrap();
        std::fs::set_permissions(shop.cluster.path().join("pg_hba.conf"), std::fs::Permissions::from_mode(0o644)).unwrap();
        shop
    }

    async fn open(installation: &Installation) -> Self {
        let shop = Self::made(installation).await;
        start(&shop.cluster, &StartOptions::default()).await.unwrap();
        shop.run("CREATE TABLE orders AS SELECT g AS id FROM pg_catalog.generate_series(1, 8) g").await;
        shop
    }

    async fn session(&self) -> Session {
        Session::connect(&self.cluster.connection(DATABASE).await.unwrap(), Duration::from_secs(30)).await.unwrap()
    }

    async fn run(&self, sql: &str) {
        self.session().await.execute("run a test's SQL", &format!("SET search_path = public; {sql}")).await.unwrap();
    }

    fn store(&self) -> PathBuf {
        self.scratch.join("backups")
    }

    /// A dump by name alone, as old scripts left them.
    fn dump_made(&self, ago: Duration) {
        std::fs::create_dir_all(self.store()).unwrap();
        let at = SystemClock.now() - ago;
        let name = format!(
            "backup_{:04}{:02}{:02}_{:02}{:02}{:02}.sql.gz",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        );
        File::create(self.store().join(name)).unwrap().write_all(&[b'x'; 12_288]).unwrap();
    }

    fn options(&self) -> HealthOptions {
        let mut options = HealthOptions::new(self.cluster.clone());
        // Machines that run all tests at once are slow; those that are about deadlines set their own.
        options.deadline = Duration::from_secs(30);
        options.databases = vec![DATABASE.into()];
        options.stores = vec![self.store().into()];
        options.tables = vec!["orders".into()];
        options
    }

    async fn report(&self) -> Report {
        health(&self.options()).await
    }

    fn pid(&self) -> Option<i32> {
        Presence::of(self.cluster.path()).ok().and_then(|presence| presence.running().map(|pid_file| pid_file.pid))
    }

    fn signal(&self, signal: Signal) {
        // Only a server of this very folder, proven by its working directory.
        if let Some(pid) = self.pid() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::QUIT);
        // A server that is still ending would write into a folder that is being removed.
        for _ in 0..1000 {
            if self.pid().is_none() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

async fn health(options: &HealthOptions) -> Report {
    let all = checks(options).unwrap();
    // Only to end a test that would hang: far beyond every deadline.
    tokio::time::timeout(Duration::from_secs(120), report::run(&all, &SystemClock)).await.unwrap()
}

#[track_caller]
fn found<'a>(report: &'a Report, name: &str) -> &'a Finding {
    report.finding(name).unwrap_or_else(|| panic!("no finding {name} in {report:#?}"))
}

#[track_caller]
fn expect(report: &Report, name: &str, status: Status, words: &str) {
    let finding = found(report, name);
    assert!(finding.status == status && finding.summary.contains(words), "expected {status:?} with `{words}`: {finding:#?}");
    assert!(status == Status::Pass || status == Status::Unknown || finding.remedy.is_some(), "{finding:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_cluster_is_told_line_by_line() {
    for installation in Installation::all() {
        let shop = Shop::open(&installation).await;
        shop.dump_made(Duration::from_secs(2 * 3600 + 60));
        let report = shop.report().await;
        let names: Vec<&str> = report.findings.iter().map(|finding| finding.name.as_str()).collect();
        let database = format!("database:{DATABASE}");
        assert_eq!(
            names,
            [
                "data_directory",
                "placement",
                "server",
                "connection",
                &database,
                "probe:orders",
                "dumps",
                "backups",
                "last_drill",
                "disk",
                "settings",
                "transaction_ids"
            ]
        );
        let major = installation.version.major;
        expect(&report, "data_directory", Status::Pass, &format!("{} ({major}, ", shop.cluster.path().display()));
        expect(&report, "server", Status::Pass, &format!("running (pid {}, up ", shop.pid().unwrap()));
        expect(&report, "connection", Status::Pass, " of 100)");
        expect(&report, "dumps", Status::Pass, "(12 KB, 2 h ago)");
        expect(&report, "backups", Status::Pass, "none, and none are planned");
        expect(&report, "settings", Status::Pass, "checksums are on");
        expect(&report, "transaction_ids", Status::Pass, "less than 0.1 % used");
        // The store is on the data's own device here.
        assert!(found(&report, "placement").summary.contains("counts as none"), "{report:#?}");
        let text = text::render(&report);
        assert!(text.contains(&format!("✓ Database {DATABASE}: accessible (orders: 8 rows)\n")), "{text}");
        assert!(prometheus::render(&report).contains(&format!("pgpersist_probe_value{{name=\"orders\",database=\"{DATABASE}\"}} 8\n")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_fails_and_what_cannot_be_asked_is_unknown() {
    let shop = Shop::made(&Installation::all()[0]).await;
    shop.dump_made(Duration::from_secs(60));
    let report = shop.report().await;
    expect(&report, "server", Status::Fail, "not running");
    for name in ["connection", "database:customerInvoice", "probe:orders", "settings", "transaction_ids"] {
        expect(&report, name, Status::Unknown, "no server runs");
    }
    for name in ["data_directory", "dumps"] {
        expect(&report, name, Status::Pass, "");
    }
    assert_eq!(report.status, Status::Fail);
    assert!(text::render(&report).contains("✗ Server: not running\n    remedy: start it with `pgpersist start`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_fails_within_the_deadline() {
    let shop = Shop::open(&Installation::all()[0]).await;
    shop.signal(Signal::STOP);
    let mut options = shop.options();
    options.deadline = Duration::from_secs(6);
    let report = health(&options).await;
    expect(&report, "server", Status::Pass, "running");
    expect(&report, "connection", Status::Fail, "did not answer within");
    for name in ["database:customerInvoice", "probe:orders", "settings", "transaction_ids"] {
        assert_eq!(found(&report, name).status, Status::Unknown, "{report:#?}");
    }
    // Nothing waits for it outside of the deadlines either.
    let found = tokio::time::timeout(Duration::from_secs(120), HealthOptions::new(shop.cluster.clone()).with_databases_of_server());
    assert_eq!(found.await.unwrap().databases, [""; 0]);
}

/// A server that somebody started without us.
struct ByHand(Child);

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::QUIT);
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_careless_server_started_by_hand_is_found_out() {
    let installation = &Installation::all()[0];
    let shop = Shop::made(installation).await;
    let mut command = installation.command("postgres");
    command.arg("-D").arg(shop.cluster.path()).args(["-c", "fsync=off", "-c", "listen_addresses=", "-c"]);
    command.arg(format!("unix_socket_directories={}", shop.scratch.path().display())).stdout(Stdio::null()).stderr(Stdio::null());
    let by_hand = ByHand(command.spawn().unwrap());
    for _ in 0..600 {
        match shop.cluster.connection(DATABASE).await {
            Ok(connection) if Session::connect(&connection, Duration::from_secs(5)).await.is_ok() => break,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    shop.run("CREATE TABLE orders(); CREATE ROLE importer; ALTER ROLE importer SET synchronous_commit = off").await;
    // The server keeps such a value as it was written.
    shop.run("CREATE ROLE hasty; ALTER ROLE hasty SET synchronous_commit = 'FALSE'").await;
    shop.run("ALTER DATABASE \"customerInvoice\" SET synchronous_commit = off").await;
    let session = shop.session().await;
    session.execute("change a file", "ALTER SYSTEM SET full_page_writes = off").await.unwrap();
    drop(session);
    shop.run("SELECT pg_catalog.pg_reload_conf()").await;
    // The postmaster reads its files when it has handled the signal, and tells new sessions then.
    for _ in 0..600 {
        if shop.session().await.setting("full_page_writes").await.unwrap().as_deref() == Some("off") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let report = shop.report().await;
    expect(&report, "server", Status::Warn, "started by hand");
    expect(&report, "settings", Status::Fail, "fsync is off (by command line)");
    expect(&report, "settings", Status::Fail, "full_page_writes is off");
    expect(&report, "settings", Status::Fail, "postgresql.auto.conf");
    expect(&report, "settings", Status::Fail, "synchronous_commit is off for role importer");
    expect(&report, "settings", Status::Fail, "synchronous_commit is off for role hasty");
    expect(&report, "settings", Status::Fail, "synchronous_commit is off for database customerInvoice");
    drop(by_hand);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_asks_one_question_that_changes_nothing() {
    let shop = Shop::open(&Installation::all()[0]).await;
    let mut options = shop.options();
    options.tables = vec!["public.orders".into(), "absent".into(), "Orders".into()];
    options.databases.push("no such \"database".into());
    let probes = [
        ("count", "select count(*) from orders"),
        ("sum", "select sum(id) from orders;"),
        ("many", "select generate_series(1, 1000000000)"),
        ("write", "delete from orders returning id"),
        ("two", "select 1; drop table orders"),
        ("gone", "select * from nowhere"),
    ];
    options.probes = probes.map(|(name, sql)| Probe { name: name.into(), database: DATABASE.into(), sql: sql.into() }).to_vec();
    let report = health(&options).await;
    expect(&report, "probe:count", Status::Pass, "8 rows");
    expect(&report, "probe:sum", Status::Pass, "36");
    expect(&report, "probe:write", Status::Fail, "read-only transaction");
    expect(&report, "probe:two", Status::Fail, "cannot insert multiple commands");
    expect(&report, "probe:gone", Status::Fail, "\"nowhere\" does not exist");
    // One row is enough: the others are not waited for.
    expect(&report, "probe:many", Status::Pass, "1");
    expect(&report, "probe:public.orders", Status::Pass, "8 rows");
    expect(&report, "probe:absent", Status::Fail, "there is no table absent");
    // Upper and lower case count.
    expect(&report, "probe:Orders", Status::Fail, "there is no table Orders");
    expect(&report, "database:no such \"database", Status::Fail, "does not exist");
    assert_eq!(shop.session().await.text("count", "SELECT count(*) FROM public.orders").await.unwrap().as_deref(), Some("8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_takes_too_long_is_unknown_and_its_query_ends() {
    let shop = Shop::open(&Installation::all()[0]).await;
    let mut options = shop.options();
    options.tables.clear();
    options.deadline = Duration::from_secs(2);
    options.probes = vec![Probe { name: "slow".into(), database: DATABASE.into(), sql: "select pg_sleep(86400)".into() }];
    assert_eq!(found(&health(&options).await, "probe:slow").status, Status::Unknown);
    let running = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE query LIKE '%pg_sleep(86400)%' AND pid <> pg_catalog.pg_backend_pid() AND state = 'active'";
    for _ in 0..600 {
        if shop.session().await.text("look for the query", running).await.unwrap().as_deref() == Some("0") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server still runs the query of a probe that was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_old_and_one_that_is_damaged_fail() {
    let shop = Shop::new(&Installation::all()[0]);
    expect(&shop.report().await, "dumps", Status::Warn, "none yet");
    shop.dump_made(Duration::from_secs(3 * 86_400));
    expect(&shop.report().await, "dumps", Status::Fail, "is too old (12 KB, 3 d ago; at most 1 d 2 h wanted)");
    shop.dump_made(Duration::from_secs(60));
    expect(&shop.report().await, "dumps", Status::Pass, "1 min ago");
    File::create(shop.store().join("backup_20990101_000000.sql.gz")).unwrap();
    let at = SystemClock.now() - Duration::from_secs(5);
    let empty = format!("backup_{}_{:02}{:02}{:02}.sql.gz", date(at), at.hour(), at.minute(), at.second());
    File::create(shop.store().join(empty)).unwrap();
    expect(&shop.report().await, "dumps", Status::Fail, "is damaged: it holds nothing");
    // A store that is a file is told, and fails nothing else.
    let mut options = shop.options();
    File::create(shop.scratch.join("file")).unwrap();
    options.stores = vec![shop.scratch.join("file").into()];
    let report = health(&options).await;
    assert_eq!([found(&report, "dumps").status, found(&report, "backups").status], [Status::Unknown; 2]);
    options.stores.clear();
    expect(&health(&options).await, "dumps", Status::Warn, "no store is named");
}

fn date(at: OffsetDateTime) -> String {
    format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day())
}

fn of_directory(path: &Path) -> HealthOptions {
    let search = InstallationSearch::default();
    HealthOptions::new(Cluster::new(Arc::new(LocalDataDirectory::open(path).unwrap()), search, ClusterOptions::default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_memory_will_not_survive() {
    let memory = tempfile::Builder::new().prefix("pgpersist-test-").tempdir_in("/dev/shm").unwrap();
    let report = health(&of_directory(&memory.path().join("pgdata"))).await;
    expect(&report, "placement", Status::Fail, "will not survive");
    expect(&report, "data_directory", Status::Fail, "there is no data directory");
}

/// A small file system in memory, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where nothing can be mounted.
    fn mounted() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("pgpersist-test-").tempdir().unwrap();
        let flags = rustix::mount::MountFlags::NOSUID;
        match rustix::mount::mount("tmpfs", folder.path(), "tmpfs", flags, Some(c"size=256m,nr_inodes=100,mode=755")) {
            Ok(()) => Some(Self(folder)),
            Err(refusal) => {
                skip("mount", refusal);
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_in_bytes_and_in_inodes() {
    let Some(disk) = SmallDisk::mounted() else { return };
    let options = of_directory(&disk.0.path().join("pgdata"));
    expect(&health(&options).await, "disk", Status::Pass, "256 MB free of 256 MB");
    let filler = disk.0.path().join("filler");
    File::create(&filler).unwrap().write_all(&vec![1; 230 << 20]).unwrap();
    expect(&health(&options).await, "disk", Status::Fail, "26 MB free of 256 MB");
    std::fs::remove_file(&filler).unwrap();
    for number in 0..96 {
        File::create(disk.0.path().join(number.to_string())).unwrap();
    }
    expect(&health(&options).await, "disk", Status::Fail, "inodes free");
    let report = health(&options).await;
    assert!(prometheus::render(&report).contains("pgpersist_disk_free_inodes{place=\"data\""), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_checks_keep_the_promises_that_we_ask_of_others() {
    let shop = Shop::open(&Installation::all()[0]).await;
    let mut options = shop.options();
    options.probes = vec![Probe { name: "gone".into(), database: DATABASE.into(), sql: "select * from nowhere".into() }];
    let all: Vec<Arc<dyn HealthCheck>> = checks(&options).unwrap();
    for running in [true, false] {
        if !running {
            stop(&shop.cluster, Duration::from_secs(60)).await.unwrap();
        }
        for check in &all {
            let broken = conformance::violations(check.clone()).await;
            assert!(broken.is_empty(), "{}: {broken:?}", check.name());
        }
    }
}
