//! Which backups and dumps to keep: a policy and what there is, in; a decision with a reason for each, out. Pure.
//!
//! An item stays if any rule keeps it, and with no rule at all everything stays. Whatever the rules say:
//!
//! - The newest good item stays.
//! - Only good items count as one of the last, or as the daily, weekly or monthly of their time. A damaged one goes by age
//!   alone: when `keep_days` is over and every good item that a rule keeps is newer than it.
//! - An item dated more than a day ahead of the clock cannot be judged: it stays, and takes nobody's place.
//!
//! Days, ISO weeks and months are those of UTC.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, UtcOffset};

const NANOSECONDS_A_DAY: i128 = 86_400 * 1_000_000_000;

/// What to keep. A rule that is `None` keeps nothing; without any rule everything is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Keeps what is at most so many days old.
    pub keep_days: Option<u32>,
    /// Keeps the newest so many.
    pub keep_last: Option<u32>,
    /// Keeps the newest of each of the last so many days that have one.
    pub keep_daily: Option<u32>,
    /// Keeps the newest of each of the last so many ISO weeks that have one.
    pub keep_weekly: Option<u32>,
    /// Keeps the newest of each of the last so many months that have one.
    pub keep_monthly: Option<u32>,
    /// Of what the other rules keep, drops the oldest until the sum of sizes is at most this.
    pub max_bytes: Option<u64>,
}

impl Retention {
    /// Whether there is no rule at all, so that nothing is ever dropped.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn keeps_everything(&self) -> bool {
        Self { max_bytes: None, ..*self }.is_empty()
    }
}

/// Something that can be kept or dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name; of two items of one moment the one with the greater name counts as the newer.
    pub name: String,
    /// When it was taken.
    pub taken_at: OffsetDateTime,
    /// What dropping it frees.
    pub size_bytes: u64,
    /// Whether it can be restored, as far as is known.
    pub good: bool,
}

/// What becomes of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The item's name.
    pub name: String,
    /// Whether it stays.
    pub keep: bool,
    /// Why, for people: `older than 7 days`.
    pub reason: String,
}

/// Decides about every item; the decisions are in the order of the items.
pub fn plan(retention: &Retention, items: &[Item], now: OffsetDateTime) -> Vec<Decision> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&left, &right| (items[right].taken_at, &items[right].name).cmp(&(items[left].taken_at, &items[left].name)));
    let ahead = |item: &Item| nanoseconds(item.taken_at) > nanoseconds(now) + NANOSECONDS_A_DAY;
    let mut kept: Vec<Option<String>> = vec![None; items.len()];
    for &place in order.iter().filter(|&&place| ahead(&items[place])) {
        kept[place] = Some("dated in the future, so its age is unknown".to_owned());
    }
    order.retain(|&place| !ahead(&items[place]));
    let newest_good = order.iter().copied().find(|&place| items[place].good);
    keep_by_rules(retention, items, &order, now, &mut kept);
    if let Some(newest) = newest_good {
        kept[newest].get_or_insert_with(|| "the newest good one is never dropped".to_owned());
    }
    keep_damaged(items, &order, &mut kept);

    let mut dropped = vec![None; items.len()];
    if let Some(max_bytes) = retention.max_bytes {
        drop_beyond(max_bytes, items, &order, newest_good, &mut kept, &mut dropped);
    }
    let decide = |(item, (kept, dropped)): (&Item, (Option<String>, Option<String>))| Decision {
        name: item.name.clone(),
        keep: kept.is_some(),
        reason: kept.or(dropped).unwrap_or_else(|| why_not(retention)),
    };
    items.iter().zip(kept.into_iter().zip(dropped)).map(decide).collect()
}

/// What the rules keep of the places in `order`, newest first.
fn keep_by_rules(retention: &Retention, items: &[Item], order: &[usize], now: OffsetDateTime, kept: &mut [Option<String>]) {
    if retention.keeps_everything() {
        for &place in order {
            kept[place] = Some("no rule drops by age or number".to_owned());
        }
        return;
    }
    let good = || order.iter().copied().filter(|&place| items[place].good);
    for place in good().take(count(retention.keep_last)) {
        kept[place].get_or_insert_with(|| match retention.keep_last {
            Some(1) => "the last one".to_owned(),
            last => format!("one of the last {}", last.unwrap_or(0)),
        });
    }
    let periods = [
        (retention.keep_daily, "daily", day as fn(OffsetDateTime) -> String),
        (retention.keep_weekly, "weekly", week),
        (retention.keep_monthly, "monthly", month),
    ];
    for (limit, word, period) in periods {
        let mut seen = BTreeSet::new();
        for place in good() {
            if seen.len() >= count(limit) {
                break;
            }
            let period = period(items[place].taken_at);
            if seen.insert(period.clone()) {
                kept[place].get_or_insert_with(|| format!("the {word} of {period}"));
            }
        }
    }
    if let Some(days) = retention.keep_days {
        let oldest = nanoseconds(now) - i128::from(days) * NANOSECONDS_A_DAY;
        for &place in order.iter().filter(|&&place| nanoseconds(items[place].taken_at) >= oldest) {
            kept[place].get_or_insert_with(|| format!("not older than {}", days_text(days)));
        }
    }
}

/// A damaged item is not dropped before the good ones of its age, nor while there is nothing good at all.
fn keep_damaged(items: &[Item], order: &[usize], kept: &mut [Option<String>]) {
    let oldest_kept = order.iter().rev().copied().find(|&place| items[place].good && kept[place].is_some());
    for &place in order.iter().filter(|&&place| !items[place].good) {
        match oldest_kept {
            Some(oldest) if items[place].taken_at < items[oldest].taken_at => {}
            Some(_) => {
                kept[place].get_or_insert_with(|| "damaged, but not older than the good ones that are kept".to_owned());
            }
            None => {
                kept[place].get_or_insert_with(|| "damaged, but there is no good one".to_owned());
            }
        }
    }
}

fn drop_beyond(
    max_bytes: u64,
    items: &[Item],
    order: &[usize],
    newest_good: Option<usize>,
    kept: &mut [Option<String>],
    dropped: &mut [Option<String>],
) {
    let mut sum = newest_good.map_or(0, |place| items[place].size_bytes);
    let mut full = false;
    for &place in order.iter().filter(|&&place| Some(place) != newest_good) {
        if kept[place].is_none() {
            continue;
        }
        sum = sum.saturating_add(items[place].size_bytes);
        full |= sum > max_bytes;
        if full {
            kept[place] = None;
            dropped[place] = Some(format!("the newer ones fill the {max_bytes} bytes of max_bytes"));
        }
    }
}

fn why_not(retention: &Retention) -> String {
    let mut reasons = Vec::new();
    if let Some(days) = retention.keep_days {
        reasons.push(format!("older than {}", days_text(days)));
    }
    match retention.keep_last {
        Some(1) => reasons.push("not the last one".to_owned()),
        Some(last) => reasons.push(format!("not one of the last {last}")),
        None => {}
    }
    for (limit, word) in [(retention.keep_daily, "daily"), (retention.keep_weekly, "weekly"), (retention.keep_monthly, "monthly")] {
        if let Some(limit) = limit {
            reasons.push(format!("not one of the last {limit} {word} ones"));
        }
    }
    reasons.join(", ")
}

fn count(limit: Option<u32>) -> usize {
    usize::try_from(limit.unwrap_or(0)).unwrap_or(usize::MAX)
}

fn days_text(days: u32) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

fn nanoseconds(moment: OffsetDateTime) -> i128 {
    moment.unix_timestamp_nanos()
}

/// In UTC, except at the ends of time, where UTC may not have the date any more.
fn in_utc(moment: OffsetDateTime) -> OffsetDateTime {
    moment.checked_to_offset(UtcOffset::UTC).unwrap_or(moment)
}

fn day(moment: OffsetDateTime) -> String {
    in_utc(moment).date().to_string()
}

fn week(moment: OffsetDateTime) -> String {
    let (year, week, _) = in_utc(moment).to_iso_week_date();
    format!("{year:04}-W{week:02}")
}

fn month(moment: OffsetDateTime) -> String {
    let date = in_utc(moment).date();
    format!("{:04}-{:02}", date.year(), u8::from(date.month()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-02-08 12:00 UTC);

    fn item(name: &str, taken_at: OffsetDateTime) -> Item {
        Item { name: name.to_owned(), taken_at, size_bytes: 100, good: true }
    }

    fn damaged(name: &str, taken_at: OffsetDateTime) -> Item {
        Item { good: false, ..item(name, taken_at) }
    }

    fn days_ago(days: i64) -> OffsetDateTime {
        NOW - Duration::days(days)
    }

    fn kept(retention: &Retention, items: &[Item]) -> Vec<String> {
        plan(retention, items, NOW).into_iter().filter(|decision| decision.keep).map(|decision| decision.name).collect()
    }

    fn reason(retention: &Retention, items: &[Item], name: &str) -> (bool, String) {
        let decision = plan(retention, items, NOW).into_iter().find(|decision| decision.name == name).unwrap();
        (decision.keep, decision.reason)
    }

    #[test]
    fn with_no_rule_everything_stays() {
        let items = [item("old", days_ago(4000)), damaged("damaged", days_ago(3000))];
        assert_eq!(kept(&Retention::default(), &items), ["old", "damaged"]);
    }

    #[test]
    fn seven_days_are_kept_to_the_second() {
        let items = [item("a", NOW), item("b", days_ago(7)), item("c", days_ago(7) - Duration::seconds(1))];
        let retention = Retention { keep_days: Some(7), ..Retention::default() };
        assert_eq!(kept(&retention, &items), ["a", "b"]);
        assert_eq!(reason(&retention, &items, "c"), (false, "older than 7 days".to_owned()));
    }

    #[test]
    fn the_newest_good_one_stays_however_old() {
        let items = [item("older", days_ago(400)), item("newest", days_ago(300)), damaged("damaged", days_ago(350))];
        let retention = Retention { keep_days: Some(7), max_bytes: Some(1), ..Retention::default() };
        assert_eq!(kept(&retention, &items), ["newest"]);
        assert_eq!(reason(&retention, &items, "newest").1, "the newest good one is never dropped");
    }

    #[test]
    fn one_of_each_day_week_and_month() {
        let items = [
            item("sunday evening", datetime!(2026-02-08 11:00 UTC)),
            item("sunday morning", datetime!(2026-02-08 01:00 UTC)),
            item("monday", datetime!(2026-02-02 01:00 UTC)),
            item("week before", datetime!(2026-01-28 01:00 UTC)),
            item("december", datetime!(2025-12-30 01:00 UTC)),
            item("new year in India", datetime!(2026-01-01 02:00 +05:30)),
        ];
        let daily = Retention { keep_daily: Some(2), ..Retention::default() };
        assert_eq!(kept(&daily, &items), ["sunday evening", "monday"]);
        assert_eq!(reason(&daily, &items, "sunday evening").1, "the daily of 2026-02-08");
        assert_eq!(reason(&daily, &items, "december"), (false, "not one of the last 2 daily ones".to_owned()));
        let weekly = Retention { keep_weekly: Some(3), ..Retention::default() };
        assert_eq!(kept(&weekly, &items), ["sunday evening", "week before", "new year in India"]);
        assert_eq!(reason(&weekly, &items, "new year in India").1, "the weekly of 2026-W01");
        let monthly = Retention { keep_monthly: Some(9), ..Retention::default() };
        assert_eq!(kept(&monthly, &items), ["sunday evening", "week before", "new year in India"]);
        assert_eq!(reason(&monthly, &items, "new year in India").1, "the monthly of 2025-12");
    }

    #[test]
    fn damaged_ones_take_nobodys_place_and_go_by_age() {
        let items = [
            damaged("today", NOW),
            item("yesterday", days_ago(1)),
            damaged("middle", days_ago(2)),
            item("third", days_ago(3)),
            damaged("old", days_ago(9)),
        ];
        let last = Retention { keep_last: Some(2), ..Retention::default() };
        assert_eq!(kept(&last, &items), ["today", "yesterday", "middle", "third"]);
        let days = Retention { keep_days: Some(10), ..last };
        assert_eq!(kept(&days, &items).len(), 5);
        assert_eq!(kept(&last, &items[4..]), ["old"], "the only one, though damaged, may be all there is");
    }

    #[test]
    fn an_item_from_the_future_pushes_nobody_out() {
        let items = [item("future", NOW + Duration::days(300)), item("real", days_ago(1)), item("older", days_ago(2))];
        for retention in [
            Retention { keep_last: Some(1), ..Retention::default() },
            Retention { keep_daily: Some(1), ..Retention::default() },
            Retention { max_bytes: Some(100), ..Retention::default() },
        ] {
            assert_eq!(kept(&retention, &items), ["future", "real"], "{retention:?}");
        }
    }

    #[test]
    fn max_bytes_drops_the_oldest_first() {
        let items = [item("a", NOW), item("b", days_ago(1)), item("c", days_ago(2)), Item { size_bytes: 1, ..item("d", days_ago(3)) }];
        let retention = Retention { max_bytes: Some(250), ..Retention::default() };
        assert_eq!(kept(&retention, &items), ["a", "b"], "the small old one does not outlive the large newer one");
        assert!(reason(&retention, &items, "d").1.contains("max_bytes"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let retention: Retention = toml::from_str("keep_days = 7\nkeep_monthly = 3").unwrap();
        assert_eq!((retention.keep_days, retention.keep_monthly), (Some(7), Some(3)));
        assert!(toml::from_str::<Retention>("keep_dayz = 7").is_err());
        assert!(toml::from_str::<Retention>("keep_days = -1").is_err());
    }

    /// The rules once more, item by item and without any bookkeeping: slow and plain. `None` where `max_bytes` decides.
    fn reference(retention: &Retention, items: &[Item], now: OffsetDateTime) -> Vec<bool> {
        let real: Vec<&Item> = items.iter().filter(|item| item.taken_at - now <= Duration::DAY).collect();
        let newer = |left: &Item, right: &Item| (left.taken_at, &left.name) > (right.taken_at, &right.name);
        let newest_of =
            |item: &Item, same: &dyn Fn(&Item) -> bool| !real.iter().any(|other| other.good && same(other) && newer(other, item));
        let rank = |item: &Item, period: &dyn Fn(&Item) -> String| {
            let newer: BTreeSet<_> =
                real.iter().filter(|other| other.good).map(|other| period(other)).filter(|p| *p > period(item)).collect();
            newer.len()
        };
        let by_rule = |item: &Item| {
            let last = real.iter().filter(|other| other.good && newer(other, item)).count() < count(retention.keep_last);
            let in_period = |limit: Option<u32>, period: &dyn Fn(&Item) -> String| {
                rank(item, period) < count(limit) && newest_of(item, &|other| period(other) == period(item))
            };
            item.good
                && (last
                    || newest_of(item, &|_| true)
                    || in_period(retention.keep_daily, &|item| day(item.taken_at))
                    || in_period(retention.keep_weekly, &|item| week(item.taken_at))
                    || in_period(retention.keep_monthly, &|item| month(item.taken_at)))
        };
        let by_age = |item: &Item| retention.keep_days.is_some_and(|days| now - item.taken_at <= Duration::days(days.into()));
        let anchor = |item: &Item| item.good && (by_rule(item) || by_age(item));
        items
            .iter()
            .map(|item| {
                item.taken_at - now > Duration::DAY
                    || Retention { max_bytes: None, ..*retention } == Retention::default()
                    || by_rule(item)
                    || by_age(item)
                    || (!item.good
                        && (real.iter().any(|other| anchor(other) && other.taken_at <= item.taken_at)
                            || !real.iter().any(|other| other.good)))
            })
            .collect()
    }

    fn limit() -> impl Strategy<Value = Option<u32>> {
        prop_oneof![2 => Just(None), 5 => (0_u32..6).prop_map(Some), 1 => any::<u32>().prop_map(Some)]
    }

    prop_compose! {
        fn rules()(keep_days in limit(), keep_last in limit(), keep_daily in limit(), keep_weekly in limit(), keep_monthly in limit()) -> Retention {
            // Days beyond what the reference's arithmetic can hold are all the same.
            Retention { keep_days: keep_days.map(|days| days.min(100_000)), keep_last, keep_daily, keep_weekly, keep_monthly, max_bytes: None }
        }
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        // Hours, so that several fall on one day, and some on one moment; up to 40 days back, a few ahead.
        let one = (-80_i64..1000, 0_u64..1000, prop::bool::weighted(0.8));
        prop::collection::vec(one, 0..30).prop_map(|items| {
            let make = |(number, (hours, size_bytes, good)): (usize, (i64, u64, bool))| Item {
                name: format!("{number:02}"),
                taken_at: NOW - Duration::hours(hours),
                size_bytes,
                good,
            };
            items.into_iter().enumerate().map(make).collect()
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(rules in rules(), items in items()) {
            let decided: Vec<bool> = plan(&rules, &items, NOW).iter().map(|decision| decision.keep).collect();
            prop_assert_eq!(decided, reference(&rules, &items, NOW));
        }

        #[test]
        fn the_newest_good_one_is_always_kept(rules in rules(), max_bytes in prop::option::of(0_u64..5000), items in items()) {
            let decisions = plan(&Retention { max_bytes, ..rules }, &items, NOW);
            let real = items.iter().enumerate().filter(|(_, item)| item.good && item.taken_at <= NOW + Duration::DAY);
            if let Some((place, _)) = real.max_by_key(|(_, item)| (item.taken_at, item.name.clone())) {
                prop_assert!(decisions[place].keep);
            }
            prop_assert!(decisions.iter().all(|decision| !decision.reason.is_empty()));
        }

        #[test]
        fn another_rule_never_drops_more(rules in rules(), more in rules(), items in items()) {
            prop_assume!(!rules.is_empty());
            let widest = |left: Option<u32>, right: Option<u32>| left.max(right);
            let wider = Retention {
                keep_days: widest(rules.keep_days, more.keep_days),
                keep_last: widest(rules.keep_last, more.keep_last),
                keep_daily: widest(rules.keep_daily, more.keep_daily),
                keep_weekly: widest(rules.keep_weekly, more.keep_weekly),
                keep_monthly: widest(rules.keep_monthly, more.keep_monthly),
                max_bytes: None,
            };
            for (less, more) in plan(&rules, &items, NOW).iter().zip(plan(&wider, &items, NOW)) {
                prop_assert!(!less.keep || more.keep, "{less:?} {more:?}");
            }
        }

        #[test]
        fn max_bytes_is_kept_but_for_the_newest_good_one(rules in rules(), max_bytes in 0_u64..5000, items in items()) {
            let decisions = plan(&Retention { max_bytes: Some(max_bytes), ..rules }, &items, NOW);
            let real = |item: &Item| item.taken_at <= NOW + Duration::DAY;
            let newest = items.iter().filter(|item| item.good && real(item)).max_by_key(|item| (item.taken_at, item.name.clone()));
            let kept = items.iter().zip(&decisions).filter(|(item, decision)| decision.keep && real(item));
            let sum: u64 = kept.map(|(item, _)| item.size_bytes).sum();
            prop_assert!(sum <= max_bytes.max(newest.map_or(0, |item| item.size_bytes)));
        }

        #[test]
        fn no_clock_makes_it_panic(rules in rules(), items in items(), clock in any::<i64>(), day in any::<u32>()) {
            let within_ten_years = NOW + Duration::seconds(clock % (10 * 366 * 86_400));
            plan(&rules, &items, within_ten_years);
            let first = time::Date::MIN.midnight().assume_offset(time::macros::offset!(+23));
            let last = time::Date::MAX.with_time(time::macros::time!(23:59:59)).assume_offset(time::macros::offset!(-23));
            let ends = [item("first", first), item("last", last), item("now", NOW)];
            for now in [first, last, within_ten_years] {
                plan(&Retention { keep_days: Some(day), ..rules }, &ends, now);
                plan(&Retention { keep_days: Some(u32::MAX), ..rules }, &items, now);
            }
        }
    }
}
