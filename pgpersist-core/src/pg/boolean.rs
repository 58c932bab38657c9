//! How PostgreSQL reads a setting that is on or off; see `parse_bool_with_len` in `bool.c`.

/// What a text means as a boolean setting: `on`, `true`, `yes`, `1`, `off`, `false`, `no`, `0` in any case, or any
/// beginning of such a word that is no beginning of its opposite. `None` for everything else, also for other words of an
/// enumeration such as `synchronous_commit = local`.
pub fn parse(text: &str) -> Option<bool> {
    let word = text.trim().to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    if word == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2) {
        Some(true)
    } else if word == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
        Some(false)
    } else {
        None
    }
}

/// Whether a text turns a setting off.
pub fn is_off(text: &str) -> bool {
    parse(text) == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_the_server_takes_is_understood() {
        for off in ["off", "of", "OFF", "false", "f", "Fal", "no", "n", "0", " off "] {
            assert_eq!(parse(off), Some(false), "{off}");
        }
        for on in ["on", "ON", "true", "t", "yes", "y", "1"] {
            assert_eq!(parse(on), Some(true), "{on}");
        }
        for neither in ["", "o", "offf", "local", "remote_apply", "2", "01"] {
            assert_eq!(parse(neither), None, "{neither}");
        }
    }
}
