//! Kills a command at moments drawn over the length of an undisturbed run, again and again.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::kill::yard::Yard;
use crate::support::moments::{Moments, rounds};
use crate::support::processes;
use crate::support::proof::proven;

/// How many rounds an everyday run of the tests has for each command.
const EVERYDAY: usize = 4;
/// From so many rounds on, the share of kills that must have met a living process is asserted.
const ENOUGH: usize = 20;

/// A command under attack: what it needs, how it is run, and what must be true afterwards.
pub(crate) trait Story {
    /// Its name in what is printed.
    fn name(&self) -> &'static str;

    /// Makes the next victim's surroundings. `round` lets a story vary its place. `false` when there is none to be had.
    fn prepare(&mut self, round: usize) -> bool;

    /// Where the victim lives.
    fn yard(&self) -> &Yard;

    /// The command line.
    fn arguments(&self) -> Vec<&str>;

    /// The system calls that a sweep goes by, where not those that change what a disk holds.
    fn steps(&self) -> Option<&'static str> {
        None
    }

    /// A kill took the command alone: its children may live on. Waits until they have ended by themselves.
    fn wait_for_orphans(&self) {
        self.yard().wait_for_orphans();
    }

    /// The following run and the verdict; panics when anything is wrong.
    fn judge(&mut self);
}

/// Whom a kill takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// pgpersist; the next run comes while its children may still be at work.
    AloneAtOnce,
    /// pgpersist; its children end by themselves before the next run.
    Alone,
    /// pgpersist and all its descendants, as one.
    Family,
}

/// Goes through the rounds and prints what came of them.
pub(crate) fn kill_at_random(story: &mut dyn Story) {
    let name = story.name();
    let mut moments = Moments::new(name);
    let mut lengths: VecDeque<Duration> = (0..3).map(|_| undisturbed(story)).collect();
    let (rounds, mut hits, mut skipped) = (rounds(EVERYDAY), 0, 0);
    let began = Instant::now();
    for round in 0..rounds {
        // A machine with other work to do is not always equally fast.
        if round > 0 && round.is_multiple_of(10) {
            lengths.push_back(undisturbed(story));
            lengths.pop_front();
        }
        if !story.prepare(round) {
            skipped += 1;
            continue;
        }
        // The shortest, so that most kills come before the end; the sweeps meet the last calls for sure.
        let length = *lengths.iter().min().unwrap();
        let moment = moments.within(length);
        // Half of the kills take the family. The place changes with the round's last bit, so that each meets each.
        let whom = match round / 2 % 4 {
            0 => Whom::AloneAtOnce,
            2 => Whom::Alone,
            _ => Whom::Family,
        };
        println!("{name}: round {round}: {whom:?} after {} of {} ms", moment.as_millis(), length.as_millis());
        hits += usize::from(kill(victim(story).spawn().unwrap(), moment, whom));
        if whom == Whom::Alone {
            story.wait_for_orphans();
        }
        story.judge();
    }
    let done = rounds - skipped;
    let without = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    if done >= ENOUGH {
        assert!(hits * 5 >= done * 4, "only {hits} of {done} kills met a living process");
    }
    proven(format!("kill {name}"), format!("{done} kills, {hits} hits{without}"), Some(moments.seed()), began);
}

fn victim(story: &dyn Story) -> std::process::Command {
    story.yard().victim(&story.arguments())
}

/// How long the command takes when nobody disturbs it.
fn undisturbed(story: &mut dyn Story) -> Duration {
    assert!(story.prepare(0), "a plain folder is always to be had");
    let began = Instant::now();
    let status = victim(story).status().unwrap();
    assert!(status.success(), "{}: undisturbed, it ended with {status}", story.name());
    let length = began.elapsed();
    story.judge();
    length
}

/// Kills at the moment; `true` when the process was alive.
fn kill(mut child: Child, moment: Duration, whom: Whom) -> bool {
    std::thread::sleep(moment);
    let id = i32::try_from(child.id()).unwrap();
    // While nobody has waited for it, its number belongs to nobody else.
    match whom {
        Whom::AloneAtOnce | Whom::Alone => child.kill().unwrap(),
        Whom::Family => processes::kill_family(id),
    }
    child.wait().unwrap().signal() == Some(9)
}
