//! Quoting, in one place: identifiers, literals, conninfo values, `postgresql.conf` values, words of a shell.
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

/// One word of a command line for people to copy, as POSIX shells read it; with control characters, as bash does.
pub fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,".contains(c) || c == '-';
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else if word.contains(char::is_control) {
        let escaped = word.chars().map(|c| match c {
            '\\' | '\'' => format!("\\{c}"),
            '\n' => "\\n".to_owned(),
            c if c.is_ascii_control() => format!("\\{:03o}", u32::from(c)),
            c => c.to_string(),
        });
        format!("$'{}'", escaped.collect::<String>())
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
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

    #[test]
    fn a_shell_reads_the_word_that_was_meant() {
        for word in ["shop", "-dash", "", "it's \"quoted\" $(id) `id` \\", "two\nlines\u{1b}[2J 'a'", "caf\u{e9} %41", "* ? ~ # !"] {
            let script = format!("printf %s {}", shell(word));
            let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word, "{script}");
        }
        assert_eq!(shell("customerInvoice"), "customerInvoice");
    }
}
