//! How much of a dump's throughput does encrypting it cost?
//!
//!     cargo bench --package pgpersist-benches -- encryption --scale full --rounds 5
//!
//! The same database, to the same disk, by turns: once as it is, once for a public key. The key is made for the bench, and nobody
//! reads with it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::measure;
use crate::support::place::{Place, command, run};
use crate::support::server::Server;
use crate::support::table::{Row, markdown, median, times_as_fast, verdict};

const PLAIN: &str = "pgpersist dump";
const ENCRYPTED: &str = "pgpersist dump, encrypted";

pub(crate) fn compare(arguments: &Arguments) {
    let program = arguments.program();
    let place = Place::new();
    let program = place.bring(&program);
    let server = Server::start(&place);
    println!("## encryption\n\n{}\n{}\n", machine::describe(), machine::file_system(place.path()));
    eprintln!("generating the data set at scale {}", arguments.scale);
    server.generate("bench", arguments.scale);
    println!("Database: {}, scale {}.\n", server.ask("bench", "SELECT pg_size_pretty(pg_database_size('bench'))"), arguments.scale);

    let target = place.join("target");
    let configuration = encrypted_store(&place, &program, &target);
    let mut rows = [PLAIN, ENCRYPTED].map(Row::new);
    for round in 0..arguments.rounds(5) {
        for row in &mut rows {
            run(command("rm").arg("-rf").arg(&target));
            run(command("mkdir").arg(&target));
            let mut variant = variant(row.name, &target, &program, &configuration);
            server.tell(&mut variant);
            let mut cost = measure(&mut variant, Some(server.pid()));
            // What it claims to have measured is what lies there.
            let beginning = run(command("sh")
                .args(["-c", "cat \"$0\"/bench/backup_*.sql.gz \"$0\"/bench/backup_*.age 2>&- | head -c 5 | od -An -tx1"])
                .arg(&target));
            assert_eq!(beginning.trim() == "61 67 65 2d 65", row.name == ENCRYPTED, "{beginning}");
            let size =
                run(command("sh").args(["-c", "cat \"$0\"/bench/backup_*.sql.gz \"$0\"/bench/backup_*.age 2>&- | wc -c"]).arg(&target));
            cost.written_bytes = size.trim().parse().expect("wc tells a number");
            eprintln!("round {}: {}: {:.2} s", round + 1, row.name, cost.wall.as_secs_f64());
            row.costs.push(cost);
        }
    }

    print!("{}", markdown(&rows));
    let [plain, encrypted] = &rows;
    println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
    print!("{}", verdict(plain.name, 0.9, times_as_fast(encrypted, plain)));
    println!("\nCPU: {:.2} of an unencrypted dump's.", median(&encrypted.cpus()) / median(&plain.cpus()));
}

/// A configuration whose dumps are encrypted, to a key that nobody needs.
fn encrypted_store(place: &Place, program: &Path, target: &Path) -> PathBuf {
    let told = run(command(program).args(["store", "key", "new"]).arg(place.join("key.txt")));
    let public = told.lines().find_map(|line| line.strip_prefix("Public key: ")).expect("a new key tells its public half");
    let file = place.join("encrypted.toml");
    let text = format!("[[store]]\nurl = \"{}\"\nencryption = {{ recipients = [\"{public}\"] }}\n", target.display());
    File::create(&file).and_then(|mut file| file.write_all(text.as_bytes())).expect("the folder takes a file");
    file
}

fn variant(name: &str, target: &Path, program: &Path, configuration: &Path) -> Command {
    let mut dump = command(program);
    dump.args(["dump", "--yes", "--quiet", "-d", "bench"]).stdout(Stdio::null());
    if name == ENCRYPTED {
        dump.arg("--config").arg(configuration);
    } else {
        dump.arg("--store").arg(target);
    }
    dump
}
