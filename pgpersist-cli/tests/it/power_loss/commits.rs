//! Commits that were acknowledged survive.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::kill::yard::Yard;
use crate::power_loss::{FILE_SYSTEMS, cuts, yard};
use crate::support::judge;
use crate::support::moments::Moments;
use crate::support::proof::proven;

const WRITERS: usize = 4;

/// One psql that commits number after number; what it saw acknowledged is the ledger, in the memory of a process that the
/// power failure does not reach.
struct Writer {
    psql: Child,
    /// Says once that the first commit was acknowledged.
    begun: Receiver<()>,
    ledger: JoinHandle<Vec<u64>>,
}

impl Writer {
    fn start(yard: &Yard, first: u64) -> Self {
        let mut command = yard.psql("shop");
        let mut psql = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut asks, answers) = (psql.stdin.take().unwrap(), BufReader::new(psql.stdout.take().unwrap()));
        let (tell, begun) = channel();
        let ledger = std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            let mut lines = answers.lines();
            for number in first.. {
                // A server that has died is the end of the story.
                if writeln!(asks, "INSERT INTO ledger VALUES ({number}) RETURNING number;").and_then(|()| asks.flush()).is_err() {
                    break;
                }
                match lines.next() {
                    Some(Ok(line)) if line == number.to_string() => {
                        acknowledged.push(number);
                        let _ = tell.send(());
                    }
                    _ => break,
                }
            }
            acknowledged
        });
        Self { psql, begun, ledger }
    }

    fn ledger(mut self) -> Vec<u64> {
        let acknowledged = self.ledger.join().unwrap();
        let _ = self.psql.kill();
        let _ = self.psql.wait();
        acknowledged
    }
}

/// Lets the writers write until the power fails, and boots. Returns what was acknowledged.
fn cut_under_load(yard: &mut Yard, moment: Duration, first: u64) -> Vec<u64> {
    let writers: Vec<Writer> = (0..WRITERS as u64).map(|writer| Writer::start(yard, first + writer * 10_000_000)).collect();
    // The clock starts when all are at work, however long a loaded machine takes to come to that.
    for writer in &writers {
        writer.begun.recv_timeout(Duration::from_secs(60)).expect("each writer commits");
    }
    std::thread::sleep(moment);
    yard.cut_the_power();
    let acknowledged = writers.into_iter().flat_map(Writer::ledger).collect();
    yard.boot();
    acknowledged
}

fn stored(yard: &Yard) -> BTreeSet<u64> {
    yard.sql("shop", "SELECT number FROM ledger").lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn acknowledged_commits_survive_a_power_failure() {
    let mut moments = Moments::new("power loss, commits");
    for file_system in FILE_SYSTEMS {
        let Some(mut yard) = yard(file_system) else { return };
        let began = Instant::now();
        yard.run(&["init", "--allow-ephemeral"]);
        yard.run(&["start"]);
        yard.sql("shop", "CREATE TABLE ledger (number bigint PRIMARY KEY)");
        let mut all: BTreeSet<u64> = BTreeSet::new();
        for cut in 0..cuts() {
            let moment = Duration::from_millis(300) + moments.within(Duration::from_millis(1_500));
            let acknowledged = cut_under_load(&mut yard, moment, 1 + (cut as u64 + 1) * 1_000_000_000);
            println!(
                "power loss, commits, {}: cut {cut} after {} ms, {} acknowledged",
                file_system.name(),
                moment.as_millis(),
                acknowledged.len()
            );
            assert!(acknowledged.len() >= WRITERS, "the writers hardly came to anything");
            all.extend(acknowledged);
            yard.run(&["start"]);
            let stored = stored(&yard);
            let lost: Vec<_> = all.difference(&stored).collect();
            assert!(lost.is_empty(), "{} of {} acknowledged commits are lost: {lost:?}", lost.len(), all.len());
            let unexpected = stored.difference(&all).count();
            assert!(unexpected <= WRITERS * (cut + 1), "{unexpected} commits more than can have been in flight");
        }
        yard.run(&["stop"]);
        judge::checksums_hold(&yard.data);
        yard.judge_untouched();
        let counts = format!("{} cuts, {} commits acknowledged, 0 lost", cuts(), all.len());
        proven(format!("power loss commits, {}", file_system.name()), counts, Some(moments.seed()), began);
    }
}

#[test]
fn without_fsync_the_same_cut_loses_commits() {
    let mut moments = Moments::new("power loss, control");
    for file_system in FILE_SYSTEMS {
        let Some(mut yard) = yard(file_system) else { return };
        yard.run(&["init", "--allow-ephemeral"]);
        let (mut made, mut losses, began) = (0, 0, Instant::now());
        // A sync by anybody on the machine just before the cut makes it lose nothing: then another one is made.
        // Each takes long, since a start watches what nothing proves stale; one loss is what is to be shown.
        let wanted = cuts().min(3);
        while made < wanted || (losses == 0 && made < wanted + 4) {
            let cut = made;
            made += 1;
            // By hand: pgpersist starts no server without fsync.
            yard.start_by_hand(&["-c", "fsync=off"]);
            yard.sql("shop", "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (number bigint PRIMARY KEY); CHECKPOINT");
            yard.sync();
            let moment = Duration::from_millis(500) + moments.within(Duration::from_millis(500));
            let acknowledged = cut_under_load(&mut yard, moment, 1);
            assert!(acknowledged.len() >= WRITERS, "the writers hardly came to anything");
            let run = yard.scratch.run(&["start", "--yes"], &[]);
            if run.code != Some(0) {
                println!("power loss, control, {}: cut {cut}: it does not even start", file_system.name());
                losses += 1;
                break;
            }
            let stored = stored(&yard);
            let lost = acknowledged.iter().filter(|number| !stored.contains(number)).count();
            println!("power loss, control, {}: cut {cut}: {lost} of {} are lost", file_system.name(), acknowledged.len());
            losses += usize::from(lost > 0);
            yard.run(&["stop"]);
        }
        assert!(losses > 0, "nothing was lost without fsync: these cuts prove nothing");
        let counts = format!("{made} cuts, {losses} with a loss");
        proven(format!("power loss control, fsync=off, {}", file_system.name()), counts, Some(moments.seed()), began);
    }
}
