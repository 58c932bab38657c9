//! Positions in the write-ahead log: `16/B374D848`.
//!
//! Sources: *Data Types: pg_lsn Type*, PostgreSQL 17, and `pg_lsn.c` for what a text may look like.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A log sequence number: a byte position in a cluster's write-ahead log, from the beginning of its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// What PostgreSQL writes where there is no position (`InvalidXLogRecPtr`, `0/0`).
    pub const INVALID: Self = Self(0);

    /// Whether this names a position at all.
    pub fn is_valid(self) -> bool {
        self != Self::INVALID
    }

    /// The bytes of log between two positions, whichever comes first.
    pub fn distance(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is no position in the write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no LSN such as 16/B374D848")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    /// Reads one to eight hexadecimal digits, a slash, and again one to eight, in either case: as PostgreSQL does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| {
            let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| ParseLsnError(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_prints_as_postgresql_does() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn, Lsn(0x16_B374_D848));
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!("0/0".parse(), Ok(Lsn::INVALID));
        // The form of newer tools, with leading zeros, and in lower case.
        assert_eq!("16/00000a28".parse(), Ok(Lsn(0x16_0000_0A28)));
        assert_eq!(serde_json::to_string(&lsn).unwrap(), "\"16/B374D848\"");
        for wrong in ["", "/", "16", "16/", "/16", "16/B374D848/1", "+1/2", "1/ 2", "123456789/0", "x/0", "0/é"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn survives_a_round_trip(position: u64) {
            prop_assert_eq!(Lsn(position).to_string().parse(), Ok(Lsn(position)));
        }

        #[test]
        fn orders_and_measures_like_its_number(a: u64, b: u64) {
            prop_assert_eq!(Lsn(a).cmp(&Lsn(b)), a.cmp(&b));
            prop_assert_eq!(Lsn(a).distance(Lsn(b)), Lsn(b).distance(Lsn(a)));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = text.parse::<Lsn>();
        }
    }
}
