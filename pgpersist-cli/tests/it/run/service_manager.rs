//! What systemd is told: a socket of the test stands where its own would.

use std::fs::{self, Permissions};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::run::recovery::{held, let_go};
use crate::run::{Agent, PATIENCE};
use crate::support::cluster::TestCluster;

/// What it was told so far, message by message.
struct Manager {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket, told: Vec::new() }
    }

    /// Reads on until a line is told that begins so; what came before it is read.
    #[track_caller]
    fn wait_for(&mut self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut bytes = [0; 4096];
            if let Ok(count) = self.socket.recv(&mut bytes) {
                let message = String::from_utf8(bytes[..count].to_vec()).unwrap();
                self.told.push(message.clone());
                if message.lines().any(|line| line.starts_with(beginning)) {
                    return message;
                }
            }
            assert!(Instant::now() < deadline, "no `{beginning}`: {:?}", self.told);
        }
    }

    fn lines(&self, beginning: &str) -> usize {
        self.told.iter().flat_map(|message| message.lines()).filter(|line| line.starts_with(beginning)).count()
    }
}

#[test]
fn it_is_told_all_the_way_through_a_recovery_a_reload_and_a_stop() {
    let cluster = held();
    let path = cluster.scratch.join("notify");
    let mut manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    // The agent is the cluster's user.
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let mut command = cluster.scratch.command();
    command.args(["run", "--allow-ephemeral"]).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000");
    let mut agent = Agent::spawn(&cluster, command);
    manager.wait_for("EXTEND_TIMEOUT_USEC=60000000");
    manager.wait_for("STATUS=recovering since ");
    // As long as that takes.
    manager.wait_for("EXTEND_TIMEOUT_USEC=60000000");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    assert_eq!(manager.lines("READY=1"), 0);
    let_go(&cluster);
    let message = manager.wait_for("READY=1");
    assert!(message.contains("STATUS=the server, process "), "{message}");
    manager.wait_for("WATCHDOG=1");

    // A reload, and one that is refused.
    agent.signal(Signal::HUP);
    let message = manager.wait_for("RELOADING=1");
    assert!(
        message.lines().any(|line| line.strip_prefix("MONOTONIC_USEC=").is_some_and(|number| number.parse::<u64>().is_ok())),
        "{message}"
    );
    manager.wait_for("READY=1");
    agent.wait_for("the configuration was reloaded", 1);
    let broken = cluster.scratch.write("pgpersist.toml", "[cluster");
    agent.signal(Signal::HUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    agent.wait_for("the old configuration stays", 1);
    fs::remove_file(broken).unwrap();
    cluster.configure("");

    // Nothing of it is the server's business, or that of what the server starts.
    cluster.sql("postgres", &cluster.scratch.fill("COPY (SELECT 1) TO PROGRAM 'env > {dir}/volume/environment'"));
    let environment = fs::read_to_string(cluster.scratch.join("volume/environment")).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");

    assert_eq!(manager.lines("STOPPING=1"), 0);
    agent.stopped();
    let message = manager.wait_for("STOPPING=1");
    assert!(message.contains("EXTEND_TIMEOUT_USEC="), "{message}");
}

#[test]
fn a_name_without_a_file_is_a_socket_too_and_one_that_is_none_keeps_no_server_down() {
    let cluster = TestCluster::stopped("");
    let name = format!("pgpersist-test-{}-{}", std::process::id(), cluster.scratch.port());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut manager = Manager::new(socket);
    let run = |address: &str| {
        let mut command = cluster.scratch.command();
        // Of another process: nobody wants a sign of life of this one.
        command.args(["run", "--allow-ephemeral"]).env("NOTIFY_SOCKET", address).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
        Agent::spawn(&cluster, command)
    };
    let mut agent = run(&format!("@{name}"));
    manager.wait_for("READY=1");
    agent.stopped();
    manager.wait_for("STOPPING=1");
    assert_eq!(manager.lines("WATCHDOG=1"), 0);
    let mut agent = run("vsock:2:1234");
    agent.wait_for("systemd is not told anything: NOTIFY_SOCKET is `vsock:2:1234`", 1);
    agent.wait_for(" is ready after ", 2);
    agent.stopped();
}
