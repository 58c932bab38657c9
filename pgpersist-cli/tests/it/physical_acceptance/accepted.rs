//! One backup on trial: restored, exported, restored by hand, started, and asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::physical_acceptance::ground::{Ground, ask};
use crate::physical_acceptance::verifybackup;
use crate::support::judge;
use crate::support::volume::must;

/// The restored server's port.
const PORT: u16 = 5433;
/// How long a recovery may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(600);

/// A backup, and between which places in the log it was made.
#[derive(Debug)]
pub(super) struct Backup {
    pub(super) name: String,
    pub(super) start: u64,
    pub(super) stop: u64,
}

/// A backup that was restored; dropping it removes what was.
pub(super) struct Accepted<'a> {
    ground: &'a Ground,
    backup: &'a Backup,
    place: PathBuf,
}

impl<'a> Accepted<'a> {
    /// Restores it by the program.
    pub(super) fn restored(ground: &'a Ground, backup: &'a Backup) -> Self {
        let accepted = Self { ground, backup, place: ground.scratch.folder("trial") };
        let (data, fast) = (accepted.data(), accepted.fast());
        let mapping = format!("fast={}", fast.display());
        let told = ground.run(&["restore", &backup.name, "-D", data.to_str().unwrap(), "--tablespace", &mapping, "--json"]).json();
        assert_eq!((told["name"].as_str(), &told["verified"]), (Some(&*backup.name), &true.into()), "{told}");
        accepted
    }

    fn data(&self) -> PathBuf {
        self.place.join("data")
    }

    fn fast(&self) -> PathBuf {
        self.place.join("fast")
    }

    /// `restore.py` makes the same files, and `pg_verifybackup` accepts an export. Returns by whom the latter was done.
    pub(super) fn by_others(&self) -> String {
        let (data, fast) = (self.place.join("by-hand"), self.place.join("by-hand-fast"));
        let oid = must(Command::new("ls").arg(self.data().join("pg_tblspc")));
        // By whoever runs the tests: the Python that is found first may be that user's own. So the owner is not compared.
        let mut python = Command::new("python3");
        python.arg("-B").arg(self.ground.repository().join("restore.py")).args(["restore", &self.backup.name]).arg(&data);
        must(python.arg("--tablespace").arg(format!("{}={}", oid.trim(), fast.display())));
        for (by_hand, ours) in [(&data, self.data()), (&fast, self.fast())] {
            assert_eq!(content(by_hand), content(&ours), "{}: restore.py made another {}", self.backup.name, by_hand.display());
            must(Command::new("rm").arg("-rf").arg(by_hand));
        }
        let export = self.place.join("export");
        self.ground.run(&["export", &self.backup.name, export.to_str().unwrap()]);
        let judged = verifybackup::accepts(&self.ground.installation, &export);
        must(Command::new("rm").arg("-rf").arg(&export));
        judged
    }

    /// Starts a server on what was restored.
    pub(super) fn start(&self) -> Server<'_> {
        let sockets = self.ground.scratch.folder("trial/socket");
        let server = Server { data: self.data(), sockets, ground: self.ground };
        let options = format!(
            "-c listen_addresses='' -c port={PORT} -c unix_socket_directories='{}' -c fsync=off -c logging_collector=off \
             -c log_destination=stderr -c archive_mode=off",
            server.sockets.display()
        );
        server.pg_ctl(&["-w", "-t", "600", "-o", &options, "start"]);
        let began = Instant::now();
        while server.sql("postgres", "SELECT pg_is_in_recovery()") != "f" {
            assert!(began.elapsed() < DEADLINE, "{}: the recovery does not end\n{}", self.backup.name, server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

impl Drop for Accepted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg(&self.place).status();
    }
}

/// Names, kinds, modes, and the SHA-256 of all files. Where a link leads to is its maker's affair.
fn content(tree: &Path) -> String {
    let script =
        "cd \"$1\" && find . -printf '%y %m %p\\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";
    must(Command::new("sh").args(["-c", script, "sh"]).arg(tree))
}

/// A server on a restored data directory.
pub(super) struct Server<'a> {
    data: PathBuf,
    sockets: PathBuf,
    ground: &'a Ground,
}

impl Server<'_> {
    fn pg_ctl(&self, words: &[&str]) {
        let mut command = judge::as_server_user(&self.ground.installation.bin.join("pg_ctl"));
        command.arg("-D").arg(&self.data).arg("-l").arg(self.sockets.join("log")).args(words);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "pg_ctl {words:?}: {}", self.log());
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&Command::new("cat").arg(self.sockets.join("log")).output().unwrap().stdout).into_owned()
    }

    pub(super) fn sql(&self, database: &str, sql: &str) -> String {
        ask(&self.sockets, PORT, database, sql)
    }

    /// With an index of this kind the answer is the same as without any, and there is one to be counted.
    pub(super) fn index_agrees(&self, kind: &str, question: &str) {
        let with = "SET enable_seqscan = off;";
        let without = "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;";
        let plan = self.sql("awkward", &format!("{with} EXPLAIN (COSTS off) {question}"));
        assert!(plan.contains("Index"), "no {kind} index is used: {plan}");
        let answers = [with, without].map(|how| self.sql("awkward", &format!("{how} {question}")));
        assert!(answers[0] == answers[1] && answers[0] != "0", "{kind}: {answers:?}: {question}");
    }

    /// `pg_amcheck` over everything, every B-tree against its table. Relations that a crash empties are empty, and checked as well.
    pub(super) fn check(&self) {
        let mut check = judge::program("pg_amcheck");
        check.args(["--all", "--heapallindexed", "--install-missing", "-p", &PORT.to_string(), "-h"]).arg(&self.sockets);
        let output = check.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout.is_empty(), "pg_amcheck: {output:?}\n{said}");
    }

    /// Stops it.
    pub(super) fn stop(self) {
        self.pg_ctl(&["-w", "-m", "fast", "stop"]);
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let mut command = judge::as_server_user(&self.ground.installation.bin.join("pg_ctl"));
        let _ = command.arg("-D").arg(&self.data).args(["-m", "immediate", "stop"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
