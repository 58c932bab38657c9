//! Text from outside, made safe for where it stands. Names of databases, reasons and messages may hold anything.

/// What would move a cursor, break a line or turn text around is shown as an escape instead.
pub(super) fn visible(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        let harmful =
            character.is_control() || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if harmful { plain.extend(character.escape_default()) } else { plain.push(character) }
    }
    plain
}

/// For HTML and XML, as text and in attributes in double quotes.
pub(super) fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    for character in visible(text).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// For Markdown, in a paragraph, an item or a table's cell.
pub(super) fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    for character in visible(text).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // A backslash does not keep GitHub from writing to whoever is called so.
            '@' => safe.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '!' => {
                safe.push('\\');
                safe.push(character);
            }
            other => safe.push(other),
        }
    }
    safe
}

/// A name or a command in Markdown, as code. A bar is escaped also there, since it would end the cell of a table.
pub(super) fn markdown_code(text: &str) -> String {
    let text = visible(text).replace('|', "\\|");
    if text.is_empty() {
        return String::new();
    }
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let padding = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{padding}{text}{padding}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_is_text_and_what_cannot_be_seen_is_shown() {
        assert_eq!(html("<script>alert(\"1\")</script>&'"), "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;");
        assert_eq!(html("a\u{202e}b\nc\0"), "a\\u{202e}b\\nc\\u{0}");
        assert_eq!(markdown("<b>|x| *y* `z` @all [l](u)\n# h"), "&lt;b&gt;\\|x\\| \\*y\\* \\`z\\` &#64;all \\[l\\](u)\\\\n\\# h");
        assert_eq!(markdown_code("a|b"), "`a\\|b`");
        assert_eq!(markdown_code("a``b`"), "``` a``b` ```");
        assert_eq!(markdown("₹ customerInvoice"), "₹ customerInvoice");
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_place(text in "\\PC{0,40}|[<>&\"'|`\\\\\\n\\r\u{0}-\u{20}a]{0,40}") {
            let html = html(&text);
            prop_assert!(!html.contains(['<', '>', '"', '\'', '\n', '\r']));
            let markdown = markdown(&text);
            prop_assert!(!markdown.contains(['<', '>', '\n', '\r']));
            // Every bar has an odd number of backslashes before it.
            for (place, _) in markdown.match_indices('|') {
                prop_assert_eq!(markdown[..place].chars().rev().take_while(|character| *character == '\\').count() % 2, 1);
            }
            prop_assert!(!markdown_code(&text).contains(['\n', '\r']));
        }
    }
}
