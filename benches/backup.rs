//! Is `pgpersist backup` as fast as two cores allow, full, after all kinds of changes, and of very many files, compared with what people make
//! physical backups with?
//!
//!     cargo bench --package pgpersist-benches -- backup --scale full --rounds 5
//!     cargo bench --package pgpersist-benches -- backup --scale full --rounds 5 --part full
//!
//! Each round runs every variant once, in turn, over the same cluster, to the same disk. All of them verify page checksums and store the log
//! that makes the backup whole, but for pgBackRest, whose log an archive would have. What is not installed, or not built into this server, is
//! told as absent.

mod incremental;
mod small_files;
mod summaries;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::{Cost, measure};
use crate::support::pgbackrest::{self, PgBackRest};
use crate::support::place::{Place, command, run};
use crate::support::server::{Server, bin_directory};
use crate::support::table::{Row, markdown, median, times_as_fast, verdict};

const PLAIN: &str = "pg_basebackup";
const SERVER_ZSTD: &str = "pg_basebackup server-zstd:1";
const SERVER_LZ4: &str = "pg_basebackup server-lz4";
const REST_ZSTD_1: &str = "pgBackRest zst-1";
const REST_ZSTD_3: &str = "pgBackRest zst-3";
const REST_LZ4: &str = "pgBackRest lz4";
const OURS_ZSTD: &str = "pgpersist backup";
const OURS_LZ4: &str = "pgpersist backup, lz4";

/// What pgBackRest 2.59.1 takes, bundling and by blocks, by what `pg_basebackup` takes with the same compression: measured once on these
/// data (PostgreSQL 15, two cores, medians of a quiet run), since no package has it. What is made of it is told as indirect.
const NEWEST_REST: [(&str, &str, &str, f64, f64); 2] =
    [(OURS_ZSTD, SERVER_ZSTD, "zst-1", 4.27 / 4.15, 1.7), (OURS_LZ4, SERVER_LZ4, "lz4", 3.87 / 2.91, 1.8)];

/// What all variants work on.
struct Stage<'a> {
    place: &'a Place,
    server: &'a Server,
    program: PathBuf,
    rest: Vec<(&'static str, PgBackRest)>,
}

pub(crate) fn compare(arguments: &Arguments) {
    let program = arguments.program();
    let place = Place::new();
    let program = place.bring(&program);
    let server = Server::start(&place);
    println!("## backup\n\n{}\n", machine::describe());
    eprintln!("generating the data set at scale {}", arguments.scale);
    server.generate("bench", arguments.scale);
    let size = server.ask("bench", "SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database");
    println!("Cluster: {size}, scale {}. {}\n", arguments.scale, machine::file_system(place.path()));
    let rest = match pgbackrest::version() {
        Some(version) => {
            println!("{version}, bundling, without block incrementals where it has none.\n");
            let kinds = [(REST_ZSTD_1, "zst", Some(1)), (REST_ZSTD_3, "zst", Some(3)), (REST_LZ4, "lz4", None)];
            kinds.map(|(name, kind, level)| (name, PgBackRest::new(&place, &server, kind, level))).into()
        }
        None => {
            println!("pgBackRest is absent: it is not installed.\n");
            Vec::new()
        }
    };
    let stage = Stage { place: &place, server: &server, program, rest };
    let rounds = arguments.rounds(5);
    if arguments.has_part("full") {
        stage.full(rounds);
    }
    for change in incremental::changes(arguments.scale) {
        if arguments.has_part(change.name) {
            stage.incremental(&change, rounds);
        }
    }
    if arguments.has_part("small-files") {
        stage.small_files(rounds);
    }
    let Stage { program, .. } = stage;
    drop(server);
    if arguments.has_part("summaries") {
        match &arguments.summarizing {
            Some(programs) => summaries::compare(&place, &program, programs, arguments.scale, rounds),
            None => println!("WAL summaries: not measured without `--bindir-17`.\n"),
        }
    }
}

impl Stage<'_> {
    fn full(&self, rounds: usize) {
        println!("### Full\n");
        let mut rows: Vec<Row> = [PLAIN, SERVER_ZSTD, SERVER_LZ4, REST_ZSTD_1, REST_LZ4, OURS_ZSTD, OURS_LZ4]
            .into_iter()
            .filter(|name| self.has(name))
            .map(Row::new)
            .collect();
        for round in 0..rounds {
            for row in &mut rows {
                self.begin_anew(row.name);
                row.costs.push(self.cost(row.name, "full", round));
            }
        }
        print!("{}", markdown(&rows));
        println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
        for (ours, peer, wanted) in
            [(OURS_ZSTD, REST_ZSTD_1, 1.7), (OURS_ZSTD, SERVER_ZSTD, 1.5), (OURS_LZ4, REST_LZ4, 1.8), (OURS_LZ4, SERVER_LZ4, 1.3)]
        {
            if let (Some(ours), Some(peer)) = (named(&rows, ours), named(&rows, peer)) {
                print!("{}", verdict(&format!("{} / {}", ours.name, peer.name), wanted, times_as_fast(ours, peer)));
            }
        }
        for (ours, peer, kind, ratio, wanted) in NEWEST_REST {
            if let (Some(ours), Some(peer)) = (named(&rows, ours), named(&rows, peer)) {
                let (median, minimum) = times_as_fast(ours, peer);
                let what = format!("indirectly: {} / pgBackRest 2.59.1 {kind}", ours.name);
                print!("{}", verdict(&what, wanted, (median * ratio, minimum * ratio)));
            }
        }
        if let (Some(ours), Some(peer)) = (named(&rows, OURS_ZSTD), named(&rows, REST_ZSTD_1)) {
            println!("\nCPU: {:.2} of {}'s (target ≤ 0.70).", median(&ours.cpus()) / median(&peer.cpus()), peer.name);
            println!("Size: {:.3} of {}'s (target ≤ 1.05).", written(ours) / written(peer), peer.name);
        }
        let ours = named(&rows, OURS_ZSTD).expect("ours is always there");
        let peak = ours.costs.iter().map(|cost| cost.tree_bytes).max().unwrap_or(0) / 1024 / 1024;
        println!("Memory: {peak} MiB (target ≤ 128).\n");
    }

    /// Whether a variant can be run here.
    fn has(&self, name: &str) -> bool {
        match name {
            SERVER_ZSTD => self.server_has("--with-zstd", name),
            SERVER_LZ4 => self.server_has("--with-lz4", name),
            _ if name.starts_with("pgBackRest") => self.rest.iter().any(|(known, _)| *known == name),
            _ => true,
        }
    }

    fn server_has(&self, option: &str, name: &str) -> bool {
        let major: u32 =
            self.server.ask("postgres", "SELECT current_setting('server_version_num')::int / 10000").parse().expect("it is a number");
        let built = Command::new(bin_directory().join("pg_config")).arg("--configure").output();
        let has = major >= 15 && built.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains(option));
        if !has {
            println!("`{name}` is absent: this server cannot.\n");
        }
        has
    }

    fn target(&self, name: &str) -> PathBuf {
        match self.rest.iter().find(|(known, _)| *known == name) {
            Some((_, rest)) => rest.repository().to_owned(),
            None => self.place.join(&name.replace([' ', ',', ':'], "-")),
        }
    }

    /// No backup is there any more.
    fn begin_anew(&self, name: &str) {
        if let Some((_, rest)) = self.rest.iter().find(|(known, _)| *known == name) {
            return rest.begin_anew();
        }
        run(command("rm").arg("-rf").arg(self.target(name)));
        run(command("mkdir").arg(self.target(name)));
    }

    fn cost(&self, name: &str, kind: &str, round: usize) -> Cost {
        let target = self.target(name);
        let before = bytes_in(&target);
        let mut variant = self.variant(name, kind, &target);
        self.server.tell(&mut variant);
        let mut cost = measure(variant.stdout(Stdio::null()), Some(self.server.pid()));
        cost.written_bytes = bytes_in(&target).saturating_sub(before);
        eprintln!("round {}, {kind}: {name}: {:.2} s", round + 1, cost.wall.as_secs_f64());
        cost
    }

    fn variant(&self, name: &str, kind: &str, target: &Path) -> Command {
        let base_backup = |words: &[&str]| {
            let mut base_backup = self.server.client("pg_basebackup");
            base_backup.args(["--checkpoint=fast", "--wal-method=stream"]).args(words).arg("--pgdata").arg(target);
            base_backup
        };
        let ours = |words: &[&str]| {
            let mut backup = command(&self.program);
            backup.args(["backup", "--quiet", "--jobs", "2"]).args(words).arg("--store").arg(target);
            backup
        };
        match name {
            PLAIN => base_backup(&[]),
            SERVER_ZSTD => base_backup(&["--format=tar", "--compress=server-zstd:1"]),
            SERVER_LZ4 => base_backup(&["--format=tar", "--compress=server-lz4"]),
            OURS_ZSTD => ours(&[]),
            OURS_LZ4 => ours(&["--compression", "lz4"]),
            _ => self.rest.iter().find(|(known, _)| *known == name).expect("only what is there is run").1.backup(kind),
        }
    }
}

fn named<'a>(rows: &'a [Row], name: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.name == name)
}

/// The bytes that a variant wrote, the median of its rounds.
fn written(row: &Row) -> f64 {
    let mut bytes: Vec<f64> = row.costs.iter().map(|cost| cost.written_bytes as f64).collect();
    bytes.sort_by(f64::total_cmp);
    median(&bytes)
}

/// The bytes of all files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    run(command("du").args(["--apparent-size", "--bytes", "--summarize"]).arg(folder))
        .split_whitespace()
        .next()
        .and_then(|bytes| bytes.parse().ok())
        .expect("du tells a number")
}
