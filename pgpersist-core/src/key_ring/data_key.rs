//! [`DataKeyName`]: how a data key is called in a store: when it was made, and its public half.

use std::fmt;

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

use crate::encryption::recipient::Recipient;

const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// The name of a data key, which is the name of the folder of its slots. Names order by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataKeyName {
    made_at: OffsetDateTime,
    public: Recipient,
}

impl DataKeyName {
    /// The name of a key that is made now.
    pub fn new(made_at: OffsetDateTime, public: Recipient) -> Self {
        let second = OffsetDateTime::from_unix_timestamp(made_at.unix_timestamp().max(0)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self { made_at: second.to_offset(UtcOffset::UTC), public }
    }

    /// Reads a name, and only exactly what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, public) = text.split_once('_')?;
        let made_at = PrimitiveDateTime::parse(time, TIME).ok()?.assume_utc();
        let name = Self::new(made_at, public.parse().ok()?);
        (name.to_string() == text).then_some(name)
    }

    /// When it was made, by the clock of whoever made it.
    pub fn made_at(&self) -> OffsetDateTime {
        self.made_at
    }

    /// Its public half.
    pub fn public(&self) -> Recipient {
        self.public
    }
}

impl fmt::Display for DataKeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.made_at.format(TIME).map_err(|_| fmt::Error)?, self.public)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const PUBLIC: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

    #[test]
    fn a_name_tells_time_and_key_and_nothing_else_is_one() {
        let name = DataKeyName::new(datetime!(2026-02-08 09:33:16.5 UTC), PUBLIC.parse().unwrap());
        assert_eq!(name.to_string(), format!("20260208T093316Z_{PUBLIC}"));
        assert_eq!(DataKeyName::parse(&name.to_string()), Some(name));
        let later = DataKeyName::new(datetime!(2026-02-08 09:33:17 UTC), PUBLIC.parse().unwrap());
        assert!(name < later);
        for wrong in
            ["", "proofs", PUBLIC, &format!("20260208T093316_{PUBLIC}"), &format!("20260230T093316Z_{PUBLIC}"), "20260208T093316Z_age1"]
        {
            assert_eq!(DataKeyName::parse(wrong), None, "{wrong}");
        }
    }
}
