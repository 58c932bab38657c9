//! [`Header`]: for whom a file is encrypted, without saying who that is.

use std::io::{self, BufRead, Read};

use aws_lc_rs::hmac;

use crate::encryption::fault::Fault;
use crate::encryption::file_key::FileKey;
use crate::encryption::identity::Identity;
use crate::encryption::passphrase;
use crate::encryption::stanza::{Stanza, decode64, encode64};

/// How an encrypted file begins.
pub const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
/// How long a header may be: more recipients than anybody has.
pub const LARGEST: u64 = 256 << 10;

/// The beginning of an encrypted file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    stanzas: Vec<Stanza>,
    mac: Vec<u8>,
    /// What the MAC is of: everything up to the line that holds it.
    covered: String,
}

impl Header {
    /// A header with these stanzas.
    pub(super) fn new(stanzas: Vec<Stanza>, file_key: &FileKey) -> Self {
        let mut covered = String::from_utf8_lossy(FIRST_LINE).into_owned();
        stanzas.iter().for_each(|stanza| stanza.write(&mut covered));
        covered.push_str("---");
        let mac = hmac::sign(&file_key.header_mac(), covered.as_bytes()).as_ref().to_vec();
        Self { stanzas, mac, covered }
    }

    /// The bytes of the header.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        format!("{} {}\n", self.covered, encode64(&self.mac)).into_bytes()
    }

    /// Reads a header, and nothing behind it.
    ///
    /// # Errors
    /// A [`Fault`] when it is none; what the reader says.
    pub fn read(source: &mut impl BufRead) -> io::Result<Self> {
        let mut lines = Lines { source: source.take(LARGEST), covered: String::new() };
        if lines.next()?.as_bytes() != FIRST_LINE.trim_ascii_end() {
            return Err(Fault::NotAge.into());
        }
        let mut stanzas = Vec::new();
        loop {
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix("---") {
                let mac = mac.strip_prefix(' ').and_then(decode64).filter(|mac| mac.len() == 32);
                let (Some(mac), false) = (mac, stanzas.is_empty()) else { return Err(Fault::Header("its last line").into()) };
                let end = lines.covered.len() - line.len() - 1 + 3;
                lines.covered.truncate(end);
                return Ok(Self { stanzas, mac, covered: lines.covered });
            }
            let arguments = Stanza::arguments_of(&line).ok_or(Fault::Header("the first line of a recipient's part"))?;
            let mut body = String::new();
            loop {
                let line = lines.next()?;
                body.push_str(&line);
                if !Stanza::continues_after(&line).ok_or(Fault::Header("a line is too long"))? {
                    break;
                }
            }
            let body = decode64(&body).ok_or(Fault::Header("a recipient's key is no Base64"))?;
            stanzas.push(Stanza { arguments, body });
        }
    }

    /// The parts, one a recipient.
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Whether it takes a passphrase to open it, rather than a key.
    pub fn is_for_a_passphrase(&self) -> bool {
        self.stanzas.iter().any(|stanza| stanza.kind() == passphrase::KIND)
    }

    /// Whether this identity is one that it is for. A passphrase takes a moment, and memory: see
    /// [`passphrase`]. Blocking.
    ///
    /// A header that was changed says so only to whom it is for: then this is true, and reading tells what is wrong.
    pub fn is_for(&self, identity: &Identity) -> bool {
        !matches!(self.open(std::slice::from_ref(identity)), Err(Fault::NoKey))
    }

    /// The file key, where one of the identities unwraps it.
    pub(super) fn open(&self, identities: &[Identity]) -> Result<FileKey, Fault> {
        // Whoever knows a passphrase could otherwise make a file that looks as if nobody else could have made it.
        if self.is_for_a_passphrase() && self.stanzas.len() > 1 {
            return Err(Fault::Header("a passphrase stands beside other recipients"));
        }
        for identity in identities {
            for stanza in &self.stanzas {
                if let Some(file_key) = identity.unwrap(stanza)? {
                    hmac::verify(&file_key.header_mac(), self.covered.as_bytes(), &self.mac).map_err(|_| Fault::HeaderChanged)?;
                    return Ok(file_key);
                }
            }
        }
        Err(Fault::NoKey)
    }
}

struct Lines<R> {
    source: R,
    covered: String,
}

impl<R: BufRead> Lines<R> {
    /// The next line, without its end.
    fn next(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.source.read_until(b'\n', &mut line)?;
        let first = self.covered.is_empty();
        let fault = |what| if first { Fault::NotAge } else { Fault::Header(what) };
        if line.pop() != Some(b'\n') {
            return Err(fault("it does not end").into());
        }
        let line = String::from_utf8(line).map_err(|_| fault("it is no text"))?;
        self.covered.push_str(&line);
        self.covered.push('\n');
        Ok(line)
    }
}
