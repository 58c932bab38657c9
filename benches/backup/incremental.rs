//! A backup of what changed since the one before it.

use super::{OURS_ZSTD, PLAIN, REST_LZ4, REST_ZSTD_3, Stage, named, written};
use crate::support::place::run;
use crate::support::server::Server;
use crate::support::table::{Row, markdown, times_as_fast, verdict};

/// Changes something on a server, each round something else.
type MakeChange = Box<dyn Fn(&Server, usize)>;

/// What changes before each round, and what is wanted of the backups after it.
pub(super) struct Change {
    /// By which `--part` knows it.
    pub(super) name: &'static str,
    title: String,
    change: MakeChange,
    /// How many times as long a peer must take at least.
    wanted: &'static [(&'static str, f64)],
    /// What ours may write at most, as part of what pgBackRest's zst-3 writes.
    size: f64,
}

/// All of them, for pgbench's tables at this scale.
pub(super) fn changes(scale: u32) -> [Change; 3] {
    let rows = u64::from(scale) * 100_000;
    let percent = move |server: &Server, round: usize| {
        let update = format!("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE hashint8extended(aid, {round}) % 100 = 0");
        server.ask("bench", &update);
    };
    let tpc_b = |server: &Server, round: usize| {
        let mut pgbench = server.client("pgbench");
        run(pgbench.args(["--no-vacuum", "--client=4", "--jobs=2", "--time=60", &format!("--random-seed={}", round + 1), "bench"]));
    };
    let scattered = move |server: &Server, round: usize| {
        let update = format!(
            "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid IN \
             (SELECT 1 + abs(hashint8extended(n, {round}) % {rows}) FROM generate_series(1, 1000) AS n)"
        );
        server.ask("bench", &update);
    };
    [
        Change {
            name: "percent",
            title: format!("After 1 % of the rows of `pgbench_accounts` changed at random: about {} each time", rows / 100),
            change: Box::new(percent),
            wanted: &[(REST_ZSTD_3, 5.0), (REST_LZ4, 3.0), (PLAIN, 3.0)],
            size: 0.75,
        },
        Change {
            name: "tpc-b",
            title: "After 60 s of TPC-B by four clients".to_owned(),
            change: Box::new(tpc_b),
            wanted: &[(REST_LZ4, 5.0), (PLAIN, 2.0)],
            size: 0.75,
        },
        Change {
            name: "scattered",
            title: "After 1,000 rows of `pgbench_accounts` changed at random".to_owned(),
            change: Box::new(scattered),
            wanted: &[(REST_ZSTD_3, 2.0)],
            size: 0.15,
        },
    ]
}

impl Change {
    /// Changes something, each round something else.
    pub(super) fn make(&self, server: &Server, round: usize) {
        (self.change)(server, round);
        server.ask("bench", "CHECKPOINT");
    }
}

impl Stage<'_> {
    /// Every variant has a full backup, then something changes before each round.
    pub(super) fn incremental(&self, change: &Change, rounds: usize) {
        println!("### {}\n", change.title);
        let mut rows: Vec<Row> =
            [PLAIN, REST_ZSTD_3, REST_LZ4, OURS_ZSTD].into_iter().filter(|name| self.has(name)).map(Row::new).collect();
        for row in &rows {
            self.begin_anew(row.name);
            self.cost(row.name, "full", 0);
        }
        for round in 0..rounds {
            change.make(self.server, round);
            for row in &mut rows {
                if row.name == PLAIN {
                    self.begin_anew(PLAIN);
                }
                row.costs.push(self.cost(row.name, "incr", round));
            }
        }
        println!("`{PLAIN}` is a full backup again: before PostgreSQL 17 it knows no other.\n");
        print!("{}", markdown(&rows));
        println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
        let ours = named(&rows, OURS_ZSTD).expect("ours is always there");
        for (peer, wanted) in change.wanted {
            if let Some(peer) = named(&rows, peer) {
                print!("{}", verdict(peer.name, *wanted, times_as_fast(ours, peer)));
            }
        }
        if let Some(peer) = named(&rows, REST_ZSTD_3) {
            println!("\nSize: {:.3} of {}'s (target ≤ {:.2}).\n", written(ours) / written(peer), peer.name, change.size);
        }
    }
}
