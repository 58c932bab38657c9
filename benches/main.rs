//! What pgpersist costs, side by side with what people use today. Each file beside this one asks one question.
//!
//!     cargo bench --package pgpersist-benches -- dump --scale full --rounds 5
//!
//! Every variant runs once a round, in turn, so that what else the machine does touches all of them. Compare figures of
//! one run only: ratios last, seconds do not. `--scale` is `smoke`, `gib` (the default), `full` or pgbench's scale.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench's result is what it prints")]

mod agent;
mod backup;
mod dump;
mod encryption;
mod format;
mod list;
mod load;
mod restore;
mod store;
mod support;
mod temporary_cluster;
mod tps;

use crate::support::arguments::Arguments;

fn main() {
    // What is measured in a process of its own.
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == store::TRANSFER) {
        return store::transfer(&words[1..]);
    }
    let arguments = Arguments::read();
    match arguments.bench.as_str() {
        "agent" => agent::compare(&arguments),
        "backup" => backup::compare(&arguments),
        "dump" => dump::compare(&arguments),
        "encryption" => encryption::compare(&arguments),
        "format" => format::compare(&arguments),
        "list" => list::compare(&arguments),
        "load" => load::compare(&arguments),
        "restore" => restore::compare(&arguments),
        "store" => store::compare(&arguments),
        "temporary_cluster" => temporary_cluster::compare(&arguments),
        "tps" => tps::compare(&arguments),
        other => {
            panic!("unknown bench `{other}`: agent, backup, dump, encryption, format, list, load, restore, store, temporary_cluster or tps")
        }
    }
}
