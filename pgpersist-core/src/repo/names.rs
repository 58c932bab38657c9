//! What things in a repository are called: runs, packs, items in packs; and the keys of all its objects.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// How many bytes a run takes in a leaf.
pub(super) const RUN_BYTES: usize = 12;

/// One writer's work: `20260208T093316Z-9f8e7d6c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunName {
    /// Seconds since 1970, from 0 to the end of the year 9999.
    seconds: u64,
    random: [u8; 4],
}

/// The first second that no name can tell any more.
const END_OF_TIME: i64 = 253_402_300_800;

impl RunName {
    /// The name of a run that begins at this time.
    pub fn new(began_at: OffsetDateTime, random: [u8; 4]) -> Self {
        Self { seconds: began_at.unix_timestamp().clamp(0, END_OF_TIME - 1).unsigned_abs(), random }
    }

    /// When it began, by its own clock: good for showing, not for telling what is newer.
    pub fn began_at(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.seconds.cast_signed()).expect("a name holds only times up to the year 9999")
    }

    pub(super) fn to_bytes(self) -> [u8; RUN_BYTES] {
        let mut bytes = [0; RUN_BYTES];
        bytes[..8].copy_from_slice(&self.seconds.to_le_bytes());
        bytes[8..].copy_from_slice(&self.random);
        bytes
    }

    /// `None` for a time beyond the year 9999.
    pub(super) fn from_bytes(bytes: [u8; RUN_BYTES]) -> Option<Self> {
        let (seconds, random) = bytes.split_first_chunk()?;
        let seconds = u64::from_le_bytes(*seconds);
        (seconds < END_OF_TIME.unsigned_abs()).then_some(Self { seconds, random: random.try_into().ok()? })
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.began_at().format(TIME).map_err(|_| fmt::Error)?;
        write!(formatter, "{time}-{:08x}", u32::from_be_bytes(self.random))
    }
}

/// The text is no name of a thing in a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of that kind")]
pub struct ParseNameError(String);

impl FromStr for RunName {
    type Err = ParseNameError;

    /// Reads only exactly what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('-').and_then(|(time, random)| {
            let began_at = PrimitiveDateTime::parse(time, TIME).ok()?.assume_utc();
            Some(Self::new(began_at, u32::from_str_radix(random, 16).ok()?.to_be_bytes()))
        });
        parsed.filter(|name| name.to_string() == text).ok_or_else(|| ParseNameError(text.chars().take(80).collect()))
    }
}

impl Serialize for RunName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A pack: whose it is, and its number among the packs of that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackName {
    /// The run that wrote it.
    pub run: RunName,
    /// From 0.
    pub number: u32,
}

/// As in manifests: `20260208T093316Z-9f8e7d6c/000017`.
impl fmt::Display for PackName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{:06}", self.run, self.number)
    }
}

impl FromStr for PackName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(run, number)| Some(Self { run: run.parse().ok()?, number: number.parse().ok()? }));
        parsed.filter(|name| name.to_string() == text).ok_or_else(|| ParseNameError(text.chars().take(80).collect()))
    }
}

impl Serialize for PackName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PackName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where an item lies: as `[run, number, item]` in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The pack.
    pub pack: PackName,
    /// Which of its items, from 0.
    pub item: u32,
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.pack.run, self.pack.number, self.item).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (run, number, item) = Deserialize::deserialize(deserializer)?;
        Ok(Self { pack: PackName { run, number }, item })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn names_tell_when_and_which() {
        let run = RunName::new(datetime!(2026-02-08 09:33:16.9 UTC), [0x0f, 0x8e, 0x7d, 0x6c]);
        assert_eq!(run.to_string(), "20260208T093316Z-0f8e7d6c");
        let pack = PackName { run, number: 17 };
        assert_eq!(pack.to_string(), "20260208T093316Z-0f8e7d6c/000017");
        let place = Place { pack, item: 4711 };
        let json = serde_json::to_string(&place).unwrap();
        assert_eq!(json, r#"["20260208T093316Z-0f8e7d6c",17,4711]"#);
        assert_eq!(serde_json::from_str::<Place>(&json).unwrap(), place);
        for wrong in ["", "20260208T093316Z", "20260208T093316Z-0F8E7D6C", "20260208T093316Z-f8e7d6c", "20260230T093316Z-0f8e7d6c", "../x"]
        {
            assert!(wrong.parse::<RunName>().is_err(), "{wrong}");
            assert!(format!("{wrong}/000001").parse::<PackName>().is_err(), "{wrong}");
        }
        for wrong in ["17", "0000017", "+00017", "00017", "1000000000000"] {
            assert!(format!("{run}/{wrong}").parse::<PackName>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn names_survive_a_round_trip(seconds in 0..END_OF_TIME, random: [u8; 4], number: u32) {
            let run = RunName::new(OffsetDateTime::from_unix_timestamp(seconds).unwrap(), random);
            prop_assert_eq!(run.to_string().parse(), Ok(run));
            prop_assert_eq!(RunName::from_bytes(run.to_bytes()), Some(run));
            let pack = PackName { run, number };
            prop_assert_eq!(pack.to_string().parse(), Ok(pack));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = (text.parse::<RunName>(), text.parse::<PackName>());
        }
    }
}
