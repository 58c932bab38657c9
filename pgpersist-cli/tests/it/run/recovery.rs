//! A recovery that takes long: told, never ended for it, and stopped when asked.

use std::fs::{self, File};

use rustix::process::Signal;

use crate::run::http::listening;
use crate::run::{Agent, eventually, kill};
use crate::support::cluster::TestCluster;
use crate::support::http::{get, status};
use crate::support::{exposition, judge, processes};

/// The bytes of a segment of the log, unless `initdb` was told otherwise.
const SEGMENT: u64 = 16 << 20;

/// A cluster whose next start waits for an archive until the file `go` exists; the archive turns out to have nothing then.
pub(crate) fn held() -> TestCluster {
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a");
    cluster.run(&["stop"]).done();
    // A history file that is not there tells it to stay on its timeline.
    let command = "case %f in *.history) exit 1;; esac; while [ ! -e {dir}/go ]; do sleep 0.05; done; exit 1";
    cluster.scratch.write("volume/data/postgresql.auto.conf", &format!("restore_command = '{command}'\n"));
    cluster.scratch.write("volume/data/recovery.signal", "");
    cluster
}

pub(crate) fn let_go(cluster: &TestCluster) {
    File::create(cluster.scratch.join("go")).unwrap();
}

#[test]
fn it_is_told_how_far_it_is_and_waited_for() {
    let cluster = held();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("the server recovers", 1);
    assert_eq!(cluster.run(&["status"]).code, Some(6));
    agent.wait_for("recovering since ", 1);
    let_go(&cluster);
    agent.wait_until_ready();
    eventually("it has ended its recovery", || cluster.sql("postgres", "SELECT pg_is_in_recovery()") == "f");
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "1000");
    agent.stopped();
}

#[test]
fn a_request_to_stop_ends_it_and_the_next_one_goes_on() {
    let cluster = held();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("the server recovers", 1);
    agent.signal(Signal::TERM);
    // What the server runs, such as a restore_command, may outlive it.
    let_go(&cluster);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    let mut next = Agent::start(&cluster, &[]);
    next.wait_until_ready();
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "1000");
    next.stopped();
}

/// An LSN as a number.
fn position(lsn: &str) -> u64 {
    let (high, low) = lsn.split_once('/').unwrap();
    (u64::from_str_radix(high, 16).unwrap() << 32) + u64::from_str_radix(low, 16).unwrap()
}

/// Where a segment begins; its name is a timeline, and its number in two parts.
fn beginning(segment: &str) -> u64 {
    (u64::from_str_radix(&segment[8..16], 16).unwrap() << 32) + u64::from_str_radix(&segment[16..], 16).unwrap() * SEGMENT
}

/// The process that replays the log, and the segment that it is at.
fn replaying(cluster: &TestCluster) -> Option<(i32, String)> {
    let children = processes::children_of(cluster.postmaster()?);
    children.into_iter().find_map(|child| {
        let title = fs::read(format!("/proc/{child}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title).replace('\0', " ");
        let segment = title.split_once("startup recovering ")?.1.trim();
        (segment.len() == 24).then(|| (child, segment.to_owned()))
    })
}

/// Stops the process that replays the log; returns it, and the segment that it stays at.
#[track_caller]
fn hold(cluster: &TestCluster) -> (i32, String) {
    let mut process = 0;
    eventually("a process replays", || {
        replaying(cluster).is_some_and(|(replays, _)| {
            process = replays;
            true
        })
    });
    kill(process, Signal::STOP);
    eventually("it stands still", || fs::read_to_string(format!("/proc/{process}/stat")).unwrap().contains(") T "));
    replaying(cluster).expect("it replays still")
}

/// Kills a server with several segments of log to replay, and returns where the log ends. Each row goes to another page of an index, so
/// that with few buffers a segment takes long.
fn crash_after_much_work(cluster: &TestCluster) -> u64 {
    let settings = ["shared_buffers=128MB", "max_wal_size=4GB", "checkpoint_timeout=1d", "wal_init_zero=off"];
    let settings: Vec<&str> = ["--"].into_iter().chain(settings.into_iter().flat_map(|setting| ["-c", setting])).collect();
    let mut agent = Agent::start(cluster, &settings);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t (a int); CREATE INDEX ON t (a)");
    cluster.sql("postgres", "INSERT INTO t SELECT hashint8(i) FROM generate_series(1::bigint, 500000) i");
    cluster.sql("postgres", "SELECT pg_switch_wal(); CREATE TABLE newest AS SELECT 1 AS a");
    let end = position(&cluster.sql("postgres", "SELECT pg_current_wal_insert_lsn()"));
    agent.signal(Signal::KILL);
    agent.ended();
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    end
}

#[test]
fn a_recovery_after_a_crash_tells_how_fast_it_is_and_when_it_ends() {
    let (section, port) = listening();
    let cluster = TestCluster::stopped(&section);
    let written = crash_after_much_work(&cluster);
    let redo = judge::controldata(&cluster.data(), "Latest checkpoint's REDO location");
    assert!(written - position(&redo) > 3 * SEGMENT, "there is too little to replay from {redo} on");

    let mut agent = Agent::start(&cluster, &["--", "-c", "shared_buffers=1MB"]);
    agent.wait_for("the server recovers", 1);
    let recovery = || get(port, "/startupz").json()["recovery"].clone();
    let told = |recovery: &serde_json::Value, field: &str| recovery[field].as_str().map(position);
    // It goes on by one segment under the agent's eyes, and then waits to be asked.
    let (process, before) = hold(&cluster);
    eventually("it was seen", || told(&recovery(), "replayed") == Some(beginning(&before)).max(Some(position(&redo))));
    kill(process, Signal::CONT);
    eventually("it is at another segment", || replaying(&cluster).is_some_and(|(_, segment)| segment != before));
    let (process, segment) = hold(&cluster);
    eventually("it was seen again", || told(&recovery(), "replayed") == Some(beginning(&segment)));

    let answer = get(port, "/startupz");
    let (document, recovery) = (answer.json(), answer.json()["recovery"].clone());
    assert_eq!((answer.status, &document["state"], &document["phase"]), (503, &"recovering".into(), &"recovering".into()));
    let (from, replayed, end) = (told(&recovery, "from"), told(&recovery, "replayed").unwrap(), told(&recovery, "end").unwrap());
    assert_eq!((from, replayed), (Some(position(&redo)), beginning(&segment)), "{recovery}");
    assert!(end % SEGMENT == 0 && (end - SEGMENT..=end).contains(&written), "the log ends at {written}: {recovery}");
    let number = |field: &str| recovery[field].as_f64().unwrap_or_else(|| panic!("no {field}: {recovery}"));
    let (rate, left) = (number("bytes_per_s"), number("eta_s"));
    assert!(rate > 0.0 && rate * number("elapsed_s") >= 0.99 * SEGMENT as f64, "a segment and more was replayed: {recovery}");
    assert!((left - (end - replayed) as f64 / rate).abs() <= 1.0 && left >= 1.0, "{recovery}");
    let how_far = format!("replayed up to {} of {}, ", recovery["replayed"].as_str().unwrap(), recovery["end"].as_str().unwrap());
    let reason = document["reason"].as_str().unwrap();
    assert!(reason.contains(&how_far) && reason.contains(" MB/s, about ") && reason.ends_with(" s to go"), "{reason}");
    assert_eq!((get(port, "/livez").status, get(port, "/readyz").status), (200, 503));

    let page = exposition::parse(&get(port, "/metrics").body);
    let metric = |name: &str| page.value(&format!("pgpersist_recovery_{name}"), &[]);
    assert_eq!((metric("replayed_bytes"), metric("end_bytes")), (replayed as f64, end as f64));
    assert!(metric("bytes_per_second") > 0.0 && metric("remaining_seconds") >= 1.0 && metric("elapsed_seconds") > 0.0);
    // The log tells it each few seconds.
    agent.wait_for(&how_far, 1);
    let line = agent.said().lines().find(|line| line.contains(&how_far)).unwrap().to_owned();
    assert!(line.contains("recovering since ") && line.contains(" MB/s, about ") && line.ends_with(" s to go"), "{line}");

    kill(process, Signal::CONT);
    agent.wait_for(" is ready after ", 2);
    eventually("it has started", || status(port, "/startupz") == Some(200));
    assert!(get(port, "/startupz").json()["recovery"].is_null());
    assert_eq!(exposition::parse(&get(port, "/metrics").body).find("pgpersist_recovery_end_bytes", &[]), None);
    assert_eq!(cluster.sql("postgres", "SELECT (SELECT count(*) FROM t), (SELECT a FROM newest)"), "500000|1");
    agent.stopped();
}
