//! A restored data directory on trial: PostgreSQL's own programs start it, ask it, and hold its indexes against its tables.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kill::yard::Yard;
use crate::support::judge;
use crate::support::volume::must;

/// The port of a restored server, which listens on a private socket alone.
const PORT: u16 = 5434;
/// How long a recovery may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Restores a backup beside the yard's cluster and asks it questions in `shop`. Everything in it must be sound.
pub(crate) fn answers(yard: &Yard, backup: &str, questions: &[&str]) -> Vec<String> {
    let place = yard.scratch.path().join("restored");
    must(Command::new("rm").arg("-rf").arg(&place));
    must(Command::new("mkdir").arg(&place));
    judge::give(&place);
    let directory = place.join("pgdata");
    let told = yard.run(&["restore", backup, "-D", directory.to_str().unwrap(), "--json"]).json();
    assert_eq!((told["name"].as_str(), &told["verified"]), (Some(backup), &true.into()), "{told}");
    let answers = of_directory(yard, &directory, questions);
    must(Command::new("rm").arg("-rf").arg(&place));
    answers
}

fn of_directory(yard: &Yard, directory: &Path, questions: &[&str]) -> Vec<String> {
    let log = yard.sockets().join("restored.log");
    let options = format!(
        "-c listen_addresses='' -c port={PORT} -c unix_socket_directories='{}' -c fsync=off -c shared_buffers=16MB \
         -c dynamic_shared_memory_type=mmap -c logging_collector=off -c log_destination=stderr -c archive_mode=off",
        yard.sockets().display()
    );
    let pg_ctl = |words: &[&str]| {
        let mut command = judge::program("pg_ctl");
        command.arg("-D").arg(directory).arg("-l").arg(&log).args(words).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "pg_ctl {words:?}: {}", std::fs::read_to_string(&log).unwrap_or_default());
    };
    pg_ctl(&["-w", "-t", "120", "-o", &options, "start"]);
    recovered(|| judge::psql(&yard.sockets(), PORT, "postgres"));
    let answer = |question: &&str| must(judge::psql(&yard.sockets(), PORT, "shop").args(["-c", question])).trim_end().to_owned();
    let answers = questions.iter().map(answer).collect();
    indexes_agree(&yard.sockets(), PORT);
    pg_ctl(&["-w", "-m", "fast", "stop"]);
    judge::checksums_hold(directory);
    answers
}

/// Waits until the server that psql speaks to has left recovery.
pub(crate) fn recovered(psql: impl Fn() -> Command) {
    let began = Instant::now();
    while must(psql().args(["-c", "SELECT pg_is_in_recovery()"])).trim_end() != "f" {
        assert!(began.elapsed() < DEADLINE, "the recovery does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `pg_amcheck` over everything, every index against its table.
pub(crate) fn indexes_agree(sockets: &Path, port: u16) {
    let mut check = judge::program("pg_amcheck");
    check.args(["--all", "--heapallindexed", "--install-missing", "-p", &port.to_string(), "-h"]).arg(sockets);
    let output = check.output().unwrap();
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "pg_amcheck: {}\n{}", output.status, String::from_utf8_lossy(&said));
}
