//! Promises about an interruption.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::TestCluster;
use crate::support::scratch::Run;

#[test]
fn an_interrupted_dump_is_130_and_leaves_nothing() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.fill("orders");
    // `pg_dump` waits for this table, so the signal comes while the dump runs.
    cluster.sql_in_background("orders", "BEGIN; LOCK TABLE orders; SELECT pg_sleep(600)");
    let count = |condition: &str| cluster.sql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}"));
    wait_until(|| count("application_name = 'psql' AND wait_event = 'PgSleep'") == "1");
    for (signal, format, waiting) in [(Signal::INT, "--json", "1"), (Signal::TERM, "--verbose", "2")] {
        let mut command = cluster.scratch.command();
        command.args(["dump", format]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A backend that waits for a lock does not notice that its client is gone, so that of the first one is still there.
        wait_until(|| count("wait_event_type = 'Lock'") == waiting);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let run = Run { code: child.wait().unwrap().code(), stdout, stderr };
        assert_eq!((run.code, run.stdout.as_str()), (Some(130), ""), "{run:?}");
        if format == "--json" {
            let error = run.error();
            assert_eq!((error["kind"].as_str(), error["error"].as_str()), (Some("cancelled"), Some("`dump` was cancelled")), "{run:?}");
        } else {
            assert!(run.stderr.ends_with("error: `dump` was cancelled\n"), "{run:?}");
        }
        let dumps = cluster.run(&["list", "--json"]).done().json();
        assert_eq!(dumps["dumps"], serde_json::json!([]));
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "what is waited for does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
