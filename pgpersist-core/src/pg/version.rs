//! Versions of PostgreSQL: `15.18` is major 15, minor 18.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The oldest major version that pgpersist supports.
pub const OLDEST_MAJOR: u32 = 14;
/// The newest major version that pgpersist supports.
pub const NEWEST_MAJOR: u32 = 18;

/// The version of a server or of a program, as `SHOW server_version` and `postgres --version` tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// The major version: what `PG_VERSION` holds.
    pub major: u32,
    /// The minor version: bug fixes, same files.
    pub minor: u32,
}

impl ServerVersion {
    /// From `server_version_num`, such as 150018.
    pub fn from_number(number: u32) -> Self {
        Self { major: number / 10_000, minor: number % 10_000 }
    }

    /// Whether pgpersist supports this major version.
    pub fn is_supported(self) -> bool {
        (OLDEST_MAJOR..=NEWEST_MAJOR).contains(&self.major)
    }

    /// Whether psql of this version knows `\restrict` (in all minors of August 2025 and later), which `load` leans on.
    pub fn psql_knows_restrict(self) -> bool {
        match self.major {
            13 => self.minor >= 22,
            14 => self.minor >= 19,
            15 => self.minor >= 14,
            16 => self.minor >= 10,
            17 => self.minor >= 6,
            major => major >= 18,
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for ServerVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The text is no PostgreSQL version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no PostgreSQL version")]
pub struct ParseVersionError(String);

impl FromStr for ServerVersion {
    type Err = ParseVersionError;

    /// Reads the first version in texts such as `15.18`, `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `18devel`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseVersionError(text.chars().take(80).collect());
        let word = text
            .split(|c: char| c.is_whitespace() || c == ',')
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .ok_or_else(wrong)?;
        let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
        let mut parts = word.split('.');
        let major = digits(parts.next().unwrap_or_default()).parse().map_err(|_| wrong())?;
        let minor = parts.next().map(digits).filter(|d| !d.is_empty()).map_or(Ok(0), |d| d.parse().map_err(|_| wrong()))?;
        Ok(Self { major, minor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_programs_print() {
        for (text, major, minor) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15, 18),
            ("PostgreSQL 17.10", 17, 10),
            ("18devel", 18, 0),
            ("14", 14, 0),
        ] {
            assert_eq!(text.parse::<ServerVersion>().unwrap(), ServerVersion { major, minor }, "{text}");
        }
        assert!("garbage".parse::<ServerVersion>().is_err());
        assert!("".parse::<ServerVersion>().is_err());
        assert_eq!(ServerVersion::from_number(150_018).to_string(), "15.18");
    }
}
