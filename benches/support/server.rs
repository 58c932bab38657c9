//! A PostgreSQL server of the benches' own: socket only, and gone when its handle is.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::place::{Place, command, run};

/// How long starting and stopping may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The settings of the server that the targets were measured with.
const SETTINGS: &str = "shared_buffers = '1GB'\nmax_wal_size = '4GB'\nwal_level = replica\narchive_mode = on\n\
    archive_command = '/bin/true'\nautovacuum = off\n";

/// The folder of the newest installed server's programs.
pub(crate) fn bin_directory() -> PathBuf {
    let distribution = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let newest = distribution.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())).max();
    match newest {
        Some(major) => format!("/usr/lib/postgresql/{major}/bin").into(),
        None => run(Command::new("pg_config").arg("--bindir")).trim().into(),
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where its own programs are, which may be of another major than its clients.
    programs: PathBuf,
    folder: PathBuf,
    process: Child,
}

impl Server {
    /// Makes a cluster with data checksums and the defaults' fsync, and starts its server.
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_of(place, "server", &bin_directory(), "")
    }

    /// The same in a folder of this name, with the server's programs from elsewhere, and more settings.
    pub(crate) fn start_of(place: &Place, name: &str, programs: &Path, settings_beside: &str) -> Self {
        let folder = place.join(name);
        run(command("mkdir").arg(&folder));
        let data = folder.join("data");
        let mut initdb = command(programs.join("initdb"));
        run(initdb.args(["-k", "--auth=trust", "--username=postgres", "--locale=C.UTF-8", "-D"]).arg(&data));
        let mut settings = File::options().append(true).open(data.join("postgresql.conf")).expect("initdb wrote it");
        let socket = format!("listen_addresses = ''\nunix_socket_directories = '{}'\n", folder.display());
        settings.write_all((socket + SETTINGS + settings_beside).as_bytes()).expect("the disk has room");
        let log = File::create(folder.join("log")).expect("the folder takes a file");
        let mut postgres = command(programs.join("postgres"));
        let process = postgres.arg("-D").arg(&data).stdout(Stdio::null()).stderr(log).spawn().expect("postgres runs");
        let server = Self { programs: programs.to_owned(), folder, process };
        let deadline = Instant::now() + PATIENCE;
        while !server.client("pg_isready").arg("-q").status().is_ok_and(|status| status.success()) {
            assert!(Instant::now() < deadline, "the server did not start: see {}", server.folder.join("log").display());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// The postmaster.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where its socket is.
    pub(crate) fn sockets(&self) -> &Path {
        &self.folder
    }

    /// The environment that tells clients of it.
    pub(crate) fn tell(&self, command: &mut Command) {
        let (own, theirs) = (self.programs.display(), bin_directory());
        let path = format!("{}:{own}:{}", theirs.display(), std::env::var("PATH").unwrap_or_default());
        command
            .env("PGHOST", &self.folder)
            .env("PGDATA", self.folder.join("data"))
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env("PATH", path);
    }

    /// A client program, told where the server is.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut client = command(bin_directory().join(program));
        self.tell(&mut client);
        client
    }

    /// Fills a new database with the data set.
    pub(crate) fn generate(&self, database: &str, scale: u32) {
        run(self.client("createdb").arg(database));
        let mut generate = command("sh");
        self.tell(&mut generate);
        // Read by root where the user who runs PostgreSQL may not look into the clone.
        let folder = self.folder.join("dataset");
        run(command("mkdir").arg(&folder));
        for name in ["generate", "dataset.sql"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("dataset").join(name);
            std::fs::copy(&from, folder.join(name)).expect("the generator can be copied");
        }
        run(generate.arg(folder.join("generate")).arg(scale.to_string()).env("PGDATABASE", database));
    }

    /// Runs SQL and returns its first value.
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        run(self.client("psql").args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql])).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown: the postmaster ends its children, which a SIGKILL would orphan.
        let _ = kill_process(Pid::from_child(&self.process), Signal::QUIT);
        let _ = self.process.wait();
    }
}
