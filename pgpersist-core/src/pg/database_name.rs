//! What can be the name of a database or a role; see *Identifiers and Key Words*, PostgreSQL 17.

/// `NAMEDATALEN - 1`: the server cuts a longer name off without a word, and then works on another database than the one that
/// was named.
pub const LONGEST: usize = 63;

/// Why a text is no name of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseNameError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// NUL ends a text in PostgreSQL's protocol.
    #[error("it holds a NUL")]
    Nul,
    /// It would be cut off.
    #[error("it is longer than PostgreSQL's {LONGEST} bytes")]
    TooLong,
}

/// Whether this can be the name of a database. Every other text can.
///
/// # Errors
/// [`DatabaseNameError`].
pub fn check(name: &str) -> Result<(), DatabaseNameError> {
    if name.is_empty() {
        Err(DatabaseNameError::Empty)
    } else if name.contains('\0') {
        Err(DatabaseNameError::Nul)
    } else if name.len() > LONGEST {
        Err(DatabaseNameError::TooLong)
    } else {
        Ok(())
    }
}

/// `name` with `suffix`, which is shorter than [`LONGEST`], cut so that both fit into one name.
pub fn with_suffix(name: &str, suffix: &str) -> String {
    let mut length = name.len().min(LONGEST.saturating_sub(suffix.len()));
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    format!("{}{suffix}", &name[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_whole_characters() {
        assert_eq!(with_suffix("shop", "_load_0123abcd"), "shop_load_0123abcd");
        let long = with_suffix(&"ü".repeat(31), "_load_0123abcd");
        assert!(long.len() <= LONGEST && long.ends_with("ü_load_0123abcd"), "{long}");
    }

    #[test]
    fn bytes_count_and_not_letters() {
        assert_eq!(check(&"n".repeat(63)), Ok(()));
        assert_eq!(check("-dash; \n"), Ok(()));
        assert_eq!(check(&"n".repeat(64)), Err(DatabaseNameError::TooLong));
        assert_eq!(check(&"ü".repeat(32)), Err(DatabaseNameError::TooLong));
        assert_eq!((check(""), check("a\0b")), (Err(DatabaseNameError::Empty), Err(DatabaseNameError::Nul)));
    }
}
