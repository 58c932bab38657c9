//! With WAL summaries, does the time of a backup grow with what changed, rather than with the cluster?

use std::path::Path;
use std::process::Stdio;

use super::{bytes_in, incremental};
use crate::support::measure::measure;
use crate::support::place::{Place, command, run};
use crate::support::server::Server;
use crate::support::table::{Row, markdown};

/// A tenth of the cluster, and the whole of it, each with summaries and without.
pub(super) fn compare(place: &Place, program: &Path, programs: &Path, scale: u32, rounds: usize) {
    println!("### 1,000 rows changed at random, with WAL summaries and without\n");
    println!("Programs of {}.\n", programs.display());
    let mut rows = Vec::new();
    for (nth, (scale, name, summaries)) in [
        (scale.div_ceil(10), "a tenth, without", "off"),
        (scale.div_ceil(10), "a tenth, with", "on"),
        (scale, "the whole, without", "off"),
        (scale, "the whole, with", "on"),
    ]
    .into_iter()
    .enumerate()
    {
        let server = Server::start_of(place, &format!("server-{nth}"), programs, &format!("summarize_wal = {summaries}\n"));
        server.generate("bench", scale);
        let target = place.join(&format!("summaries-{nth}"));
        run(command("mkdir").arg(&target));
        let mut row = Row::new(name);
        let [_, _, scattered] = incremental::changes(scale);
        for round in 0..=rounds {
            let mut backup = command(program);
            server.tell(&mut backup);
            backup.args(["backup", "--quiet", "--jobs", "2", "--store"]).arg(&target);
            let before = bytes_in(&target);
            let mut cost = measure(backup.stdout(Stdio::null()), Some(server.pid()));
            cost.written_bytes = bytes_in(&target).saturating_sub(before);
            // The first one is whole.
            if round > 0 {
                eprintln!("round {round}: {name}: {:.2} s", cost.wall.as_secs_f64());
                row.costs.push(cost);
            }
            scattered.make(&server, round);
        }
        rows.push(row);
        drop(server);
        run(command("rm").arg("-rf").arg(place.join(&format!("server-{nth}"))).arg(&target));
    }
    println!("{}", markdown(&rows));
}
