//! [`Fault`]: why something that should be encrypted cannot be opened.

use std::io;

/// What is wrong with the bytes, or with the keys at hand. A stream tells it inside of an [`io::Error`]; see [`Fault::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The first line is missing.
    #[error("it does not begin like a file of age")]
    NotAge,
    /// The header is no header.
    #[error("its header is damaged: {0}")]
    Header(&'static str),
    /// No key fits any stanza. Damage of a stanza looks like this as well.
    #[error("none of the keys at hand opens it")]
    NoKey,
    /// A key fits, and the header is not what was written.
    #[error("its header is not what was written")]
    HeaderChanged,
    /// It ends before its last chunk.
    #[error("it is cut off at byte {at} of its content")]
    CutOff {
        /// Where, in the decrypted content.
        at: u64,
    },
    /// A chunk is not what was written.
    #[error("it is not what was written, from byte {at} of its content on")]
    Changed {
        /// Where, in the decrypted content.
        at: u64,
    },
    /// Deriving the key would take more memory than anybody's own passphrase needs.
    #[error("its passphrase would take {0} MiB to derive the key from, and at most 1024 are given")]
    TooDear(u64),
}

impl Fault {
    /// The fault that a stream told, if that is what the error is.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::NoKey => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, fault)
    }
}
