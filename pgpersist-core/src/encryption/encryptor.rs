//! [`Encryptor`]: bytes in, encrypted bytes out, as they come. One chunk of 64 KiB is in memory.

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use crate::encryption::file_key::{CONTENT_NONCE_BYTES, FileKey, random};
use crate::encryption::header::Header;
use crate::encryption::passphrase::Passphrase;
use crate::encryption::recipient::Recipient;
use crate::error::{Error, Result};

/// How much content a chunk holds.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// What a chunk is longer than its content.
pub(super) const TAG_BYTES: usize = 16;

/// Encrypts one stream.
pub struct Encryptor {
    key: LessSafeKey,
    counter: u64,
    /// What is not yet sealed: only the end tells whether it is the last.
    pending: Vec<u8>,
}

impl Encryptor {
    /// Begins a stream for all of these recipients, each of whom can open it alone, and writes its header.
    ///
    /// # Errors
    /// `Invalid` without a recipient, or with one that protects nothing.
    pub fn begin(recipients: &[Recipient], out: &mut Vec<u8>) -> Result<Self> {
        if recipients.is_empty() {
            return Err(Error::Bug("something was to be encrypted to nobody".to_owned()));
        }
        let file_key = FileKey::generate()?;
        let stanzas = recipients.iter().map(|recipient| recipient.wrap(&file_key)).collect::<Result<_>>()?;
        Self::with_header(&Header::new(stanzas, &file_key), &file_key, out)
    }

    /// Begins a stream that a passphrase opens, and nothing else. Takes a moment and 128 MiB; blocking.
    ///
    /// # Errors
    /// As [`Passphrase::check`].
    pub fn begin_with_passphrase(passphrase: &Passphrase, out: &mut Vec<u8>) -> Result<Self> {
        let file_key = FileKey::generate()?;
        let stanza = passphrase.wrap(&file_key)?;
        Self::with_header(&Header::new(vec![stanza], &file_key), &file_key, out)
    }

    fn with_header(header: &Header, file_key: &FileKey, out: &mut Vec<u8>) -> Result<Self> {
        let nonce = random::<CONTENT_NONCE_BYTES>()?;
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(&*nonce);
        Ok(Self { key: file_key.content(&nonce), counter: 0, pending: Vec::with_capacity(CHUNK_BYTES + TAG_BYTES) })
    }

    /// Takes content, and writes what is ready of it.
    ///
    /// # Errors
    /// [`Error::Bug`].
    pub fn update(&mut self, mut content: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.reserve(content.len() + content.len() / CHUNK_BYTES * TAG_BYTES + CHUNK_BYTES);
        while !content.is_empty() {
            if self.pending.len() == CHUNK_BYTES {
                self.seal(Place::Before, out)?;
            }
            let taken = content.len().min(CHUNK_BYTES - self.pending.len());
            self.pending.extend_from_slice(&content[..taken]);
            content = &content[taken..];
        }
        Ok(())
    }

    /// Writes the end: without it, whoever reads finds the stream cut off.
    ///
    /// # Errors
    /// [`Error::Bug`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<()> {
        self.seal(Place::Last, out)
    }

    fn seal(&mut self, place: Place, out: &mut Vec<u8>) -> Result<()> {
        let nonce = nonce(self.counter, place);
        self.key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut self.pending)
            .map_err(|_| Error::Bug("a chunk could not be sealed".to_owned()))?;
        self.counter += 1;
        out.extend_from_slice(&self.pending);
        self.pending.clear();
        Ok(())
    }
}

impl std::fmt::Debug for Encryptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encryptor").field("counter", &self.counter).finish_non_exhaustive()
    }
}

/// Where a chunk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Before,
    Last,
}

/// The number of the chunk, and whether it is the last one: so none can be left out, moved or added.
pub(super) fn nonce(counter: u64, place: Place) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 1 - 8..NONCE_LEN - 1].copy_from_slice(&counter.to_be_bytes());
    nonce[NONCE_LEN - 1] = u8::from(place == Place::Last);
    Nonce::assume_unique_for_key(nonce)
}
