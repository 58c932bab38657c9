//! [`Decryptor`]: reads an encrypted stream as its content. Nothing is handed out that was not proven to be what was written.

use std::io::{self, BufRead, BufReader, Read};

use aws_lc_rs::aead::{Aad, LessSafeKey};

use crate::encryption::encryptor::{CHUNK_BYTES, Place, TAG_BYTES, nonce};
use crate::encryption::fault::Fault;
use crate::encryption::file_key::CONTENT_NONCE_BYTES;
use crate::encryption::header::Header;
use crate::encryption::identity::Identity;

/// Reads the content of an encrypted stream.
pub struct Decryptor<R> {
    source: BufReader<R>,
    key: LessSafeKey,
    counter: u64,
    /// The chunk in hand, decrypted, and what of it was read.
    chunk: Vec<u8>,
    read: usize,
    is_last: bool,
}

impl<R: Read> Decryptor<R> {
    /// Opens a stream with whichever of the identities fits. A passphrase among them takes a moment and memory, where the stream
    /// was encrypted with one. Blocking.
    ///
    /// # Errors
    /// A [`Fault`]; what the reader says.
    pub fn open(source: R, identities: &[Identity]) -> io::Result<Self> {
        let mut source = BufReader::with_capacity(CHUNK_BYTES + TAG_BYTES, source);
        let file_key = Header::read(&mut source)?.open(identities)?;
        let mut nonce = [0; CONTENT_NONCE_BYTES];
        source.read_exact(&mut nonce).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::CutOff { at: 0 }.into(),
            _ => error,
        })?;
        Ok(Self {
            source,
            key: file_key.content(&nonce),
            counter: 0,
            chunk: Vec::with_capacity(CHUNK_BYTES + TAG_BYTES),
            read: 0,
            is_last: false,
        })
    }

    /// What it reads from; of use once the content was read to its end.
    pub fn into_inner(self) -> R {
        self.source.into_inner()
    }

    /// What it reads from.
    pub fn get_mut(&mut self) -> &mut R {
        self.source.get_mut()
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let at = self.counter * CHUNK_BYTES as u64;
        self.chunk.clear();
        self.read = 0;
        (&mut self.source).take((CHUNK_BYTES + TAG_BYTES) as u64).read_to_end(&mut self.chunk)?;
        let place = if self.source.fill_buf()?.is_empty() { Place::Last } else { Place::Before };
        if self.chunk.is_empty() {
            return Err(Fault::CutOff { at }.into());
        }
        let kept = (place == Place::Last).then(|| self.chunk.clone());
        let Ok(length) = self.key.open_in_place(nonce(self.counter, place), Aad::empty(), &mut self.chunk).map(|chunk| chunk.len()) else {
            // One that is whole and was not the last says that what followed it is gone.
            let is_whole =
                kept.is_some_and(|mut chunk| self.key.open_in_place(nonce(self.counter, Place::Before), Aad::empty(), &mut chunk).is_ok());
            self.chunk.clear();
            return Err(if is_whole { Fault::CutOff { at: at + CHUNK_BYTES as u64 } } else { Fault::Changed { at } }.into());
        };
        self.chunk.truncate(length);
        if length == 0 && self.counter > 0 {
            return Err(Fault::Changed { at }.into());
        }
        self.is_last = place == Place::Last;
        self.counter += 1;
        Ok(())
    }
}

impl<R: Read> Read for Decryptor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() {
            if self.is_last || buffer.is_empty() {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let count = buffer.len().min(self.chunk.len() - self.read);
        buffer[..count].copy_from_slice(&self.chunk[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

impl<R> std::fmt::Debug for Decryptor<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decryptor").field("counter", &self.counter).finish_non_exhaustive()
    }
}

/// Opens something small that is held whole, such as a wrapped key. Blocking.
///
/// # Errors
/// A [`Fault`], as from [`Decryptor::open`] and [`Decryptor::read`].
pub fn open_small(bytes: &[u8], identities: &[Identity]) -> Result<zeroize::Zeroizing<Vec<u8>>, Fault> {
    let mut content = zeroize::Zeroizing::new(Vec::with_capacity(bytes.len()));
    let read = Decryptor::open(bytes, identities).and_then(|mut source| source.read_to_end(&mut content));
    match read {
        Ok(_) => Ok(content),
        Err(error) => Err(Fault::of(&error).unwrap_or(Fault::NotAge)),
    }
}
