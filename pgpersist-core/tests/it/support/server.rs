//! A real server for one test: its own data directory and socket, gone when the test ends.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgpersist_core::server::connection::{ConnectionOptions, Host};
use pgpersist_core::server::session::Session;

pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";

pub(crate) struct TestServer {
    pub(crate) directory: tempfile::TempDir,
    /// Where its programs are.
    pub(crate) bin: PathBuf,
    server: Child,
}

/// PostgreSQL refuses to run as root, so root's tests run it as `postgres`.
fn as_server_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"]).arg(program);
    command
}

impl TestServer {
    pub(crate) async fn start(pg_hba: &str, settings: &str) -> Self {
        Self::start_with(Path::new(BIN), &[], pg_hba, settings).await
    }

    /// Of the version whose programs are there, with more options for `initdb`.
    pub(crate) async fn start_with(bin: &Path, options: &[&str], pg_hba: &str, settings: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("pgpersist-it-").tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").arg("postgres:").arg(directory.path()).status().unwrap().success());
        }
        let data = directory.path().join("data");
        let initdb = as_server_user(&bin.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--lc-collate=C", "--lc-ctype=C.UTF-8", "-D"])
            .arg(&data)
            .args(options)
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let mut configuration = File::options().append(true).open(data.join("postgresql.conf")).unwrap();
        writeln!(
            configuration,
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\nshared_buffers = 32MB\n{settings}",
            directory.path().display()
        )
        .unwrap();
        if !pg_hba.is_empty() {
            File::create(data.join("pg_hba.conf")).unwrap().write_all(pg_hba.as_bytes()).unwrap();
        }
        let log = File::create(directory.path().join("log")).unwrap();
        let server = as_server_user(&bin.join("postgres")).arg("-D").arg(&data).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let server = Self { directory, bin: bin.to_owned(), server };
        let begin = Instant::now();
        while Session::connect(&server.connection("postgres"), Duration::from_secs(5)).await.is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "the server did not start: {}", server.log());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        server
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn connection(&self, database: &str) -> ConnectionOptions {
        ConnectionOptions {
            host: Host::Socket(self.directory.path().to_owned()),
            port: 5432,
            user: "postgres".to_owned(),
            database: database.to_owned(),
            password: None,
            os_user: None,
        }
    }

    pub(crate) async fn session(&self, database: &str) -> Session {
        Session::connect(&self.connection(database), Duration::from_secs(30)).await.unwrap()
    }

    pub(crate) async fn run(&self, database: &str, sql: &str) {
        self.session(database).await.execute("run a test's SQL", sql).await.unwrap();
    }

    pub(crate) async fn text(&self, database: &str, sql: &str) -> String {
        self.session(database).await.text("ask", sql).await.unwrap().unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Immediate shutdown: the postmaster ends its children, which a SIGKILL would orphan.
        let id = rustix::process::Pid::from_child(&self.server);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::QUIT);
        let _ = self.server.wait();
    }
}
