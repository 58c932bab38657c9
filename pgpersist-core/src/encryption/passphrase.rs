//! [`Passphrase`]: words to encrypt with, through a derivation that takes memory, so that guessing is dear.

use scrypt::Params;
use zeroize::Zeroizing;

use crate::encryption::fault::Fault;
use crate::encryption::file_key::{FileKey, Key, WRAPPED_BYTES, random};
use crate::encryption::stanza::{Stanza, decode64, encode64};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// The kind of its stanzas. Where one stands, it is the only one.
pub(super) const KIND: &str = "scrypt";
const LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const SALT_BYTES: usize = 16;

/// The logarithm of scrypt's N that new files get: 128 MiB and some tenths of a second for each guess.
///
/// The stock program takes twice as much; this is what a pod with 256 MiB can still do, and what OWASP recommends at least.
pub const LOG_N: u8 = 17;
/// The largest one that is accepted, 1 GiB: a file of a stranger decides how much memory its reader takes.
const LARGEST_LOG_N: u8 = 20;
/// The fewest characters. Whoever has what is encrypted can guess at leisure, on as many machines as he likes.
const FEWEST_CHARACTERS: usize = 12;
const MAKE: &str = "take several words by chance, or `openssl rand -base64 24`";

/// A passphrase. Prints as `***`.
#[derive(Debug, Clone)]
pub struct Passphrase(Secret<Zeroizing<String>>);

impl Passphrase {
    /// A passphrase to encrypt or decrypt with.
    ///
    /// # Errors
    /// `Invalid` when it is empty.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = Zeroizing::new(text.into());
        if text.is_empty() {
            return Err(Error::invalid("the passphrase is empty", MAKE));
        }
        Ok(Self(Secret::new(text)))
    }

    /// Whether it is good enough to encrypt with.
    ///
    /// # Errors
    /// `Invalid` when it is shorter than twelve characters.
    pub fn check(&self) -> Result<()> {
        if self.0.expose().chars().count() < FEWEST_CHARACTERS {
            return Err(Error::invalid(format!("the passphrase has fewer than {FEWEST_CHARACTERS} characters"), MAKE));
        }
        Ok(())
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }

    pub(super) fn wrap(&self, file_key: &FileKey) -> Result<Stanza> {
        self.check()?;
        self.wrap_with(file_key, LOG_N)
    }

    pub(super) fn wrap_with(&self, file_key: &FileKey, log_n: u8) -> Result<Stanza> {
        let salt = random::<SALT_BYTES>()?;
        let key = self.derive(&*salt, log_n);
        Ok(Stanza { arguments: vec![KIND.to_owned(), encode64(&*salt), log_n.to_string()], body: file_key.wrap(&key) })
    }

    pub(super) fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Fault> {
        if stanza.kind() != KIND {
            return Ok(None);
        }
        let [salt, log_n] = &stanza.arguments[1..] else { return Err(Fault::Header("a part for a passphrase has not two words")) };
        let salt = decode64(salt).filter(|salt| salt.len() == SALT_BYTES).ok_or(Fault::Header("the salt of a passphrase"))?;
        // Exactly as it is written, without a sign or zeros before it.
        let log_n: u8 =
            log_n.parse().ok().filter(|n: &u8| *n > 0 && n.to_string() == *log_n).ok_or(Fault::Header("the cost of a passphrase"))?;
        if stanza.body.len() != WRAPPED_BYTES {
            return Err(Fault::Header("a wrapped key has not its length"));
        }
        if log_n > LARGEST_LOG_N {
            return Err(Fault::TooDear(1 << (log_n.min(70) - 10)));
        }
        Ok(FileKey::unwrap(&stanza.body, &self.derive(&salt, log_n)))
    }

    fn derive(&self, salt: &[u8], log_n: u8) -> Key {
        let params = Params::new(log_n, 8, 1).expect("a logarithm of at most 20 is one of scrypt's");
        let mut key = Key::default();
        scrypt::scrypt(self.0.expose().as_bytes(), &[LABEL, salt].concat(), &params, &mut *key)
            .expect("32 bytes are a length that scrypt can derive");
        key
    }
}
