//! A cluster for one test: a volume in a scratch folder, a port of its own, a server that ends with the test.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::support::scratch::{Run, Scratch};
use crate::support::tree::Tree;
use crate::support::user;

/// So many clusters exist at once: each costs a server and the room of a `template1`.
const AT_ONCE: u32 = 2;

static IN_USE: Mutex<u32> = Mutex::new(0);
static ONE_LESS: Condvar = Condvar::new();

/// The right to have so many of the clusters that may exist at once.
#[derive(Debug)]
struct Permit(u32);

impl Permit {
    /// All at once: two tests that each have one and wait for a second would wait for ever.
    fn wait_for(clusters: u32) -> Self {
        let in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut in_use = ONE_LESS.wait_while(in_use, |in_use| *in_use + clusters > AT_ONCE).unwrap_or_else(PoisonError::into_inner);
        *in_use += clusters;
        Self(clusters)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *IN_USE.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        ONE_LESS.notify_all();
    }
}

/// What `pgpersist.toml` says of a test's cluster; a test adds what it is about.
pub(crate) const CONFIGURATION: &str = r#"
[[store]]
url = "{dir}/volume/backups"
[cluster.settings]
unix_socket_directories = "{dir}/volume/socket"
listen_addresses = "127.0.0.1"
shared_buffers = "16MB"
[cluster]
data_directory = "{dir}/volume/data"
port = {port}
"#;

/// A volume with room for `data`, `backups` and `socket`, and what is configured for it.
#[derive(Debug)]
pub(crate) struct TestCluster {
    pub(crate) scratch: Scratch,
    _permit: Permit,
}

impl TestCluster {
    /// A volume on which nothing has happened yet; `more` follows the section `[cluster]` of the configuration.
    pub(crate) fn planned(more: &str) -> Self {
        Self::new(Permit::wait_for(1), more)
    }

    /// Two volumes at once.
    pub(crate) fn pair() -> (Self, Self) {
        let first = Self::new(Permit::wait_for(2), "");
        (first, Self::new(Permit(0), ""))
    }

    fn new(permit: Permit, more: &str) -> Self {
        let scratch = Scratch::new();
        scratch.folder("volume");
        scratch.folder("volume/socket");
        let cluster = Self { scratch, _permit: permit };
        cluster.configure(more);
        cluster
    }

    /// One that `init` has made.
    pub(crate) fn stopped(more: &str) -> Self {
        let cluster = Self::planned(more);
        cluster.init();
        cluster
    }

    /// One whose server runs.
    pub(crate) fn running(more: &str) -> Self {
        let cluster = Self::stopped(more);
        cluster.start();
        cluster
    }

    #[track_caller]
    pub(crate) fn init(&self) {
        self.run(&["init", "--allow-ephemeral"]).done();
    }

    #[track_caller]
    pub(crate) fn start(&self) {
        self.run(&["start"]).done();
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, more: &str) {
        self.scratch.write("pgpersist.toml", &format!("{CONFIGURATION}{more}"));
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.scratch.run(arguments, &[])
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.join("volume/data")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.scratch.join("volume/backups")
    }

    /// The volume without what a running server writes by itself.
    pub(crate) fn store_tree(&self) -> Tree {
        Tree::of(&self.store())
    }

    /// What a stopped cluster and all beside it consists of. Locks carry nothing but their holder's name.
    pub(crate) fn volume_tree(&self) -> Tree {
        Tree::without(&self.scratch.join("volume"), &["supervisor.lock", "server.lock"])
    }

    /// A client program as the superuser, with nothing of our environment.
    pub(crate) fn client(&self, name: &str, database: &str) -> Command {
        let mut client = Command::new(user::client(name));
        client.current_dir("/").env_clear().env("LC_ALL", "C.UTF-8");
        client.env("PGHOST", self.scratch.join("volume/socket")).env("PGPORT", self.scratch.port().to_string());
        client.env("PGUSER", user::superuser()).env("PGDATABASE", database);
        user::run_as_user(&mut client);
        client
    }

    /// psql as the superuser: no header, fields joined by `|`.
    pub(crate) fn psql(&self, database: &str) -> Command {
        let mut psql = self.client("psql", database);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        psql
    }

    /// Begins statements in a session that lasts until they, or the server, end.
    pub(crate) fn sql_in_background(&self, database: &str, statements: &str) {
        let mut psql = self.psql(database);
        psql.args(["-c", statements]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = psql.spawn().unwrap();
        std::thread::spawn(move || child.wait());
    }

    /// Runs statements as the superuser and returns what they print.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = self.psql(database);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(0), "{statements}: {run:?}");
        run.stdout.trim_end().to_owned()
    }

    /// The names of all databases but templates and `postgres`, in order.
    #[track_caller]
    pub(crate) fn databases(&self) -> Vec<String> {
        let listed = self.sql(
            "postgres",
            "SELECT to_json(datname::text) FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY datname COLLATE \"C\"",
        );
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Makes eight orders in a database, worth 36.
    pub(crate) fn fill(&self, database: &str) {
        self.sql(
            database,
            "CREATE TABLE orders (id int PRIMARY KEY, amount int); INSERT INTO orders SELECT i, i FROM generate_series(1, 8) i",
        );
    }

    /// Dumps and returns the first dump's name.
    #[track_caller]
    pub(crate) fn dump(&self, arguments: &[&str]) -> String {
        let run = self.run(&[&["dump", "--json"], arguments].concat()).done();
        run.json()["name"].as_str().unwrap().to_owned()
    }

    /// The number in `postmaster.pid`.
    pub(crate) fn postmaster(&self) -> Option<i32> {
        let mut text = String::new();
        File::open(self.data().join("postmaster.pid")).ok()?.read_to_string(&mut text).ok()?;
        text.lines().next()?.trim().parse().ok()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let data = self.data();
        if !data.join("postmaster.pid").exists() {
            return;
        }
        // Without the configuration, which may be what the test broke.
        let run = self.scratch.run(&["stop", "--timeout", "20", "--config", "/dev/null", "-D", "{dir}/volume/data"], &[]);
        let in_it = |pid: i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory == data);
        if let Some(pid) = self.postmaster().filter(|pid| run.code != Some(0) && in_it(*pid))
            && let Some(process) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
}
