//! A busy cluster of one major version: pgbench at work in one database, everything awkward in another, a writer that keeps books.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::support::installation::Installation;
use crate::support::scratch::{Run, Scratch};
use crate::support::volume::must;
use crate::support::{judge, processes, shared_memory};

/// The server's port: its socket is its only door.
const PORT: u16 = 5432;
/// How many clients of pgbench are at work, beside one in the awkward database and the writer.
const CLIENTS: &str = "4";

/// Sizes: small by day, and those of the proofs by environment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) scale: u64,
    pub(crate) big_mib: u64,
}

/// A cluster, its server, and whoever works in it.
pub(crate) struct Ground {
    pub(crate) scratch: Scratch,
    pub(crate) installation: Installation,
    load: Vec<Child>,
    /// A session that holds temporary tables.
    visitor: Option<(Child, ChildStdin)>,
}

impl Ground {
    pub(crate) fn new(installation: Installation, sizes: Sizes) -> Self {
        let scratch = Scratch::new();
        for folder in ["volume", "volume/socket", "volume/fast"] {
            scratch.folder(folder);
        }
        let programs = installation.bin.display();
        let text = format!(
            "[[store]]\nurl = \"{{dir}}/volume/store\"\n[cluster]\nport = {PORT}\ndata_directory = \"{{dir}}/volume/data\"\n\
             bin_directory = \"{programs}\"\ndatabases = [\"bench\", \"awkward\"]\n[cluster.settings]\nlisten_addresses = \"\"\n\
             unix_socket_directories = \"{{dir}}/volume/socket\"\nshared_buffers = \"128MB\"\nmax_wal_size = \"1GB\"\n\
             max_prepared_transactions = \"5\"\ndynamic_shared_memory_type = \"mmap\"\n"
        );
        scratch.write("pgpersist.toml", &text);
        let ground = Self { scratch, installation, load: Vec::new(), visitor: None };
        ground.run(&["init", "--allow-ephemeral"]);
        ground.run(&["start"]);
        ground.fill(sizes);
        ground
    }

    fn fill(&self, sizes: Sizes) {
        must(self.pgbench().args(["-i", "-q", "-s", &sizes.scale.to_string(), "bench"]));
        let script = self.scratch.write("awkward.sql", include_str!("awkward.sql"));
        let mut psql = judge::psql(&self.sockets(), PORT, "awkward");
        // A row is about a kilobyte long.
        psql.args(["-v", &format!("big_rows={}", sizes.big_mib * 1024)]);
        psql.args(["-v", &format!("tablespace={}", self.fast().display())]);
        must(psql.arg("-f").arg(script));
    }

    /// Work begins, and goes on until [`Ground::rest`].
    pub(crate) fn work(&mut self) -> Writer {
        let churn = self.scratch.write("churn.sql", include_str!("churn.sql"));
        let mut bench = self.pgbench();
        bench.args(["-n", "-c", CLIENTS, "-j", "2", "-T", "86400", "bench"]);
        let mut awkward = self.pgbench();
        awkward.args(["-n", "-c", "1", "-R", "50", "-T", "86400", "-f"]).arg(churn).arg("awkward");
        for mut command in [bench, awkward] {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.load.push(command.spawn().unwrap());
        }
        let mut visitor = judge::psql(&self.sockets(), PORT, "awkward");
        let mut visitor = visitor.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut told = visitor.stdin.take().unwrap();
        told.write_all(b"CREATE TEMPORARY TABLE mine AS SELECT g AS id, md5(g::text) AS note FROM generate_series(1, 5000) g; CREATE INDEX ON mine (id);\n").unwrap();
        self.visitor = Some((visitor, told));
        Writer::begin(judge::psql(&self.sockets(), PORT, "awkward"), self.scratch.join("ledger"))
    }

    /// Everybody but the writer stops.
    pub(crate) fn rest(&mut self) {
        for mut worker in self.load.drain(..) {
            assert!(worker.try_wait().unwrap().is_none(), "a worker ended early");
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
        if let Some((mut visitor, told)) = self.visitor.take() {
            drop(told);
            assert!(visitor.wait().unwrap().success());
        }
    }

    fn pgbench(&self) -> Command {
        let mut pgbench = judge::program("pgbench");
        pgbench.arg("-h").arg(self.sockets()).args(["-p", &PORT.to_string()]);
        pgbench
    }

    pub(crate) fn sockets(&self) -> PathBuf {
        self.scratch.join("volume/socket")
    }

    /// Where the tablespace lies.
    pub(crate) fn fast(&self) -> PathBuf {
        self.scratch.join("volume/fast")
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.scratch.join("volume/store/.pgpersist/main/repository")
    }

    /// Runs a command that must end well.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let run = self.scratch.run(arguments, &[]);
        assert_eq!(run.code, Some(0), "PostgreSQL {}: `pgpersist {}`: {run:?}", self.installation.version, arguments.join(" "));
        run
    }

    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        ask(&self.sockets(), PORT, database, sql)
    }
}

/// Asks a server something.
pub(crate) fn ask(sockets: &Path, port: u16, database: &str, sql: &str) -> String {
    must(judge::psql(sockets, port, database).args(["-c", sql])).trim_end().to_owned()
}

impl Drop for Ground {
    fn drop(&mut self) {
        for worker in &mut self.load {
            let _ = worker.kill();
            let _ = worker.wait();
        }
        // It ends with its server.
        let visitor = self.visitor.take();
        processes::kill_all(self.scratch.path());
        if let Some((mut visitor, _told)) = visitor {
            let _ = visitor.wait();
        }
        shared_memory::remove();
    }
}

/// Commits one row after another, and notes of each that was acknowledged how far the server's log was written by then.
pub(crate) struct Writer {
    psql: Child,
    stopped: Arc<AtomicBool>,
    dictation: JoinHandle<()>,
    ledger: PathBuf,
}

/// What was acknowledged: a number, and an end of the log behind its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) number: u64,
    pub(crate) end: u64,
}

impl Writer {
    fn begin(mut psql: Command, ledger: PathBuf) -> Self {
        let said = File::create(&ledger).unwrap();
        let mut psql = psql.stdin(Stdio::piped()).stdout(said).spawn().unwrap();
        let mut dictated = psql.stdin.take().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let dictation = std::thread::spawn(move || {
            for number in 1_u64.. {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                let text = format!(
                    "INSERT INTO ledger VALUES ({number});\nSELECT {number}, pg_current_wal_flush_lsn();\nDO 'BEGIN PERFORM pg_sleep(0.002); END';\n"
                );
                if dictated.write_all(text.as_bytes()).is_err() {
                    // psql tells why.
                    return;
                }
            }
        });
        Self { psql, stopped, dictation, ledger }
    }

    /// Lets it finish what it was told, and returns its books.
    pub(crate) fn end(mut self) -> Vec<Acknowledged> {
        self.stopped.store(true, Ordering::Relaxed);
        self.dictation.join().unwrap();
        assert!(self.psql.wait().unwrap().success(), "the writer failed");
        let text = must(Command::new("cat").arg(&self.ledger));
        let entry = |line: &str| {
            let (number, end) = line.split_once('|').unwrap();
            Acknowledged { number: number.parse().unwrap(), end: lsn(end) }
        };
        text.lines().map(entry).collect()
    }
}

/// A place in the log, as PostgreSQL writes it.
pub(crate) fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    (u64::from_str_radix(high, 16).unwrap() << 32) | u64::from_str_radix(low, 16).unwrap()
}
