//! Durations and sizes as people write them: `26h`, `7d`, `10GB`.

use std::time::Duration;

/// Why a text is no duration or size, as a clause that says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {expected}")]
pub struct QuantityError {
    text: String,
    expected: &'static str,
}

const DURATION: &str = "duration such as `90s`, `15m`, `26h` or `7d`";
const SIZE: &str = "size such as `500MB`, `10GB` or a number of bytes";

/// Reads a whole number with a unit: `ms`, `s`, `m` or `min`, `h`, `d`, `w`. A unit must be there, since a bare number
/// means seconds to some and days to others.
///
/// # Errors
/// [`QuantityError`], also for what exceeds the range of seconds in 64 bits.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let wrong = || QuantityError { text: text.to_owned(), expected: DURATION };
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let seconds_a_unit: u64 = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds_a_unit).map(Duration::from_secs).ok_or_else(wrong)
}

/// Reads a size in bytes: a whole number, bare or with `kB`, `MB`, `GB`, `TB`, which are powers of 1024 as in PostgreSQL.
///
/// # Errors
/// [`QuantityError`], also for what exceeds 64 bits.
pub fn size_bytes(text: &str) -> Result<u64, QuantityError> {
    let wrong = || QuantityError { text: text.to_owned(), expected: SIZE };
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kb" | "kib" => 10,
        "mb" | "mib" => 20,
        "gb" | "gib" => 30,
        "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_mean_what_people_mean() {
        assert_eq!(duration("26h").unwrap(), Duration::from_secs(26 * 3600));
        assert_eq!(duration("7d").unwrap(), Duration::from_secs(7 * 86_400));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(size_bytes("10GB").unwrap(), 10 << 30);
        assert_eq!(size_bytes("4096").unwrap(), 4096);
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for text in ["", "7", "h", "-1h", "1.5h", "7 days", "99999999999999999999d", "18446744073709551615w"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "GB", "-1", "1.5GB", "3 apples", "99999999999999TB"] {
            assert!(size_bytes(text).is_err(), "{text}");
        }
        assert_eq!(duration("7").unwrap_err().to_string(), "`7` is no duration such as `90s`, `15m`, `26h` or `7d`");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = duration(&text);
            let _ = size_bytes(&text);
        }
    }
}
