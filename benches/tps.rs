//! How much of a server's work is lost while a full backup is made on the same processors?
//!
//!     cargo bench --package pgpersist-benches -- tps --scale full --rounds 5
//!
//! Four clients run pgbench's TPC-B the whole time. Each round runs every variant once, in turn, and before each of them as long a stretch
//! without any is measured as a backup takes: what a server does changes over minutes. Every transaction of TPC-B takes one transaction id,
//! so that the ids tell exactly how many there were.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::pgbackrest::{self, PgBackRest};
use crate::support::place::{Place, command, run};
use crate::support::server::{Server, bin_directory};
use crate::support::table::median;

/// For how long a server is looked at without a backup.
const UNDISTURBED: Duration = Duration::from_secs(10);
/// After this the clients are at full speed again.
const SETTLE: Duration = Duration::from_secs(2);

/// One variant and what its runs came to.
struct Row {
    name: String,
    seconds: Vec<f64>,
    /// Transactions a second, as part of those without a backup.
    ratios: Vec<f64>,
    /// Transactions that there would have been without it.
    lost: Vec<f64>,
}

/// Who makes the backup.
enum Tool {
    BaseBackup,
    Rest(PgBackRest),
    Ours(&'static str),
    /// The same at a lower priority.
    OursNice(&'static str),
}

/// The clients, who end with their handle.
struct Clients(Child);

impl Clients {
    fn start(server: &Server) -> Self {
        let mut pgbench = server.client("pgbench");
        pgbench.args(["--no-vacuum", "--client=4", "--jobs=2", "--time=100000", "bench"]);
        Self(pgbench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgbench runs"))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

pub(crate) fn compare(arguments: &Arguments) {
    let program = arguments.program();
    let place = Place::new();
    let program = place.bring(&program);
    let server = Server::start(&place);
    println!("## tps\n\n{}\n", machine::describe());
    eprintln!("generating the data set at scale {}", arguments.scale);
    server.generate("bench", arguments.scale);
    let size = server.ask("bench", "SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database");
    println!("Cluster: {size}, scale {}. {}\n", arguments.scale, machine::file_system(place.path()));
    let mut tools = vec![("pg_basebackup".to_owned(), Tool::BaseBackup, 1)];
    if let Some(version) = pgbackrest::version() {
        println!("{version}, bundling.\n");
        for (name, kind, level) in [("pgBackRest lz4", "lz4", None), ("pgBackRest zst-1", "zst", Some(1))] {
            for workers in [1, 2] {
                let named = format!("{name}, {workers} at once");
                tools.push((named, Tool::Rest(PgBackRest::with_processes(&place, &server, kind, level, workers)), workers));
            }
        }
    } else {
        println!("pgBackRest is absent: it is not installed.\n");
    }
    for (name, compression) in [("pgpersist lz4", "lz4"), ("pgpersist zstd-1", "zstd")] {
        for workers in [1, 2] {
            tools.push((format!("{name}, {workers} at once"), Tool::Ours(compression), workers));
            tools.push((format!("nice -n 10 {name}, {workers} at once"), Tool::OursNice(compression), workers));
        }
    }
    let row = |(name, _, _): &(String, Tool, u32)| Row { name: name.clone(), seconds: Vec::new(), ratios: Vec::new(), lost: Vec::new() };
    let mut rows: Vec<Row> = tools.iter().map(row).collect();
    let target = place.join("target");
    let clients = Clients::start(&server);
    std::thread::sleep(SETTLE);
    for round in 0..arguments.rounds(5) {
        for ((name, tool, workers), row) in tools.iter().zip(&mut rows) {
            run(command("rm").arg("-rf").arg(&target));
            run(command("mkdir").arg(&target));
            if let Tool::Rest(rest) = tool {
                rest.begin_anew();
            }
            std::thread::sleep(SETTLE);
            let (before, undisturbed) = transactions(&server, || std::thread::sleep(UNDISTURBED));
            let alone = before / undisturbed;
            let mut backup = command_of(tool, *workers, &server, &program, &target);
            server.tell(&mut backup);
            let (during, seconds) = transactions(&server, || {
                run(&mut backup);
            });
            eprintln!("round {}: {name}: {seconds:.2} s, {:.0} of {alone:.0} TPS", round + 1, during / seconds);
            row.seconds.push(seconds);
            row.ratios.push(during / seconds / alone);
            row.lost.push((alone * seconds - during).max(0.0));
        }
    }
    drop(clients);
    print(&mut rows);
}

/// How many transactions there were meanwhile, and how many seconds that took.
fn transactions(server: &Server, meanwhile: impl FnOnce()) -> (f64, f64) {
    let (before, began) = (newest(server), Instant::now());
    meanwhile();
    let seconds = began.elapsed().as_secs_f64();
    (newest(server) - before, seconds)
}

fn newest(server: &Server) -> f64 {
    server.ask("bench", "SELECT pg_snapshot_xmax(pg_current_snapshot())").parse().expect("it is a number")
}

fn command_of(tool: &Tool, workers: u32, server: &Server, program: &Path, target: &Path) -> Command {
    match tool {
        Tool::BaseBackup => {
            let mut base_backup = server.client("pg_basebackup");
            base_backup.args(["--checkpoint=fast", "--wal-method=stream", "--pgdata"]).arg(target);
            base_backup
        }
        Tool::Rest(rest) => rest.backup("full"),
        Tool::Ours(compression) => ours(command(program), workers, compression, target),
        Tool::OursNice(compression) => {
            let mut nice = command("nice");
            nice.args(["-n", "10"]).arg(program);
            ours(nice, workers, compression, target)
        }
    }
}

fn ours(mut backup: Command, workers: u32, compression: &str, target: &Path) -> Command {
    backup.args(["backup", "--quiet", "--jobs", &workers.to_string(), "--compression", compression, "--store"]).arg(target);
    backup
}

fn print(rows: &mut [Row]) {
    println!("Four clients, PostgreSQL of {}.\n", bin_directory().display());
    println!(
        "| backup by | n | s (median) | TPS of those without, min / median / max | transactions lost a backup (median) |\n|---|---|---|---|---|"
    );
    for row in rows.iter_mut() {
        for values in [&mut row.seconds, &mut row.ratios, &mut row.lost] {
            values.sort_by(f64::total_cmp);
        }
        let (ratios, n) = (&row.ratios, row.ratios.len());
        println!(
            "| {} | {n} | {:.2} | {:.2} / {:.2} / {:.2} | {:.0} |",
            row.name,
            median(&row.seconds),
            ratios[0],
            median(ratios),
            ratios[n - 1],
            median(&row.lost)
        );
    }
    let named = |name: &str| rows.iter().find(|row| row.name == name);
    println!("\n| compared with | target | median |\n|---|---|---|");
    for (ours, peer) in [
        ("pgpersist lz4", "pgBackRest lz4"),
        ("nice -n 10 pgpersist lz4", "pgBackRest lz4"),
        ("pgpersist zstd-1", "pgBackRest zst-1"),
        ("nice -n 10 pgpersist zstd-1", "pgBackRest zst-1"),
    ] {
        for workers in [1, 2] {
            let (Some(ours), peer) = (named(&format!("{ours}, {workers} at once")), named(&format!("{peer}, {workers} at once"))) else {
                continue;
            };
            let ratio = median(&ours.ratios);
            let wanted = if workers == 1 { 0.57 } else { peer.map_or(0.0, |peer| median(&peer.ratios)) };
            let told = |met: bool| if met { "met" } else { "missed" };
            println!("| {}: TPS | ≥ {wanted:.2} | {ratio:.2} ({}) |", ours.name, told(ratio >= wanted));
            if let Some(peer) = peer {
                let lost = median(&ours.lost) / median(&peer.lost);
                println!("| {} / {}: transactions lost | ≤ 0.60 | {lost:.2} ({}) |", ours.name, peer.name, told(lost <= 0.6));
            }
        }
    }
}
