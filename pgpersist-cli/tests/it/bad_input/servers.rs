//! Somebody else on the same directory, or on the same port.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::support::cluster::{CONFIGURATION, TestCluster};
use crate::support::container::{APART, Container, can_isolate, contained};
use crate::support::scratch::Run;
use crate::support::tree::Tree;
use crate::support::user;

/// Where our own files of the cluster lie.
fn own_folder(cluster: &TestCluster) -> std::path::PathBuf {
    let beside = cluster.scratch.join("volume/.pgpersist/data");
    if beside.is_dir() { beside } else { cluster.data().join(".pgpersist") }
}

#[test]
fn a_second_pgpersist_on_the_directory_is_a_conflict() {
    let cluster = TestCluster::stopped("");
    let path = own_folder(&cluster).join("supervisor.lock");
    let claim = OpenOptions::new().read(true).write(true).custom_flags(rustix::fs::OFlags::CLOEXEC.bits() as i32).open(&path).unwrap();
    rustix::fs::flock(&claim, FlockOperation::NonBlockingLockExclusive).unwrap();
    let before = cluster.volume_tree();
    for command in [&["init", "--allow-ephemeral"][..], &["start"], &["restart"]] {
        cluster.run(command).refused(5, &["is in use by another pgpersist: process ", "  remedy: wait until it has finished, or stop it"]);
        before.assert_same(&cluster.volume_tree());
    }
    // What only looks needs no claim.
    assert_eq!(cluster.run(&["status"]).code, Some(6));
    cluster.run(&["stop"]).done();
    drop(claim);
    cluster.run(&["start"]).done();
}

#[test]
fn two_that_start_at_once_start_one_server() {
    let cluster = TestCluster::stopped("");
    let spawn = || {
        let mut command = cluster.scratch.command();
        command.arg("start").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..4).map(|_| spawn()).collect();
    let mut started = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match output.status.code() {
            Some(0) if told.contains("Started in ") => started += 1,
            Some(0) => assert!(told.contains("It runs already."), "{told}"),
            code => assert!(code == Some(5) && told.contains("is in use by another pgpersist"), "{told}"),
        }
    }
    assert_eq!(started, 1);
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
}

/// A server that was started by hand, ended with its handle.
struct ByHand(Child);

impl ByHand {
    fn start(cluster: &TestCluster) -> Self {
        let mut postgres = Command::new(user::client("postgres"));
        user::run_as_user(&mut postgres);
        postgres
            .arg("-D")
            .arg(cluster.data())
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self(postgres.spawn().unwrap());
        let ready = || fs::read_to_string(cluster.data().join("postmaster.pid")).is_ok_and(|text| text.contains("ready"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready() {
            assert!(Instant::now() < deadline, "the server that was started by hand is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        if let Some(process) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::INT);
        }
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_was_started_by_hand_is_read_from_and_else_refused() {
    let cluster = TestCluster::stopped("");
    let server = ByHand::start(&cluster);
    let configuration =
        || ["postgresql.conf", "pgpersist.conf", "postmaster.pid", "PG_VERSION"].map(|name| fs::read(cluster.data().join(name)).unwrap());
    let before = configuration();
    cluster.run(&["start"]).refused(
        5,
        &[
            "a server that pgpersist did not start runs in",
            &format!("(process {})", server.0.id()),
            "  remedy: stop it with `pgpersist stop`, then `pgpersist start`",
        ],
    );
    assert!(before == configuration());
    cluster.run(&["status"]).done();
    cluster.dump(&["-d", "postgres"]);
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
}

#[test]
fn a_server_in_another_pid_and_ipc_namespace_is_seen() {
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    cluster.run(&["start"]).done();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
    let files = || ["postmaster.pid", "postgresql.conf", "pgpersist.conf"].map(|name| fs::read(cluster.data().join(name)).unwrap());
    let before = files();
    for words in [&["start", "--timeout", "1"][..], &["start", "--timeout", "1", "--yes"]] {
        // Each of the two starts in a namespace of its own where neither sees the other's processes.
        let run = Run::from(contained(&cluster, APART, "exec \"$@\"", words).output().unwrap());
        run.refused(
            5,
            &[
                "still run and hold its lock, perhaps in another container on this machine",
                "  remedy: stop that server or its container first",
            ],
        );
        assert!(before == files());
    }
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
    // The same when it is the server that is in the namespace: what it started there ends with the namespace.
    cluster.run(&["stop"]).done();
    let container = Container::start(&cluster, "true", &[], &[]);
    let before = files();
    cluster.run(&["start", "--timeout", "1"]).refused(5, &["still run and hold its lock"]);
    assert!(before == files());
    // What cannot reach it says who it is, and neither that all is quiet nor that it should be started.
    for words in [&["stop", "--timeout", "1"][..], &["restart", "--timeout", "1"], &["dump", "-d", "postgres"]] {
        let run = cluster.run(words);
        run.refused(5, &["still run and hold its lock", "the server that was started last is process ", "  remedy: stop that server"]);
        assert!(!run.stderr.contains("pgpersist start"), "{run:?}");
        assert!(before == files());
    }
    drop(container);
    cluster.run(&["start"]).done();
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
}

#[test]
fn a_port_that_is_in_use_is_unavailable() {
    let cluster = TestCluster::stopped("");
    let listener = TcpListener::bind(("127.0.0.1", cluster.scratch.port())).unwrap();
    // The server's log lies beside the data.
    let before = Tree::without(&cluster.data(), &[".pgpersist"]);
    let port = cluster.scratch.port().to_string();
    cluster.run(&["start"]).refused(
        6,
        &["error: the server did not start in", "Address already in use", &format!("  remedy: another server uses port {port}"), "PGPORT"],
    );
    assert_eq!(cluster.postmaster(), None);
    before.assert_same(&Tree::without(&cluster.data(), &[".pgpersist"]));
    assert_eq!(cluster.run(&["status"]).code, Some(6));
    drop(listener);
    cluster.run(&["start"]).done();
}

#[test]
fn a_socket_that_is_in_use_is_unavailable_and_stays() {
    let (cluster, other) = TestCluster::pair();
    cluster.init();
    cluster.start();
    let socket = cluster.scratch.join("volume/socket");
    let variables = [
        ("PGPERSIST_CLUSTER_SETTINGS_UNIX_SOCKET_DIRECTORIES", socket.to_str().unwrap().to_owned()),
        ("PGPERSIST_CLUSTER_SETTINGS_LISTEN_ADDRESSES", String::new()),
        ("PGPORT", cluster.scratch.port().to_string()),
    ];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // The file beats PGPORT.
    let file = CONFIGURATION.replace("port = {port}\n", "");
    other.scratch.write("pgpersist.toml", &file);
    other.scratch.run(&["init", "--allow-ephemeral"], &variables).done();
    other.scratch.run(&["start"], &variables).refused(6, &["error: the server did not start in", "  remedy: another server uses port"]);
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1", "the socket is the first server's");
}
