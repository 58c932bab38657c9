//! Names of dumps: `backup_YYYYMMDD_HHMMSS.sql.gz` and `globals_YYYYMMDD_HHMMSS.sql.gz`, with `.age` behind them where they are
//! encrypted, their side files, the folder of a database, and which name comes next.
//!
//! Only what has exactly such a name is ever taken for a dump, or removed as one. Times are UTC.

use std::collections::BTreeSet;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use crate::error::Result;
use crate::store::ObjectKey;

const SUFFIX: &str = ".sql.gz";
/// What the name of an encrypted dump ends with, as age's own files do.
pub const ENCRYPTED_SUFFIX: &str = ".age";
/// What the name of a side file adds to the name of its dump.
pub const SIDE_FILE_SUFFIX: &str = ".json";

/// The name of an object without what says that it is encrypted: one store may be encrypted where another is not, and what is
/// the same dump has this in common.
pub fn plain(name: &ObjectKey) -> &str {
    let name = name.as_str();
    name.strip_suffix(ENCRYPTED_SUFFIX).unwrap_or(name)
}

/// The name of the same object where it is encrypted.
///
/// # Errors
/// `Invalid` when that is too long for a key.
pub fn sealed(name: &ObjectKey) -> Result<ObjectKey> {
    format!("{}{ENCRYPTED_SUFFIX}", plain(name)).parse()
}

/// What a dump holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DumpKind {
    /// One database: `backup_…`.
    Database,
    /// Roles and what else belongs to the whole cluster: `globals_…`.
    Globals,
}

impl DumpKind {
    /// How names of this kind begin.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Database => "backup_",
            Self::Globals => "globals_",
        }
    }
}

/// The file name of a dump. Names order by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DumpName {
    // In UTC and without a fraction, so that equal names are equal values.
    time: OffsetDateTime,
    kind: DumpKind,
    is_encrypted: bool,
}

impl DumpName {
    /// The name of a dump of this second. A clock before 1970 is taken for 1970: names have four digits for the year.
    pub fn new(kind: DumpKind, time: OffsetDateTime) -> Self {
        Self { time: whole_second(time), kind, is_encrypted: false }
    }

    /// The same for a dump that is encrypted, or is not.
    #[must_use]
    pub fn encrypted(self, is_encrypted: bool) -> Self {
        Self { is_encrypted, ..self }
    }

    /// Whether it says that the dump is encrypted.
    pub fn is_encrypted(self) -> bool {
        self.is_encrypted
    }

    /// Reads a name, and only exactly what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, is_encrypted) = text.strip_suffix(ENCRYPTED_SUFFIX).map_or((text, false), |plain| (plain, true));
        let kind = [DumpKind::Database, DumpKind::Globals].into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let digits = text.strip_prefix(kind.prefix())?.strip_suffix(SUFFIX)?;
        let bytes = digits.as_bytes();
        let well_formed = bytes.len() == 15
            && bytes.iter().enumerate().all(|(place, byte)| if place == 8 { *byte == b'_' } else { byte.is_ascii_digit() });
        if !well_formed {
            return None;
        }
        let small = |from: usize| digits.get(from..from + 2)?.parse::<u8>().ok();
        let month = Month::try_from(small(4)?).ok()?;
        let date = Date::from_calendar_date(digits.get(..4)?.parse().ok()?, month, small(6)?).ok()?;
        let time = Time::from_hms(small(9)?, small(11)?, small(13)?).ok()?;
        Some(Self { time: PrimitiveDateTime::new(date, time).assume_utc(), kind, is_encrypted })
    }

    /// Reads the name of a side file and returns the name of its dump.
    pub fn parse_side_file(text: &str) -> Option<Self> {
        Self::parse(text.strip_suffix(SIDE_FILE_SUFFIX)?)
    }

    /// The moment in the name, in UTC.
    pub fn time(self) -> OffsetDateTime {
        self.time
    }

    /// What the dump holds.
    pub fn kind(self) -> DumpKind {
        self.kind
    }
}

impl fmt::Display for DumpName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.time.date(), self.time.time());
        write!(
            formatter,
            "{}{:04}{:02}{:02}_{:02}{:02}{:02}{SUFFIX}{}",
            self.kind.prefix(),
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second(),
            if self.is_encrypted { ENCRYPTED_SUFFIX } else { "" }
        )
    }
}

fn whole_second(time: OffsetDateTime) -> OffsetDateTime {
    let time = time.checked_to_offset(UtcOffset::UTC).unwrap_or(time).max(OffsetDateTime::UNIX_EPOCH);
    OffsetDateTime::from_unix_timestamp(time.unix_timestamp()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// How far ahead of the clock a name may be and still be believed.
const BELIEVED_AHEAD: Duration = Duration::DAY;

/// Whether a moment is so far ahead of the clock that one of the two is wrong.
pub fn is_ahead(time: OffsetDateTime, now: OffsetDateTime) -> bool {
    time > now.saturating_add(BELIEVED_AHEAD)
}

/// The moment for the name of the next dump of a database, from those of its dumps so far: the first free second that is
/// later than all of them, so that names stay in order when the clock is set back.
///
/// A name more than a day ahead of the clock is not followed, lest one wrong clock decide all later names; it comes with a
/// warning.
pub fn next_free(now: OffsetDateTime, taken: impl IntoIterator<Item = OffsetDateTime>) -> (OffsetDateTime, Option<String>) {
    let (ahead, followed): (BTreeSet<_>, BTreeSet<_>) = taken.into_iter().partition(|&time| is_ahead(time, now));
    let mut free = whole_second(now);
    if let Some(&newest) = followed.last() {
        free = free.max(newest.saturating_add(Duration::SECOND));
    }
    while ahead.contains(&free) {
        free = free.saturating_add(Duration::SECOND);
    }
    let warning = ahead.last().map(|newest| {
        format!(
            "the dump {} is dated more than a day ahead of the clock: one of the two is wrong",
            DumpName::new(DumpKind::Database, *newest)
        )
    });
    (free, warning)
}

/// What a folder name keeps as it is; all else is percent-encoded, dots too: so no folder is `..` or hidden, or looks like a file of ours.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// The folder of a database in a store: its name, percent-encoded.
pub fn folder_of(database: &str) -> String {
    let encoded = utf8_percent_encode(database, ENCODED).to_string();
    // A name on a command line must not look like an option.
    match encoded.strip_prefix('-') {
        Some(rest) => format!("%2D{rest}"),
        None => encoded,
    }
}

/// The database whose folder has this name; `None` where it is no folder of ours.
pub fn database_of(folder: &str) -> Option<String> {
    let database = percent_decode_str(folder).decode_utf8().ok()?.into_owned();
    (!database.is_empty() && folder_of(&database) == folder).then_some(database)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-02-08 09:33:16.5 UTC);

    #[test]
    fn a_name_tells_kind_and_second() {
        let name = DumpName::new(DumpKind::Database, NOW);
        assert_eq!(name.to_string(), "backup_20260208_093316.sql.gz");
        assert_eq!(DumpName::parse("backup_20260208_093316.sql.gz"), Some(name));
        assert_eq!(DumpName::parse_side_file("backup_20260208_093316.sql.gz.json"), Some(name));
        let globals = DumpName::parse("globals_20260208_093316.sql.gz").unwrap();
        assert_eq!((globals.kind(), globals.time()), (DumpKind::Globals, datetime!(2026-02-08 09:33:16 UTC)));
        let sealed = DumpName::parse("backup_20260208_093316.sql.gz.age").unwrap();
        assert_eq!((sealed, sealed.is_encrypted(), name.is_encrypted()), (name.encrypted(true), true, false));
        assert_eq!(DumpName::parse_side_file("backup_20260208_093316.sql.gz.age.json"), Some(sealed));
        let india = datetime!(2026-02-08 15:03:16 +05:30);
        assert_eq!(DumpName::new(DumpKind::Database, india), name);
        assert_eq!(DumpName::new(DumpKind::Database, datetime!(-0100-01-01 0:00 UTC)).to_string(), "backup_19700101_000000.sql.gz");
    }

    #[test]
    fn only_the_exact_name_is_a_dump() {
        for text in [
            "backup_20260208_093316.sql",
            "backup_20260208_093316.sql.gz.json",
            "backup_20260208_093316.sql.gz ",
            "backup_20260208_093316.sql.age",
            "backup_20260208_093316.sql.gz.age.age",
            "backup_20260208_093316.sql.gz.AGE",
            "Backup_20260208_093316.sql.gz",
            "my_backup_20260208_093316.sql.gz",
            "backup_2026020_0093316.sql.gz",
            "backup_20260208-093316.sql.gz",
            "backup_20260230_093316.sql.gz",
            "backup_20260208_243316.sql.gz",
            "backup_20260208_093360.sql.gz",
            "backup_+0260208_093316.sql.gz",
            "backup_２0260208_093.sql.gz",
            "backup_.sql.gz",
            "",
        ] {
            assert_eq!(DumpName::parse(text), None, "{text}");
        }
        assert_eq!(DumpName::parse_side_file("backup_20260208_093316.sql.gz"), None);
    }

    #[test]
    fn the_next_name_is_later_than_all_before() {
        let second = datetime!(2026-02-08 09:33:16 UTC);
        assert_eq!(next_free(NOW, None), (second, None));
        assert_eq!(next_free(NOW, Some(second)), (second + Duration::SECOND, None));
        let clock_went_back = second + Duration::hours(3);
        assert_eq!(next_free(NOW, [second, clock_went_back]), (clock_went_back + Duration::SECOND, None));
    }

    #[test]
    fn a_name_far_ahead_is_not_followed() {
        let wrong = NOW + Duration::days(400);
        let (free, warning) = next_free(NOW, [wrong, NOW - Duration::DAY]);
        assert_eq!(free, datetime!(2026-02-08 09:33:16 UTC));
        assert!(warning.unwrap().contains("backup_20270315_"));
    }

    #[test]
    fn folders_are_plain_names() {
        for (database, folder) in [
            ("customerInvoice", "customerInvoice"),
            ("a b", "a%20b"),
            ("..", "%2E%2E"),
            (".pgpersist", "%2Epgpersist"),
            ("a/b", "a%2Fb"),
            ("-x", "%2Dx"),
            ("a-x_1", "a-x_1"),
            ("Zürich", "Z%C3%BCrich"),
            ("postgres://h/d", "postgres%3A%2F%2Fh%2Fd"),
        ] {
            assert_eq!(folder_of(database), folder);
            assert_eq!(database_of(folder).as_deref(), Some(database));
        }
        for foreign in ["", ".pgpersist", "a b", "%41", "%2e", "%", "a.b", "%FF", "-x"] {
            assert_eq!(database_of(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn every_database_name_has_a_folder_of_its_own(database in "\\PC{1,63}|[\u{1}-\u{ff}]{1,30}") {
            let folder = folder_of(&database);
            prop_assert_eq!(database_of(&folder), Some(database));
            prop_assert!(folder.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-%".contains(&byte)));
            prop_assert!(DumpName::parse(&folder).is_none());
        }

        #[test]
        fn names_round_trip_and_order_like_their_text(left in 0_i64..253_402_300_800, right in 0_i64..253_402_300_800) {
            let name = |seconds| DumpName::new(DumpKind::Database, OffsetDateTime::from_unix_timestamp(seconds).unwrap());
            let (left, right) = (name(left), name(right));
            prop_assert_eq!(DumpName::parse(&left.to_string()), Some(left));
            prop_assert_eq!(left.cmp(&right), left.to_string().cmp(&right.to_string()));
        }

        #[test]
        fn no_text_is_taken_for_a_name_but_a_name(text in "(backup|globals)_[0-9]{8}_[0-9]{6}\\.sql\\.gz(\\.age)?|.{0,40}") {
            if let Some(name) = DumpName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn the_next_name_is_free(now in any::<i32>(), taken in prop::collection::vec(-200_000_i64..200_000, 0..20)) {
            let now = OffsetDateTime::from_unix_timestamp(i64::from(now).abs()).unwrap();
            let taken: Vec<_> = taken.iter().map(|step| whole_second(now + Duration::seconds(*step))).collect();
            let (free, warning) = next_free(now, taken.iter().copied());
            prop_assert!(!taken.contains(&free));
            prop_assert!(taken.iter().all(|&time| time < free || is_ahead(time, now)));
            prop_assert_eq!(warning.is_some(), taken.iter().any(|&time| is_ahead(time, now)));
        }
    }
}
