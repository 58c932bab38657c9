//! [`EncryptionSettings`]: to whom a store's dumps are encrypted, and where the keys are that open them. It names files, and
//! holds no secret.

use std::path::PathBuf;

use crate::encryption::identity::Identity;
use crate::encryption::key_file;
use crate::encryption::passphrase::Passphrase;
use crate::encryption::recipient::Recipient;
use crate::error::Result;

/// How a store is encrypted. Without a recipient and without a passphrase it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncryptionSettings {
    /// The public keys; each of them opens every dump alone.
    pub recipients: Vec<Recipient>,
    /// A file with a passphrase that opens the keys of the dumps.
    pub passphrase_file: Option<PathBuf>,
    /// A file with private keys, to read with. A machine that only writes has none.
    pub identity_file: Option<PathBuf>,
}

impl EncryptionSettings {
    /// Whether what is written is to be encrypted.
    pub fn encrypts(&self) -> bool {
        !self.recipients.is_empty() || self.passphrase_file.is_some()
    }

    /// Whether the same ones can open what is written by both.
    pub fn encrypts_as(&self, other: &Self) -> bool {
        let among = |one: &Self, other: &Self| one.recipients.iter().all(|recipient| other.recipients.contains(recipient));
        among(self, other) && among(other, self) && self.passphrase_file == other.passphrase_file
    }

    /// The same with another file of private keys, such as one from a safe.
    #[must_use]
    pub fn with_identity_file(self, file: Option<PathBuf>) -> Self {
        Self { identity_file: file.or(self.identity_file), ..self }
    }

    /// The passphrase, where one is configured. Blocking.
    ///
    /// # Errors
    /// As [`key_file::passphrase`].
    pub fn passphrase(&self) -> Result<Option<Passphrase>> {
        self.passphrase_file.as_deref().map(key_file::passphrase).transpose()
    }

    /// Everything at hand that opens something, keys first, since they cost nothing to try. Blocking.
    ///
    /// # Errors
    /// As [`key_file::identities`] and [`key_file::passphrase`].
    pub fn identities(&self) -> Result<Vec<Identity>> {
        let keys = self.identity_file.as_deref().map(key_file::identities).transpose()?.unwrap_or_default();
        Ok(keys.into_iter().map(Identity::Key).chain(self.passphrase()?.map(Identity::Passphrase)).collect())
    }
}
