//! Quoting, in one place: identifiers, literals, conninfo values, `postgresql.conf` values.
//!
//! Sources: *Lexical Structure* (identifiers, literals), *libpq: Connection Strings* and *Setting Parameters*, PostgreSQL 17.

/// An SQL identifier in double quotes: `customerInvoice` → `"customerInvoice"`.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal that means the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// One `key='value'` of a libpq connection string. Safe for values that look like options or URLs.
pub fn conninfo(key: &str, value: &str) -> String {
    format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A value for `postgresql.conf` or `postgres -c name=`'s file form, in single quotes; `None` where the value cannot be
/// written there at all (a line break or NUL).
pub fn setting(value: &str) -> Option<String> {
    (!value.contains(['\n', '\r', '\0'])).then(|| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_survive() {
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b'"), r"E'a\\b'''");
        assert_eq!(conninfo("dbname", r"a'b\c"), r"dbname='a\'b\\c'");
        assert_eq!(setting(r"C:\x 'y'").as_deref(), Some(r"'C:\\x ''y'''"));
        assert_eq!(setting("two\nlines"), None);
    }
}
