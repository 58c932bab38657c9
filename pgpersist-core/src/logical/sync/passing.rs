//! Bytes on their way from one store into another, or read there: hashed, and encrypted where they are to be. Blocking.

use std::io::{self, Read};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::encryption::encryptor::Encryptor;
use crate::encryption::recipient::Recipient;
use crate::error::Result;
use crate::logical::store_output::hexadecimal;

/// Bytes on their way: hashed, and encrypted and hashed again where they are to be.
pub(super) struct Passing {
    hash: Sha256,
    sealing: Option<(Encryptor, Sha256)>,
}

impl Passing {
    /// Begins, with what comes before the first byte.
    pub(super) fn begin(recipients: &[Recipient]) -> Result<(Self, Bytes)> {
        let mut out = Vec::new();
        let sealing = match recipients {
            [] => None,
            recipients => {
                let encryptor = Encryptor::begin(recipients, &mut out)?;
                Some((encryptor, Sha256::new_with_prefix(&out)))
            }
        };
        Ok((Self { hash: Sha256::new(), sealing }, out.into()))
    }

    /// What comes of these bytes.
    pub(super) fn take(mut self, bytes: Bytes) -> Result<(Self, Bytes)> {
        self.hash.update(&bytes);
        let Some((encryptor, hash)) = &mut self.sealing else { return Ok((self, bytes)) };
        let mut out = Vec::new();
        encryptor.update(&bytes, &mut out)?;
        hash.update(&out);
        Ok((self, out.into()))
    }

    /// What comes behind the last byte, the SHA-256 of what was read, and that of what comes of it.
    pub(super) fn finish(self) -> Result<(Bytes, String, String)> {
        let found = hexadecimal(&self.hash.finalize());
        let Some((encryptor, mut hash)) = self.sealing else { return Ok((Bytes::new(), found.clone(), found)) };
        let mut out = Vec::new();
        encryptor.finish(&mut out)?;
        hash.update(&out);
        Ok((out.into(), found, hexadecimal(&hash.finalize())))
    }
}

/// Hashes what is read through it.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// What it read from, and the SHA-256 of what it read.
    pub(super) fn finish(self) -> (R, String) {
        (self.inner, hexadecimal(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
