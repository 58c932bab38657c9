//! Which boot of the machine this is: what was running in another boot is not running now.
//!
//! All containers of a machine see the same boot.

use std::path::Path;

use crate::error::{Error, Result};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const STAT: &str = "/proc/stat";

/// The random number that the kernel drew when it booted, such as `3c1a…-…`.
///
/// # Errors
/// [`Error::File`] where `/proc` is not mounted.
pub fn boot_id() -> Result<String> {
    Ok(read(BOOT_ID)?.trim().to_owned())
}

/// When the machine booted, in seconds since 1970. It moves a little when the clock is set.
///
/// # Errors
/// [`Error::File`] where `/proc` is not mounted.
pub fn boot_time() -> Result<i64> {
    parse_boot_time(&read(STAT)?).ok_or_else(|| Error::damaged(format!("{STAT} has no boot time (`btime`)"), ""))
}

fn parse_boot_time(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::file("read", Path::new(path), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_a_number_and_a_time() {
        let id = boot_id().unwrap();
        assert_eq!((id.len(), &id), (36, &boot_id().unwrap()));
        assert!(boot_time().unwrap() > 1_000_000_000);
        assert_eq!(parse_boot_time("cpu 1 2\nbtime 1768384800\nprocesses 1\n"), Some(1_768_384_800));
        assert_eq!(parse_boot_time("btime soon\n"), None);
    }
}
