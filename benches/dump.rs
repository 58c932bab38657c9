//! Is `pgpersist dump` as fast as two cores allow, compared with what people pipe `pg_dump` into?
//!
//!     cargo bench --package pgpersist-benches -- dump --scale full --rounds 5
//!
//! Each round runs every variant once, in turn, over the same database, to the same disk. The targets are capped by what
//! `pg_dump` alone takes in the same run: no tool that waits for it can be faster.

use std::path::Path;
use std::process::Command;

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::measure;
use crate::support::place::{Place, command, run};
use crate::support::server::Server;
use crate::support::table::{Row, markdown, median, times_as_fast, verdict};

const BARE: &str = "pg_dump > /dev/null";
const GZIP: &str = "pg_dump | gzip -6";
const PIGZ: &str = "pg_dump | pigz -6 -p 2";
const PARALLEL: &str = "pg_dump -Fd -j 2";
const OURS: &str = "pgpersist dump";

pub(crate) fn compare(arguments: &Arguments) {
    let program = arguments.program();
    let place = Place::new();
    let program = place.bring(&program);
    let server = Server::start(&place);
    println!("## dump\n\n{}\n", machine::describe());
    eprintln!("generating the data set at scale {}", arguments.scale);
    server.generate("bench", arguments.scale);
    println!("Database: {}, scale {}.\n", server.ask("bench", "SELECT pg_size_pretty(pg_database_size('bench'))"), arguments.scale);

    let target = place.join("target");
    let mut rows = [BARE, GZIP, PIGZ, PARALLEL, OURS].map(Row::new);
    for round in 0..arguments.rounds(5) {
        for row in &mut rows {
            run(command("rm").arg("-rf").arg(&target));
            run(command("mkdir").arg(&target));
            let mut variant = variant(row.name, &target, &program);
            server.tell(&mut variant);
            let mut cost = measure(&mut variant, Some(server.pid()));
            cost.written_bytes = bytes_in(&target);
            eprintln!("round {}: {}: {:.2} s", round + 1, row.name, cost.wall.as_secs_f64());
            row.costs.push(cost);
        }
    }
    // The last one's file lies there still.
    run(command("sh").args(["-c", "gunzip -t \"$0\"/backup_*.sql.gz"]).arg(target.join("bench")));

    print!("{}", markdown(&rows));
    let [bare, gzip, pigz, parallel, ours] = &rows;
    println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
    for (peer, wanted) in [(gzip, 3.0), (pigz, 1.4), (parallel, 1.3)] {
        let cap = 0.9 * times_as_fast(bare, peer).0;
        let what = if cap < wanted { format!("{} (capped from {wanted:.1})", peer.name) } else { peer.name.to_owned() };
        print!("{}", verdict(&what.replace('|', "\\|"), f64::min(wanted, cap), times_as_fast(ours, peer)));
    }
    let written = |row: &Row| row.costs[0].written_bytes as f64;
    println!("\nCPU: {:.2} of gzip -6's.", median(&ours.cpus()) / median(&gzip.cpus()));
    println!("Size: {:.3} of gzip -6's (target ≤ 1).", written(ours) / written(gzip));
    let peak = ours.costs.iter().map(|cost| cost.tree_bytes).max().unwrap_or(0) / 1024 / 1024;
    println!("Memory: {peak} MiB with its pg_dump (target ≤ 64).");
}

fn variant(name: &str, target: &Path, program: &Path) -> Command {
    let shell = |script: &str| {
        let mut shell = command("sh");
        shell.args(["-c", script]).arg(target);
        shell
    };
    match name {
        BARE => shell("exec pg_dump bench > /dev/null"),
        GZIP => shell("pg_dump bench | gzip -6 > \"$0\"/dump.sql.gz"),
        PIGZ => shell("pg_dump bench | pigz -6 -p 2 > \"$0\"/dump.sql.gz"),
        PARALLEL => shell("exec pg_dump -Fd -j 2 -f \"$0\"/dump bench"),
        _ => {
            let mut dump = command(program);
            dump.args(["dump", "--yes", "--quiet", "-d", "bench", "--store"]).arg(target).stdout(std::process::Stdio::null());
            dump
        }
    }
}

/// The bytes of all files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder can be listed").flatten();
    entries.map(|entry| if entry.path().is_dir() { bytes_in(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }).sum()
}
