//! Sizes, ages and moments as people say them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `12 KB`, `1.4 GB`: in powers of 1024, as PostgreSQL's `pg_size_pretty`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "KB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    // What would round up to 1024 is one of the next unit.
    while size >= if unit == 0 { 1024.0 } else { 1023.5 } && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit > 0 && size < 9.95 { format!("{size:.1} {}", UNITS[unit]) } else { format!("{size:.0} {}", UNITS[unit]) }
}

/// `45 s`, `12 min`, `2 h 5 min`, `3 d 4 h`: the two largest units, cut rather than rounded.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} d"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// `about 41 days`: what is not known any better.
pub fn about(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..7_200 => format!("about {} minutes", seconds / 60),
        7_200..172_800 => format!("about {} hours", seconds / 3_600),
        _ => format!("about {} days", seconds / 86_400),
    }
}

/// `2 h ago`: the largest unit alone.
pub fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// `2026-02-08T02:00:00Z`: to the second.
pub fn moment(moment: OffsetDateTime) -> String {
    let whole = moment.replace_nanosecond(0).unwrap_or(moment);
    whole.format(&Rfc3339).unwrap_or_else(|_| whole.to_string())
}

/// At most so many characters, the cut shown by `…`.
pub fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_read_like_people_say_them() {
        assert_eq!(
            [0, 1023, 12 * 1024, 1_503_238_553, 1_048_575, 10 << 30].map(size),
            ["0 bytes", "1023 bytes", "12 KB", "1.4 GB", "1.0 MB", "10 GB"]
        );
        assert_eq!(size(u64::MAX), "16384 PB");
        assert_eq!(
            [0, 59, 60, 7_500, 273_600, 86_400].map(|s| duration(Duration::from_secs(s))),
            ["0 s", "59 s", "1 min", "2 h 5 min", "3 d 4 h", "1 d"]
        );
        assert_eq!(
            [3, 90, 7_300, 100_000, 400_000].map(|s| ago(Duration::from_secs(s))),
            ["just now", "1 min ago", "2 h ago", "27 h ago", "4 d ago"]
        );
        assert_eq!(
            [90, 7_199, 90_000, 3_600_000].map(|s| about(Duration::from_secs(s))),
            ["about 1 minutes", "about 119 minutes", "about 25 hours", "about 41 days"]
        );
    }

    #[test]
    fn a_moment_has_no_fraction() {
        assert_eq!(moment(time::macros::datetime!(2026-02-08 02:00:00.999 +5:30)), "2026-02-08T02:00:00+05:30");
    }

    #[test]
    fn a_cut_is_shown() {
        assert_eq!((shortened("₹₹₹", 3).as_str(), shortened("₹₹₹₹", 3).as_str()), ("₹₹₹", "₹₹…"));
    }
}
