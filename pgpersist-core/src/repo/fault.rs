//! [`Fault`]: why bytes are none of what a repository holds. Whoever read them adds which object it was.

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There are none where there must be.
    #[error("it is not there")]
    Missing,
    /// They end too early.
    #[error("it is cut off")]
    CutOff,
    /// Something follows where nothing may.
    #[error("bytes follow its end")]
    TooLong,
    /// A number takes more bytes than it needs, or more than there are numbers.
    #[error("a number in it is none")]
    Number,
    /// A number is larger than the format allows.
    #[error("{what} is beyond what the format allows")]
    Bound {
        /// Which one.
        what: &'static str,
    },
    /// A reference leads nowhere.
    #[error("{what} in it leads nowhere")]
    Reference {
        /// Which one.
        what: &'static str,
    },
    /// It says what a writer would have said in another way, so no writer wrote it.
    #[error("it is not written as a writer would have written it")]
    NotCanonical,
    /// The beginning is not what such an object begins with.
    #[error("it does not begin as such an object does")]
    Magic,
    /// A newer pgpersist wrote it.
    #[error("it has version {0} of the format, and this pgpersist reads version 1")]
    Version(u8),
    /// A codec that nobody knows.
    #[error("it is compressed in a way that is not known: {0}")]
    Codec(u8),
    /// The digest is another.
    #[error("it is not what was written: its digest is another")]
    Digest,
    /// It was not sealed with the key of its run at its place.
    #[error("it cannot be decrypted: it is not what was written, or it belongs elsewhere")]
    Sealed,
    /// It does not decompress to what it should.
    #[error("it does not decompress to what was compressed")]
    Compression,
}
