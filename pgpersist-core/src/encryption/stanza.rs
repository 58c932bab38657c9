//! [`Stanza`]: the file key, wrapped for one recipient.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// How many characters a line of a body has.
const LINE: usize = 64;

/// One recipient's part of a header. What kind of recipient it is for says the first argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// The words behind the arrow; at least one.
    pub(super) arguments: Vec<String>,
    /// The wrapped key.
    pub(super) body: Vec<u8>,
}

impl Stanza {
    /// The kind of recipient, such as `X25519`.
    pub fn kind(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    pub(super) fn write(&self, out: &mut String) {
        out.push_str("->");
        for argument in &self.arguments {
            out.push(' ');
            out.push_str(argument);
        }
        out.push('\n');
        let body = encode64(&self.body);
        let mut rest = body.as_str();
        // The last line is shorter than the others, be it empty: so its end is known.
        while rest.len() >= LINE {
            let (line, more) = rest.split_at(LINE);
            out.push_str(line);
            out.push('\n');
            rest = more;
        }
        out.push_str(rest);
        out.push('\n');
    }

    /// The arguments of the line that begins a stanza.
    pub(super) fn arguments_of(line: &str) -> Option<Vec<String>> {
        let arguments: Vec<_> = line.strip_prefix("-> ")?.split(' ').map(str::to_owned).collect();
        let well_formed = arguments.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()));
        well_formed.then_some(arguments)
    }

    /// Whether more lines of the body follow this one; `None` for one that is too long.
    pub(super) fn continues_after(line: &str) -> Option<bool> {
        (line.len() <= LINE).then_some(line.len() == LINE)
    }
}

/// Base64 without padding.
pub(super) fn encode64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Reads Base64, and only as [`encode64`] writes it.
pub(super) fn decode64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}
