//! How much later is a server ready under `pgpersist run` than under `pg_ctl -w start`?
//!
//!     cargo bench --package pgpersist-benches -- agent --rounds 20
//!
//! From exec to the word `ready` in `postmaster.pid`, on a cluster that exists and was shut down cleanly, by turns. `pg_ctl`
//! looks every tenth of a second, so it is timed by the same word and not by its own end.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::Cost;
use crate::support::place::{Place, command, run};
use crate::support::server::bin_directory;
use crate::support::table::{Row, markdown, median};
use rustix::process::{Pid, Signal, kill_process};

const PG_CTL: &str = "pg_ctl -w start";
const OURS: &str = "pgpersist run";

const PATIENCE: Duration = Duration::from_secs(60);
/// What the target allows, in milliseconds.
const OVERHEAD_MS: f64 = 100.0;

pub(crate) fn compare(arguments: &Arguments) {
    let program = arguments.program();
    let place = Place::new();
    let program = place.bring(&program);
    println!("## agent\n\n{}\n{}\n", machine::describe(), machine::file_system(place.path()));
    let data = place.join("volume");
    run(command("mkdir").arg(&data));
    let data = data.join("data");
    run(command(bin_directory().join("initdb")).args(["-k", "--auth=trust", "--username=postgres", "--no-sync", "-D"]).arg(&data));
    let settings = format!("listen_addresses = ''\nunix_socket_directories = '{}'\nport = 54399\n", place.path().display());
    run(command("sh").args(["-c", "printf '%s' \"$1\" >> \"$0\"/postgresql.conf"]).arg(&data).arg(settings));
    // The first run adopts the cluster and writes its own files down.
    end(start(OURS, &program, &data), &data);

    let mut rows = [PG_CTL, OURS].map(Row::new);
    for _ in 0..arguments.rounds(20) {
        for row in &mut rows {
            let began = Instant::now();
            let started = start(row.name, &program, &data);
            row.costs.push(Cost { wall: began.elapsed(), ..Cost::default() });
            end(started, &data);
        }
    }
    print!("{}", markdown(&rows));
    let [theirs, ours] = &rows;
    let overhead = (median(&ours.walls()) - median(&theirs.walls())) * 1000.0;
    let met = if overhead <= OVERHEAD_MS { "met" } else { "missed" };
    println!("\nReady {overhead:.0} ms later than by {PG_CTL} (medians; target ≤ {OVERHEAD_MS:.0}: {met}).");
}

/// Starts a server and returns when it is ready.
fn start(name: &str, program: &Path, data: &Path) -> Child {
    let mut command = if name == OURS {
        let mut run = command(program);
        run.args(["run", "--quiet", "--allow-ephemeral", "-D"]).arg(data).env("PGPORT", "54399");
        run
    } else {
        let mut pg_ctl = command(bin_directory().join("pg_ctl"));
        // It complains when its server is ended before it has looked once more.
        pg_ctl.args(["-s", "-w", "-l", "/dev/null", "start", "-D"]).arg(data).stderr(Stdio::null());
        pg_ctl
    };
    let child = command.stdout(Stdio::null()).spawn().expect("it runs");
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|text| text.lines().nth(7).is_some_and(|word| word.trim() == "ready"))
    {
        assert!(Instant::now() < deadline, "{name} did not start a server");
        std::thread::sleep(Duration::from_micros(500));
    }
    child
}

/// Ends the server, and waits for it and for what started it.
fn end(mut starter: Child, data: &Path) {
    let postmaster = fs::read_to_string(data.join("postmaster.pid")).expect("the server runs");
    let postmaster = postmaster.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw).expect("it has a number");
    kill_process(postmaster, Signal::INT).expect("the server is ours");
    let deadline = Instant::now() + PATIENCE;
    while data.join("postmaster.pid").exists() {
        assert!(Instant::now() < deadline, "the server does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
    starter.wait().expect("what started it ends, too");
}
