//! A dump larger than the memory that is used for it, where no file may be written: into a bucket, and back from there.

use std::process::Command;

use crate::clouds::{environment, keeps_secrets, one_of_each};
use crate::support::cluster::TestCluster;
use crate::support::scratch::Run;
use crate::support::stores::StoreServer;

const ROWS: u32 = 1_500_000;
/// What the program and its children may have in memory, each. With one part of 8 MiB in flight it takes a fraction of a dump.
const MEMORY_BYTES: u64 = 72 << 20;
/// No file may become larger: notes, logs and locks are smaller, and nothing of a dump fits.
const FILE_BYTES: u64 = 1 << 20;

/// Runs a command in which no process writes a large file, and tells the most memory that one of its processes had.
const LIMITED: &str = "import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
code = subprocess.call(sys.argv[2:])
with open('peak', 'w') as peak:
    peak.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))
sys.exit(code)";

fn run_limited(cluster: &TestCluster, server: &StoreServer, url: &str, arguments: &[&str]) -> (Run, u64) {
    let mut command = Command::new("python3");
    command.args(["-c", LIMITED, &FILE_BYTES.to_string(), env!("CARGO_BIN_EXE_pgpersist")]);
    cluster.scratch.prepare(&mut command);
    let own = environment(server);
    let environment: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = cluster.scratch.finish(command, &[arguments, &["--store", url]].concat(), &environment);
    keeps_secrets(&run);
    let peak = std::fs::read_to_string(cluster.scratch.join("peak")).unwrap();
    (run, peak.parse().unwrap())
}

#[test]
fn a_dump_larger_than_memory_goes_straight_into_a_bucket_and_back() {
    let Some(server) = one_of_each().into_iter().next() else { return };
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE DATABASE shop");
    let noise =
        format!("CREATE TABLE noise AS SELECT i, encode(sha512(i::text::bytea), 'base64') AS noise FROM generate_series(1, {ROWS}) AS i");
    cluster.sql("shop", &noise);
    let url = format!("{}&concurrency=1", server.bare_url_at(&server.endpoint(), "prefix"));
    let (run, peak) = run_limited(&cluster, &server, &url, &["dump", "--json"]);
    let dump = run.done().json();
    let size = dump["size_bytes"].as_u64().unwrap();
    assert!(size > MEMORY_BYTES, "the dump has {size} bytes");
    assert!(peak < MEMORY_BYTES, "dump: a process had {peak} bytes in memory");
    let (run, peak) = run_limited(&cluster, &server, &url, &["load", dump["name"].as_str().unwrap(), "-d", "back"]);
    run.done();
    assert!(peak < MEMORY_BYTES, "load: a process had {peak} bytes in memory");
    let sum = "SELECT count(*) || ' ' || sum(hashtext(noise)::bigint) FROM noise";
    assert_eq!(cluster.sql("back", sum), cluster.sql("shop", sum));
}
