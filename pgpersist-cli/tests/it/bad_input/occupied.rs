//! `init` and `migrate` where a server that pgpersist did not start uses the directory, perhaps in another container: its
//! files are left alone, and every row stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::cluster::TestCluster;
use crate::support::processes;
use crate::support::scratch::Run;
use crate::support::tree::Tree;
use crate::support::user;

/// Where a server runs, seen from pgpersist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Beside it.
    Here,
    /// In a PID and IPC namespace of its own, as in a sibling container.
    Apart,
}

/// A server that somebody started without pgpersist, stopped with its handle.
struct Server {
    process: Child,
    place: Where,
}

/// Options of `unshare` for a container of its own.
const APART: [&str; 6] = ["--fork", "--kill-child", "--pid", "--ipc", "--mount-proc", "--"];

/// Runs pgpersist in a container that sees no process of the other ones.
fn run_apart(cluster: &TestCluster, arguments: &[&str]) -> Run {
    let mut command = Command::new("unshare");
    command.args(APART).arg(env!("CARGO_BIN_EXE_pgpersist"));
    cluster.scratch.prepare(&mut command);
    cluster.scratch.finish(command, arguments, &[])
}

impl Server {
    /// `None`, and the test says that it skips, where no namespace can be made.
    fn start(data: &Path, place: Where) -> Option<Self> {
        let mut command = match place {
            Where::Here => {
                let mut command = Command::new(user::client("postgres"));
                user::run_as_user(&mut command);
                command
            }
            Where::Apart => {
                let probe = Command::new("unshare").args(APART).arg("true").output();
                if !probe.as_ref().is_ok_and(|output| output.status.success()) {
                    eprintln!("skipped: no namespaces can be made here: {probe:?}");
                    return None;
                }
                let mut command = Command::new("unshare");
                command.args(APART);
                if user::server_user().is_some() {
                    command.args(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
                }
                command.arg(user::client("postgres"));
                command
            }
        };
        command.arg("-D").arg(data).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { process: command.spawn().unwrap(), place };
        let ready = || fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|text| text.contains("ready"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready() {
            assert!(Instant::now() < deadline, "the server that was started by hand is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ours = i32::try_from(self.process.id()).unwrap();
        let postmaster = match self.place {
            Where::Here => Some(ours),
            Where::Apart => processes::children_of(ours).first().copied(),
        };
        if let Some(process) = postmaster.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::INT);
        }
        let _ = self.process.wait();
    }
}

/// Runs something while rows are written to the table `alive`, and returns how many were acknowledged.
fn under_load(cluster: &TestCluster, work: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rows = 0;
            while !done.load(Ordering::Relaxed) {
                cluster.sql("postgres", "INSERT INTO alive SELECT 1");
                rows += 1;
            }
            rows
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let rows = writer.join().unwrap();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        rows
    })
}

fn configuration(data: &Path) -> Vec<Vec<u8>> {
    ["postgresql.conf", "pgpersist.conf", "postmaster.pid", "PG_VERSION"].map(|name| fs::read(data.join(name)).unwrap()).into()
}

const UNSEEN: &[&str] = &[
    "which this machine does not run",
    "the cluster's files changed while it was watched",
    "  remedy: a server on another machine or in another container uses this directory: stop it there",
];

#[test]
fn init_leaves_the_server_of_another_container_alone() {
    let cluster = TestCluster::stopped("");
    let Some(server) = Server::start(&cluster.data(), Where::Apart) else { return };
    cluster.sql("postgres", "CREATE TABLE alive (a int)");
    // A database that is to be created, and a setting that is to be written.
    cluster.configure("databases = [\"orders\"]\n[log]\n");
    let file = fs::read_to_string(cluster.scratch.join("pgpersist.toml")).unwrap();
    cluster.scratch.write("pgpersist.toml", &file.replace("shared_buffers = \"16MB\"", "shared_buffers = \"17MB\""));
    let before = configuration(&cluster.data());
    let rows = under_load(&cluster, || {
        run_apart(&cluster, &["init", "--allow-ephemeral"]).refused(5, UNSEEN);
        run_apart(&cluster, &["init", "--allow-ephemeral", "--dry-run"]).refused(5, &UNSEEN[..1]);
        // The machine itself sees the processes of its containers.
        let told = ["processes of another server still run in", "  remedy: stop the server or the container that they belong to"];
        cluster.run(&["init", "--allow-ephemeral"]).refused(5, &told);
    });
    assert!(before == configuration(&cluster.data()), "init wrote into a directory that is in use");
    assert!(rows > 0);
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM alive"), rows.to_string());
    drop(server);
    // Once the server is gone, the same command does its work.
    cluster.init();
    cluster.start();
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM alive"), rows.to_string());
    assert_eq!(cluster.databases(), ["orders"]);
}

#[test]
fn init_leaves_a_server_that_was_started_by_hand_alone() {
    let cluster = TestCluster::stopped("");
    let Some(server) = Server::start(&cluster.data(), Where::Here) else { return };
    cluster.configure("databases = [\"orders\"]\n");
    let before = Tree::without(&cluster.scratch.join("volume"), &["pg_wal", "pg_stat_tmp", "pg_stat", "global", "base"]);
    let told = [
        "a server that pgpersist did not start runs in",
        &format!("(process {})", server.process.id()),
        "  remedy: stop it with `pgpersist stop`, run `pgpersist init` again",
    ];
    cluster.run(&["init", "--allow-ephemeral"]).refused(5, &told);
    cluster.run(&["init", "--allow-ephemeral", "--dry-run"]).refused(5, &told);
    before.assert_same(&Tree::without(&cluster.scratch.join("volume"), &["pg_wal", "pg_stat_tmp", "pg_stat", "global", "base"]));
    assert_eq!(cluster.databases(), Vec::<String>::new());
    drop(server);
    cluster.init();
    cluster.start();
    assert_eq!(cluster.databases(), ["orders"]);
    // A server of ours is used as it runs.
    cluster.configure("databases = [\"orders\", \"invoices\"]\n");
    cluster.init();
    assert_eq!(cluster.databases(), ["invoices", "orders"]);
}

#[test]
fn init_creates_no_database_where_a_recovery_was_asked_for() {
    let cluster = TestCluster::stopped("");
    cluster.configure("databases = [\"orders\"]\n");
    for signal in ["recovery.signal", "standby.signal"] {
        let signal: PathBuf = cluster.scratch.write_bytes(&format!("volume/data/{signal}"), b"");
        let control = fs::read(cluster.data().join("global/pg_control")).unwrap();
        let told = [signal.to_str().unwrap(), "asks for a recovery", "  remedy: start the server"];
        cluster.run(&["init", "--allow-ephemeral"]).refused(5, &told);
        assert!(signal.exists() && fs::read(cluster.data().join("global/pg_control")).unwrap() == control);
        fs::remove_file(signal).unwrap();
    }
    cluster.init();
}

#[test]
fn init_works_in_the_directory_that_it_was_given_whatever_its_configuration_says() {
    let (cluster, other) = TestCluster::pair();
    cluster.init();
    other.init();
    let file = fs::read_to_string(cluster.data().join("postgresql.conf")).unwrap();
    cluster.scratch.write_bytes(
        "volume/data/postgresql.conf",
        format!("{file}\ndata_directory = '{}'\nfsync = off\n", other.data().display()).as_bytes(),
    );
    let before = Tree::of(&other.data());
    cluster.configure("databases = [\"orders\"]\n");
    cluster.init();
    before.assert_same(&Tree::of(&other.data()));
    cluster.scratch.write_bytes("volume/data/postgresql.conf", file.as_bytes());
    cluster.start();
    assert_eq!(cluster.databases(), ["orders"]);
}

#[test]
fn init_finds_the_databases_that_every_cluster_has() {
    let cluster = TestCluster::planned("databases = [\"postgres\", \"template1\", \"orders\"]\n");
    let made = cluster.run(&["init", "--allow-ephemeral", "--json"]).done();
    assert_eq!(made.json()["databases_created"], serde_json::json!(["orders"]));
}

#[test]
fn migrate_leaves_the_server_of_another_container_alone() {
    let cluster = TestCluster::stopped("");
    let Some(server) = Server::start(&cluster.data(), Where::Apart) else { return };
    cluster.sql("postgres", "CREATE TABLE alive (a int)");
    let to = cluster.scratch.folder("new").join("data");
    let migrate = ["migrate", "--from", "{dir}/volume/data", "--to", "{dir}/new/data", "--yes"];
    let before = configuration(&cluster.data());
    let rows = under_load(&cluster, || {
        run_apart(&cluster, &migrate).refused(5, UNSEEN);
        run_apart(&cluster, &[&migrate[..], &["--dry-run"]].concat()).refused(5, &UNSEEN[..1]);
    });
    // One that is idle may give no sign in so short a time, and is no more proven to be gone.
    let idle = run_apart(&cluster, &[&migrate[..], &["--timeout", "1"]].concat());
    idle.refused(5, &["nothing proves that its server is gone"]);
    assert!(before == configuration(&cluster.data()) && !to.exists());
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM alive"), rows.to_string());
    drop(server);
    cluster.run(&migrate).done();
}
