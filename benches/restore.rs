//! Is `pgpersist restore`, which holds every byte against its hash, as fast as a copy?
//!
//!     cargo bench --package pgpersist-benches -- restore --scale full --rounds 5
//!
//! Each round runs every variant once, in turn, into an empty folder on the same disk: `cp -a` of a plain copy with all of it synced to the
//! disk, the packaged pgBackRest where it is installed, and ours, which syncs everything, too.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::measure;
use crate::support::pgbackrest::{self, PgBackRest};
use crate::support::place::{Place, command, run};
use crate::support::server::{Server, bin_directory};
use crate::support::table::{Row, markdown, median, times_as_fast, verdict};

const COPY: &str = "cp -a + sync";
const REST_ZSTD: &str = "pgBackRest restore, zst-1";
const REST_LZ4: &str = "pgBackRest restore, lz4";
const OURS_ZSTD: &str = "pgpersist restore";
const OURS_LZ4: &str = "pgpersist restore, lz4";
const REST_DELTA: &str = "pgBackRest restore --delta, zst-1";
const OURS_DELTA: &str = "pgpersist restore --delta";

/// Changes a page in each of the twenty largest files.
const CHANGE: &str = r#"find "$1/base" -type f -size +1M -printf '%s %p\n' | sort -rn | head -n 20 | while read -r size file; do
    printf 'changed' | dd of="$file" bs=1 seek=$((size / 2)) conv=notrunc status=none
done"#;

pub(crate) fn compare(arguments: &Arguments) {
    let program = arguments.program();
    let place = Place::new();
    let program = place.bring(&program);
    let server = Server::start(&place);
    println!("## restore\n\n{}\n", machine::describe());
    eprintln!("generating the data set at scale {}", arguments.scale);
    server.generate("bench", arguments.scale);
    let size = server.ask("bench", "SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database");
    println!("Cluster: {size}, scale {}. {}\n", arguments.scale, machine::file_system(place.path()));

    let (plain, zstd, lz4) = (place.join("plain"), place.join("store-zstd"), place.join("store-lz4"));
    run(server.client("pg_basebackup").args(["--checkpoint=fast", "--pgdata"]).arg(&plain));
    for (store, compression) in [(&zstd, "zstd"), (&lz4, "lz4")] {
        run(command("mkdir").arg(store));
        let mut backup = command(&program);
        server.tell(&mut backup);
        run(backup.args(["backup", "--quiet", "--compression", compression, "--store"]).arg(store));
    }
    let mut rest = Vec::new();
    match pgbackrest::version() {
        Some(version) => {
            println!("{version}, two processes, bundling.\n");
            for (name, kind, level) in [(REST_ZSTD, "zst", Some(1)), (REST_LZ4, "lz4", None)] {
                let repository = PgBackRest::new(&place, &server, kind, level);
                repository.begin_anew();
                run(&mut repository.backup("full"));
                rest.push((name, repository));
            }
        }
        None => println!("pgBackRest is absent: it is not installed.\n"),
    }

    let target = place.join("target");
    let names = [COPY, REST_ZSTD, REST_LZ4, OURS_ZSTD, OURS_LZ4];
    let known = |name: &&str| !name.starts_with("pgBackRest") || rest.iter().any(|(known, _)| known == name);
    let mut rows: Vec<Row> = names.into_iter().filter(known).map(Row::new).collect();
    for round in 0..arguments.rounds(5) {
        for row in &mut rows {
            run(command("rm").arg("-rf").arg(&target));
            run(command("mkdir").args(["--mode=700"]).arg(&target));
            let mut variant = match row.name {
                COPY => copy(&plain, &target),
                OURS_ZSTD => ours(&program, &zstd, &target),
                OURS_LZ4 => ours(&program, &lz4, &target),
                name => rest.iter().find(|(known, _)| *known == name).expect("only what is there is run").1.restore(&target),
            };
            server.tell(&mut variant);
            let mut cost = measure(variant.stdout(Stdio::null()), None);
            cost.written_bytes = bytes_in(&target);
            eprintln!("round {}: {}: {:.2} s", round + 1, row.name, cost.wall.as_secs_f64());
            // PostgreSQL takes it for a cluster.
            run(command(bin_directory().join("pg_controldata")).arg(&target));
            row.costs.push(cost);
        }
    }

    print!("{}", markdown(&rows));
    println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
    let named = |name: &str| rows.iter().find(|row| row.name == name);
    for (ours, peer, wanted) in [(OURS_ZSTD, COPY, 1.4), (OURS_ZSTD, REST_ZSTD, 1.7), (OURS_LZ4, REST_LZ4, 1.7)] {
        if let (Some(ours), Some(peer)) = (named(ours), named(peer)) {
            print!("{}", verdict(&format!("{} / {}", ours.name, peer.name), wanted, times_as_fast(ours, peer)));
        }
    }
    if let (Some(ours), Some(peer)) = (named(OURS_ZSTD), named(REST_ZSTD)) {
        println!("\nCPU: {:.2} of {}'s (target ≤ 0.75).", median(&ours.cpus()) / median(&peer.cpus()), peer.name);
    }
    let rest = rest.iter().find(|(name, _)| *name == REST_ZSTD).map(|(_, rest)| rest);
    delta(&place, &server, rest, || ours(&program, &zstd, &place.join("delta-ours")), arguments.rounds(5));
}

/// Over a stopped cluster of which little has changed: one page in each of its twenty largest files.
fn delta(place: &Place, server: &Server, rest: Option<&PgBackRest>, ours: impl Fn() -> Command, rounds: usize) {
    println!("\n### Over a stopped cluster (`--delta`), a page changed in each of the twenty largest files\n");
    let folders = [(REST_DELTA, place.join("delta-rest")), (OURS_DELTA, place.join("delta-ours"))];
    let mut rows: Vec<Row> =
        [REST_DELTA, OURS_DELTA].into_iter().filter(|name| *name == OURS_DELTA || rest.is_some()).map(Row::new).collect();
    let variant = |name: &str, folder: &Path, with: &[&str]| {
        let mut restore = match rest {
            Some(rest) if name == REST_DELTA => rest.restore(folder),
            _ => ours(),
        };
        restore.args(with);
        server.tell(&mut restore);
        restore
    };
    let of = |name: &str| folders.iter().find(|(known, _)| *known == name).map(|(_, folder)| folder).expect("each has one");
    for row in &rows {
        run(command("mkdir").args(["--mode=700"]).arg(of(row.name)));
        run(&mut variant(row.name, of(row.name), &[]));
    }
    for round in 0..rounds {
        for row in &mut rows {
            let folder = of(row.name);
            run(command("sh").args(["-c", CHANGE, "sh"]).arg(folder));
            let with: &[&str] = if row.name == OURS_DELTA { &["--delta", "--yes"] } else { &["--delta"] };
            let cost = measure(variant(row.name, folder, with).stdout(Stdio::null()), None);
            eprintln!("round {}: {}: {:.2} s", round + 1, row.name, cost.wall.as_secs_f64());
            run(command(bin_directory().join("pg_controldata")).arg(folder));
            row.costs.push(cost);
        }
    }
    print!("{}", markdown(&rows));
    if let [peer, ours] = &rows[..] {
        println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
        print!("{}", verdict(&format!("{} / {}", ours.name, peer.name), 2.5, times_as_fast(ours, peer)));
    }
}

fn copy(from: &Path, to: &Path) -> Command {
    let mut copy = command("sh");
    copy.args(["-c", "cp -a \"$0\"/. \"$1\" && sync --file-system \"$1\""]).arg(from).arg(to);
    copy
}

fn ours(program: &Path, store: &Path, target: &Path) -> Command {
    let mut restore = command(program);
    restore.args(["restore", "latest", "--quiet", "--store"]).arg(store).arg("-D").arg(target);
    restore
}

/// The bytes of all files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let told = run(command("du").args(["--apparent-size", "--bytes", "--summarize"]).arg(folder));
    told.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("du tells a number")
}
