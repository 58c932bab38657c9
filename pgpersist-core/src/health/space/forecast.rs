//! When a place will be full, told from what was seen of it.
//!
//! The growth is a weighted median of the slopes between all pairs of samples (the estimator of Theil and Sen; each pair weighs
//! as much as its samples are apart): a dump that retention drops the next day, or a sort that spilled to disk for an hour,
//! moves a mean and does not move it. It is asked of the last two weeks, and of the last hours, where a place that
//! fills up with WAL shows.

use std::time::Duration;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// What the growth over days is told from.
const LONG: Window = Window { length: 14 * DAY, least: DAY, samples: 6 };
/// What the growth over hours is told from.
const SHORT: Window = Window { length: 6 * HOUR, least: HOUR, samples: 6 };
/// The growth over hours counts when it fills the place within this time: most of what grows for an hour does not go on.
const SOON: i64 = DAY;
/// So many times as far ahead as was seen back is something said; beyond, it would be a guess.
const REACH: i64 = 10;

/// How much of a place was in use at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// Seconds since 1970.
    pub at: i64,
    /// Bytes in use.
    pub used_bytes: u64,
}

/// What is to be expected of a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// How much more is in use each day; negative where it becomes less.
    pub growth_bytes_per_day: f64,
    /// When it is full, where that can be told.
    pub full_in: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    length: i64,
    /// How far apart the first and the last sample must be.
    least: i64,
    /// How many samples there must be.
    samples: usize,
}

/// What is to be expected of a place with so many bytes free at `now` (seconds since 1970); none where too little was seen.
/// Samples are in the order of their time; those of the future are left out.
pub fn forecast(samples: &[Sample], now: i64, free_bytes: u64) -> Option<Forecast> {
    let long = LONG.growth(samples, now).map(|(growth, seen)| (growth, full_in(free_bytes, growth).filter(|s| *s <= seen * REACH)));
    let short = SHORT.growth(samples, now).and_then(|(growth, seen)| {
        // What has ended since is no growth any more.
        let lately = Window { length: seen / 3, least: 1, samples: 3 }.growth(samples, now)?.0;
        let growth = growth.min(lately);
        full_in(free_bytes, growth).filter(|seconds| *seconds <= SOON).map(|seconds| (growth, Some(seconds)))
    });
    let soonest = match (long, short) {
        (Some((_, Some(days))), Some((_, Some(hours)))) if days <= hours => long,
        (_, Some(_)) => short,
        (_, None) => long,
    };
    soonest.map(|(growth, full_in)| Forecast {
        growth_bytes_per_day: (growth * DAY as f64).round(),
        full_in: full_in.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
    })
}

impl Window {
    /// Bytes a second, and how many seconds were looked at.
    fn growth(self, samples: &[Sample], now: i64) -> Option<(f64, i64)> {
        let seen: Vec<Sample> = samples.iter().filter(|sample| (now - self.length..=now).contains(&sample.at)).copied().collect();
        let (first, last) = (seen.first()?, seen.last()?);
        let span = last.at - first.at;
        if span < self.least || seen.len() < self.samples {
            return None;
        }
        let mut slopes = Vec::with_capacity(seen.len() * seen.len() / 2);
        for (index, later) in seen.iter().enumerate() {
            for earlier in &seen[..index] {
                let apart = (later.at - earlier.at) as f64;
                if apart > 0.0 {
                    slopes.push(((later.used_bytes as f64 - earlier.used_bytes as f64) / apart, apart));
                }
            }
        }
        weighted_median(slopes).map(|growth| (growth, span))
    }
}

/// The value below which half of the weight lies.
fn weighted_median(mut weighted: Vec<(f64, f64)>) -> Option<f64> {
    weighted.sort_by(|one, other| one.0.total_cmp(&other.0));
    let half = weighted.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut below = 0.0;
    weighted.into_iter().find_map(|(value, weight)| {
        below += weight;
        (below >= half).then_some(value)
    })
}

/// In how many seconds there is nothing free any more.
fn full_in(free_bytes: u64, growth: f64) -> Option<i64> {
    // The comparison also leaves out what is no number.
    if growth > 0.0 { Some((free_bytes as f64 / growth) as i64) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: f64 = (1_u64 << 30) as f64;
    const NOW: i64 = 100 * DAY;

    /// Samples at these ages, in seconds, of what is in use then.
    fn seen(ages: impl DoubleEndedIterator<Item = i64>, used: impl Fn(i64) -> f64) -> Vec<Sample> {
        ages.rev().map(|age| Sample { at: NOW - age, used_bytes: used(age) as u64 }).collect()
    }

    fn days(forecast: Option<Forecast>) -> Option<i64> {
        forecast?.full_in.map(|time| (time.as_secs_f64() / DAY as f64).round() as i64)
    }

    #[test]
    fn a_steady_growth_is_told_in_days() {
        let samples = seen((0..=10).map(|day| day * DAY), |age| 50.0 * GIB - age as f64 / DAY as f64 * GIB);
        let told = forecast(&samples, NOW, 41 << 30).unwrap();
        assert!((told.growth_bytes_per_day / GIB - 1.0).abs() < 0.01, "{told:?}");
        assert_eq!(days(Some(told)), Some(41));
        // Further than ten times what was seen nobody knows.
        assert_eq!(forecast(&samples, NOW, 150 << 30).unwrap().full_in, None);
    }

    #[test]
    fn what_comes_and_goes_is_no_growth() {
        // Each night a dump comes, and an hour later an old one goes.
        let saw = |age: i64| 20.0 * GIB + if age % DAY < HOUR { 5.0 * GIB } else { 0.0 };
        let told = forecast(&seen((0..=240).map(|hour| hour * HOUR), saw), NOW, 10 << 30).unwrap();
        assert!(told.growth_bytes_per_day.abs() < 0.01 * GIB && told.full_in.is_none(), "{told:?}");
        let shrinking = seen((0..=10).map(|day| day * DAY), |age| 20.0 * GIB + age as f64 / DAY as f64 * GIB);
        let told = forecast(&shrinking, NOW, 1 << 30).unwrap();
        assert!(told.growth_bytes_per_day < 0.0 && told.full_in.is_none(), "{told:?}");
    }

    #[test]
    fn a_place_that_runs_full_in_hours_is_told_within_two() {
        let quiet = |age: i64| 20.0 * GIB + if age < 2 * HOUR { (2 * HOUR - age) as f64 / HOUR as f64 * GIB } else { 0.0 };
        let mut samples = seen((1..=14).map(|day| day * DAY), quiet);
        samples.extend(seen((0..=12).map(|step| step * HOUR / 6), quiet));
        let told = forecast(&samples, NOW, 4 << 30).unwrap();
        assert_eq!(told.full_in.map(|time| time.as_secs() / 3_600), Some(4), "{told:?}");
        // It has ended: nobody is woken up.
        let over = |age: i64| 22.0 * GIB - if age > HOUR { (age - HOUR) as f64 / HOUR as f64 * GIB } else { 0.0 };
        let samples = seen((0..=18).map(|step| step * HOUR / 6), over);
        assert_eq!(forecast(&samples, NOW, 4 << 30), None);
    }

    #[test]
    fn too_little_is_no_forecast() {
        let few = |count| seen((0..count).map(|step| step * HOUR / 20), |age| 20.0 * GIB - age as f64);
        assert_eq!(forecast(&[], NOW, 1), None);
        assert_eq!(forecast(&few(5), NOW, 1), None);
        // Half an hour of samples.
        assert_eq!(forecast(&few(11), NOW, 1), None);
        let future: Vec<Sample> = few(100).iter().map(|sample| Sample { at: sample.at + 10 * DAY, ..*sample }).collect();
        assert_eq!(forecast(&future, NOW, 1), None);
    }

    proptest! {
        #[test]
        fn no_samples_cause_a_panic(samples in proptest::collection::vec((any::<i32>(), any::<u64>()), 0..40), free in any::<u64>()) {
            let mut samples: Vec<Sample> =
                samples.into_iter().map(|(at, used_bytes)| Sample { at: i64::from(at), used_bytes }).collect();
            samples.sort_by_key(|sample| sample.at);
            if let Some(told) = forecast(&samples, i64::from(i32::MAX), free) {
                prop_assert!(told.growth_bytes_per_day.is_finite());
            }
        }
    }
}
