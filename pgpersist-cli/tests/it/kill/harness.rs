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

    /// The surroundings that it is attacked in, in words; [`Story::prepare`] knows them by their place in this list.
    fn variants(&self) -> &'static [&'static str] {
        &["everywhere"]
    }

    /// Makes the next victim's surroundings. `false` when there are none of this kind to be had.
    fn prepare(&mut self, variant: usize) -> bool;

    /// Where the victim lives.
    fn yard(&self) -> &Yard;

    /// The command line.
    fn arguments(&self) -> Vec<&str>;

    /// The system calls that a sweep goes by, where not those that change what a disk holds.
    fn steps(&self) -> Option<&'static str> {
        None
    }

    /// The system calls at which the programs that it runs are killed.
    fn steps_of_programs(&self) -> &'static [&'static str] {
        &["fsync", "fdatasync", "rename", "renameat", "unlink", "mkdir", "ftruncate", "link", "sync_file_range"]
    }

    /// A kill took the command alone: its children may live on. Waits until they have ended by themselves.
    fn wait_for_orphans(&self) {
        self.yard().wait_for_orphans();
    }

    /// What stands now, the following run, and the verdict; panics when anything is wrong.
    fn judge(&mut self);
}

/// A story and one of its variants, as it is told.
pub(crate) fn told(story: &dyn Story, variant: usize) -> String {
    match story.variants() {
        [_] => story.name().to_owned(),
        variants => format!("{}, {}", story.name(), variants[variant]),
    }
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

/// In this order half of the kills take the family.
const TAKEN: [Whom; 4] = [Whom::AloneAtOnce, Whom::Family, Whom::Alone, Whom::Family];

/// Goes through the rounds and prints what came of them.
pub(crate) fn kill_at_random(story: &mut dyn Story) {
    let name = story.name();
    let mut moments = Moments::new(name);
    let (rounds, mut hits, mut skipped) = (rounds(EVERYDAY), 0, 0);
    // Each costs as much as a round. Where hits are counted, the first of two may have been slow, with nothing in the caches yet.
    let runs = if rounds >= ENOUGH { 2 } else { 1 };
    let mut lengths: Vec<Lengths> = (0..story.variants().len()).map(|variant| Lengths::measure(story, variant, runs)).collect();
    let began = Instant::now();
    for round in 0..rounds {
        let (variant, whom) = plan(round, lengths.len());
        // A machine with other work to do is not always equally fast.
        if round > 0 && round.is_multiple_of(10) {
            lengths[variant].renew(story, variant);
        }
        let length = lengths[variant].shortest();
        let Some(length) = length.filter(|_| story.prepare(variant)) else {
            skipped += 1;
            continue;
        };
        let moment = moments.within(length);
        println!("{}: round {round}: {whom:?} after {} of {} ms", told(story, variant), moment.as_millis(), length.as_millis());
        let hit = kill(victim(story).spawn().unwrap(), moment, whom);
        hits += usize::from(hit);
        if whom == Whom::Alone {
            story.wait_for_orphans();
        }
        story.judge();
        if !hit {
            lengths[variant].renew(story, variant);
        }
    }
    let done = rounds - skipped;
    let without = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    let variants = if lengths.len() > 1 { format!(", in turn {}", story.variants().join("; ")) } else { String::new() };
    if done >= ENOUGH {
        assert!(hits * 5 >= done * 4, "only {hits} of {done} kills met a living process");
    }
    proven(format!("kill {name}"), format!("{done} kills, {hits} hits{without}{variants}"), Some(moments.seed()), began);
}

/// Which variant a round attacks and whom it kills: each meets each, and the fewest rounds already mix them.
fn plan(round: usize, variants: usize) -> (usize, Whom) {
    let variant = round % variants;
    (variant, TAKEN[(round / variants + variant) % TAKEN.len()])
}

#[test]
fn each_variant_meets_each_kind_of_kill() {
    for variants in 1..=4 {
        let met: Vec<_> = (0..4 * variants).map(|round| plan(round, variants)).collect();
        for variant in 0..variants {
            let kills = |whom| met.iter().filter(|(of, kill)| (*of, *kill) == (variant, whom)).count();
            assert_eq!([kills(Whom::AloneAtOnce), kills(Whom::Alone), kills(Whom::Family)], [1, 1, 2], "{variant} of {variants}");
        }
    }
}

fn victim(story: &dyn Story) -> std::process::Command {
    story.yard().victim(&story.arguments())
}

/// The last lengths of a variant's undisturbed runs; none where its surroundings are not to be had.
#[derive(Debug, Default)]
struct Lengths(VecDeque<Duration>);

impl Lengths {
    fn measure(story: &mut dyn Story, variant: usize, runs: usize) -> Self {
        let mut lengths = Self::default();
        for _ in 0..runs {
            lengths.renew(story, variant);
        }
        lengths
    }

    /// How long the command takes when nobody disturbs it.
    fn renew(&mut self, story: &mut dyn Story, variant: usize) {
        if !story.prepare(variant) {
            return;
        }
        let began = Instant::now();
        let status = victim(story).status().unwrap();
        assert!(status.success(), "{}: undisturbed, it ended with {status}", told(story, variant));
        self.0.push_back(began.elapsed());
        story.judge();
        if self.0.len() > 3 {
            self.0.pop_front();
        }
    }

    /// The shortest, so that most kills come before the end; the sweeps meet the last calls for sure.
    fn shortest(&self) -> Option<Duration> {
        self.0.iter().min().copied()
    }
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
