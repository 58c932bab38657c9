//! Chance with a seed that is printed, so that a run that failed can be had again.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// A source of moments and choices.
#[derive(Debug)]
pub(crate) struct Moments {
    seed: u64,
    state: u64,
}

impl Moments {
    /// Begins with `PGPERSIST_TEST_SEED`, or with a seed of its own, and prints it.
    pub(crate) fn new(what: &str) -> Self {
        let seed = match number("PGPERSIST_TEST_SEED") {
            Some(seed) => seed,
            // The standard library seeds its hashers from the system's randomness.
            None => std::hash::RandomState::new().build_hasher().finish() >> 16,
        };
        println!("{what}: PGPERSIST_TEST_SEED={seed}");
        Self { seed, state: seed }
    }

    /// What it began with.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// SplitMix64 by Steele, Lea and Flood.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A moment, uniformly between now and `length` from now.
    pub(crate) fn within(&mut self, length: Duration) -> Duration {
        // 53 bits are what a float holds exactly.
        length.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// How many rounds to go: `PGPERSIST_TEST_ROUNDS`, or what an everyday run can afford.
pub(crate) fn rounds(everyday: usize) -> usize {
    number("PGPERSIST_TEST_ROUNDS").map_or(everyday, |rounds| usize::try_from(rounds).unwrap())
}

/// The number in an environment variable.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable} is `{text}`: {e}")))
}

#[test]
fn a_seed_gives_the_same_moments_again_and_they_are_spread() {
    let draw = || {
        let mut moments = Moments { seed: 7, state: 7 };
        (0..1_000).map(|_| moments.within(Duration::from_secs(10)).as_secs()).collect::<Vec<_>>()
    };
    let drawn = draw();
    assert_eq!(drawn, draw());
    for second in 0..10 {
        assert!(drawn.iter().filter(|moment| **moment == second).count() > 60, "second {second}: {drawn:?}");
    }
}
