//! Chance that a seed repeats, on every machine and in every version of pgpersist.

/// SplitMix64 (Steele, Lea, Flood 2014). Written out, since a library may change its generator and a seed in an old report
/// must still mean the same drill.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as this seed says; `purpose` keeps the moments of kills and the amounts of writers apart.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = Self(seed);
        let start = dice.next();
        Self(start ^ purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A whole number from 0 to `bound - 1`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The product's upper half is uniform to one part in 2^64 / bound.
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// A fraction from 0 up to, and without, 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut dice = Dice(1_234_567);
        assert_eq!([dice.next(), dice.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        let (mut one, mut other) = (Dice::new(7, 1), Dice::new(7, 2));
        assert_ne!(one.next(), other.next());
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut dice = Dice::new(1, 0);
        assert!((0..1000).all(|_| dice.below(3) < 3 && (0.0..1.0).contains(&dice.fraction())));
        assert_eq!(dice.below(0), 0);
    }
}
