//! Booleans as PostgreSQL reads them: `on`, `FALSE`, `y`, `of`, `0`.
//!
//! Source: `parse_bool_with_len` in `bool.c`, PostgreSQL 17. A setting that is an enum, such as `synchronous_commit`, knows the
//! same words in any case, but only whole ones (`config_enum_lookup_by_name` in `guc.c`).

/// What a text means: any unambiguous beginning of `true`, `false`, `yes`, `no`, `on` and `off`, or `1` and `0`, in any case.
/// `None` for all else, such as `local`.
///
/// ```
/// use pgpersist_core::pg::boolean;
///
/// assert_eq!(boolean::parse("OFF"), Some(false));
/// assert_eq!(boolean::parse("o"), None);
/// ```
pub fn parse(text: &str) -> Option<bool> {
    // `o` alone begins two words, so these need two letters.
    const WORDS: [(&str, usize, bool); 8] = [
        ("true", 1, true),
        ("false", 1, false),
        ("yes", 1, true),
        ("no", 1, false),
        ("on", 2, true),
        ("off", 2, false),
        ("1", 1, true),
        ("0", 1, false),
    ];
    let begins = |word: &str| word.get(..text.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(text));
    WORDS.iter().find(|(word, least, _)| text.len() >= *least && begins(word)).map(|(.., value)| *value)
}

/// Whether a text turns a setting off.
pub fn is_off(text: &str) -> bool {
    parse(text) == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unambiguous_beginning_in_any_case_is_understood() {
        for text in ["on", "ON", "t", "True", "TRUE", "y", "yEs", "1"] {
            assert_eq!(parse(text), Some(true), "{text}");
        }
        for text in ["of", "OFF", "off", "f", "FALSE", "fal", "n", "No", "0"] {
            assert_eq!(parse(text), Some(false), "{text}");
        }
    }

    #[test]
    fn what_is_ambiguous_or_longer_is_no_boolean() {
        for text in ["", "o", "O", "offf", "onn", "truely", "10", "00", " off", "off ", "local", "remote_apply", "2", "ö"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,8}") {
            let _ = parse(&text);
        }
    }
}
