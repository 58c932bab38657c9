//! Which backups retention keeps. Pure: what is known of each and the rules in, a decision with a reason for each out.
//!
//! It is [`retention`] with these words of its own:
//!
//! - What is newer is told by timeline and position in the log, for clocks go back. A backup that is dated earlier than one before it
//!   counts as being of that one's moment.
//! - So the newest good one is the one whose position is the furthest. Where two servers go on from one cluster, that may not be the
//!   one that was made last: the one with the latest date stays as well.
//! - One with pages that were damaged on the disk is not good, nor is one that cannot be read or lacks something.

use time::{Duration, OffsetDateTime};

use crate::pg::lsn::Lsn;
use crate::repo::names::RunName;
use crate::retention::{self, Decision, Item, Retention};

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: RunName,
    /// Timeline and end in the log; nothing where it cannot be read.
    pub position: Option<(u32, Lsn)>,
    /// When it was made, by the clock of then.
    pub taken_at: OffsetDateTime,
    /// Whether it can be restored as far as is known, and no page of it was damaged.
    pub good: bool,
    /// What it takes that no newer one that stays does.
    pub size_bytes: u64,
    /// Why it stays whatever the rules say.
    pub held: Option<String>,
}

/// Decides about every backup, in their order.
pub fn decide(retention: &Retention, known: &[Known], now: OffsetDateTime) -> Vec<Decision> {
    let mut decisions = retention::plan(retention, &items(known, now), now);
    let latest = known.iter().enumerate().filter(|(_, one)| one.good && !is_ahead(one, now));
    let latest = latest.max_by_key(|(_, one)| (one.taken_at, one.name)).map(|(at, _)| at);
    for (at, (one, decision)) in known.iter().zip(&mut decisions).enumerate() {
        decision.name = one.name.to_string();
        let held =
            one.held.clone().or_else(|| (Some(at) == latest).then(|| "the good one with the latest date is never dropped".to_owned()));
        if let Some(reason) = held.filter(|_| !decision.keep) {
            decision.keep = true;
            decision.reason = reason;
        }
    }
    decisions
}

/// Their places in the order in which `max_bytes` counts them: the newest good one, then all by age, the newest first.
pub fn newest_first(known: &[Known], now: OffsetDateTime) -> Vec<usize> {
    let items = items(known, now);
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by(|&left, &right| (items[right].taken_at, &items[right].name).cmp(&(items[left].taken_at, &items[left].name)));
    if let Some(newest_good) = order.iter().position(|&at| known[at].good && !is_ahead(&known[at], now)) {
        let newest_good = order.remove(newest_good);
        order.insert(0, newest_good);
    }
    order
}

/// What retention judges: named by their places in the log, and dated so that none is older than one before it.
fn items(known: &[Known], now: OffsetDateTime) -> Vec<Item> {
    let item = |one: &Known| Item { name: String::new(), taken_at: one.taken_at, size_bytes: one.size_bytes, good: one.good };
    let mut items: Vec<Item> = known.iter().map(item).collect();
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by_key(|&at| (known[at].position, known[at].name));
    let mut before: Option<OffsetDateTime> = None;
    for (rank, at) in order.into_iter().enumerate() {
        items[at].name = format!("{rank:010}");
        // A date ahead of the clock tells nothing of those that came after.
        if known[at].position.is_some() && !is_ahead(&known[at], now) {
            let taken_at = before.map_or(known[at].taken_at, |before| before.max(known[at].taken_at));
            items[at].taken_at = taken_at;
            before = Some(taken_at);
        }
    }
    items
}

/// As retention has it: such a one stays, and takes nobody's place.
fn is_ahead(one: &Known, now: OffsetDateTime) -> bool {
    one.taken_at > now.saturating_add(Duration::DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-02-08 12:00 UTC);

    /// A backup so many hours old, at this place in the log of timeline 1.
    fn known(number: u8, hours: i64, lsn: u64) -> Known {
        let taken_at = NOW - Duration::hours(hours);
        let name = RunName::new(taken_at, [number; 4]);
        Known { name, position: Some((1, Lsn(lsn))), taken_at, good: true, size_bytes: 100, held: None }
    }

    fn kept(retention: &Retention, known: &[Known]) -> Vec<usize> {
        decide(retention, known, NOW).iter().enumerate().filter(|(_, decision)| decision.keep).map(|(at, _)| at).collect()
    }

    fn last(number: u32) -> Retention {
        Retention { keep_last: Some(number), ..Retention::default() }
    }

    #[test]
    fn a_clock_that_went_back_drops_nothing_that_is_new() {
        // The newest one was made when the clock stood at a day long gone.
        let all = [known(1, 72, 10), known(2, 48, 20), known(3, 24, 30), known(4, 24 * 365, 40)];
        assert_eq!(kept(&last(2), &all), [2, 3]);
        let days = Retention { keep_days: Some(2), ..Retention::default() };
        assert_eq!(kept(&days, &all), [1, 2, 3], "it is not older than the one before it");
    }

    #[test]
    fn one_from_the_future_pushes_nobody_out_and_makes_nobody_younger() {
        let all = [known(1, -24 * 300, 10), known(2, 72, 20), known(3, 48, 30), known(4, 24, 40)];
        assert_eq!(kept(&last(1), &all), [0, 3]);
        let days = Retention { keep_days: Some(1), ..Retention::default() };
        assert_eq!(kept(&days, &all), [0, 3]);
    }

    #[test]
    fn a_damaged_one_is_never_the_last_good_one() {
        let bad = Known { good: false, ..known(3, 1, 30) };
        let unreadable = Known { good: false, position: None, ..known(4, 0, 0) };
        let all = [known(1, 72, 10), known(2, 48, 20), bad, unreadable];
        assert_eq!(kept(&last(1), &all), [1, 2, 3], "what is damaged goes by age alone");
    }

    #[test]
    fn of_two_servers_that_went_on_none_pushes_the_other_ones_newest_out() {
        // A copy was backed up once, on a timeline of its own; the first server goes on.
        let copy = Known { position: Some((2, Lsn(5))), ..known(1, 48, 0) };
        let all = [known(2, 72, 10), copy, known(3, 24, 30), known(4, 1, 40)];
        assert_eq!(kept(&last(1), &all), [1, 3]);
    }

    #[test]
    fn what_is_held_stays_and_says_why() {
        let all = [Known { held: Some("a restore reads it".to_owned()), ..known(1, 72, 10) }, known(2, 48, 20), known(3, 1, 30)];
        assert_eq!(kept(&last(1), &all), [0, 2]);
        assert_eq!(decide(&last(1), &all, NOW)[0].reason, "a restore reads it");
        assert_eq!(decide(&last(3), &all, NOW)[0].reason, "one of the last 3");
    }

    #[test]
    fn max_bytes_counts_from_the_newest_good_one_on() {
        let bad = Known { good: false, ..known(4, 1, 40) };
        let all = [known(1, 72, 10), known(2, 48, 20), known(3, 24, 30), bad];
        assert_eq!(newest_first(&all, NOW), [2, 3, 1, 0]);
        assert_eq!(kept(&Retention { max_bytes: Some(300), ..Retention::default() }, &all), [1, 2, 3]);
    }

    fn any_backups() -> impl Strategy<Value = Vec<Known>> {
        let one = (-80_i64..1000, 0_u64..40, 1_u32..4, prop::bool::weighted(0.8), prop::bool::weighted(0.9));
        prop::collection::vec(one, 0..20).prop_map(|all| {
            let make = |(number, (hours, lsn, timeline, good, readable)): (usize, (i64, u64, u32, bool, bool))| Known {
                position: readable.then_some((timeline, Lsn(lsn))),
                good: good && readable,
                ..known(number as u8, hours, 0)
            };
            all.into_iter().enumerate().map(make).collect()
        })
    }

    proptest! {
        #[test]
        fn the_good_one_that_is_furthest_stays(keep_last in 0_u32..4, keep_days in 0_u32..30, max_bytes in 0_u64..2000, all in any_backups()) {
            let rules = Retention { keep_last: Some(keep_last), keep_days: Some(keep_days), max_bytes: Some(max_bytes), ..Retention::default() };
            let kept = kept(&rules, &all);
            let real = all.iter().enumerate().filter(|(_, one)| one.good && !is_ahead(one, NOW));
            if let Some((furthest, _)) = real.clone().max_by_key(|(_, one)| (one.position, one.name)) {
                prop_assert!(kept.contains(&furthest));
            }
            if let Some((latest, _)) = real.max_by_key(|(_, one)| (one.taken_at, one.name)) {
                prop_assert!(kept.contains(&latest));
            }
        }
    }
}
