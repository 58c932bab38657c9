//! Is `pgpersist load`, which is all or nothing, ever slower than `gunzip | psql`, which is not?
//!
//!     cargo bench --package pgpersist-benches -- load --scale full --rounds 3
//!
//! Every variant loads the same file, which `pgpersist dump` made, into a database that does not hold anything, with the
//! server's defaults for durability. Creating the database and a checkpoint come before the clock starts for psql, whereas
//! pgpersist creates its own while the clock runs, and compares rows and bytes with what the dump recorded.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::measure;
use crate::support::place::{Place, command, run};
use crate::support::server::Server;
use crate::support::table::{Row, markdown, median, times_as_fast, verdict};

const PSQL: &str = "gunzip | psql";
const SINGLE: &str = "gunzip | psql --single-transaction";
const OURS: &str = "pgpersist load";

pub(crate) fn compare(arguments: &Arguments) {
    let program = arguments.program();
    let place = Place::new();
    let program = place.bring(&program);
    let server = Server::start(&place);
    println!("## load\n\n{}\n", machine::describe());
    eprintln!("generating the data set at scale {}", arguments.scale);
    server.generate("bench", arguments.scale);
    println!("Database: {}, scale {}.\n", server.ask("bench", "SELECT pg_size_pretty(pg_database_size('bench'))"), arguments.scale);

    let store = place.join("store");
    run(command("mkdir").arg(&store));
    let mut dump = command(&program);
    server.tell(&mut dump);
    run(dump.args(["dump", "--quiet", "-d", "bench", "--store"]).arg(&store));
    run(server.client("dropdb").arg("bench"));

    let mut rows = [PSQL, SINGLE, OURS].map(Row::new);
    for round in 0..arguments.rounds(3) {
        for row in &mut rows {
            run(server.client("dropdb").args(["--if-exists", "target"]));
            if row.name != OURS {
                run(server.client("createdb").args(["--template=template0", "target"]));
            }
            server.ask("postgres", "CHECKPOINT");
            let mut variant = variant(row.name, &store, &program);
            server.tell(&mut variant);
            let cost = measure(&mut variant, Some(server.pid()));
            assert_eq!(server.ask("target", "SELECT count(*) FROM public.rnd"), (4000 * arguments.scale / 3).to_string());
            eprintln!("round {}: {}: {:.2} s", round + 1, row.name, cost.wall.as_secs_f64());
            row.costs.push(cost);
        }
    }

    print!("{}", markdown(&rows));
    println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
    let [psql, _, ours] = &rows;
    print!("{}", verdict(&psql.name.replace('|', "\\|"), 1.0, times_as_fast(ours, psql)));
    println!("\nCPU: {:.2} of psql's.", median(&ours.cpus()) / median(&psql.cpus()));
}

fn variant(name: &str, store: &Path, program: &Path) -> Command {
    let shell = |script: &str| {
        let mut shell = command("sh");
        shell.args(["-c", script]).arg(store).stdout(Stdio::null());
        shell
    };
    match name {
        PSQL => shell("gunzip -c \"$0\"/bench/backup_*.sql.gz | psql -X -q -v ON_ERROR_STOP=1 -d target"),
        SINGLE => shell("gunzip -c \"$0\"/bench/backup_*.sql.gz | psql -X -q -1 -v ON_ERROR_STOP=1 -d target"),
        _ => {
            let mut load = command(program);
            load.args(["load", "latest", "--quiet", "-d", "target", "--store"]).arg(store).stdout(Stdio::null());
            load
        }
    }
}
