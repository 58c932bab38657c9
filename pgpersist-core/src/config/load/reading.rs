//! What one run says of encrypted dumps: with which key, and whether others are read, too. It stands in no file, since it is for a person
//! with a key in his hand.

use std::path::PathBuf;

/// How encrypted dumps are read by one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The file of a private key, absolute, instead of the configured one.
    pub identity_file: Option<PathBuf>,
    /// Whether a dump that is not encrypted is read from a store whose dumps are.
    pub accepts_unencrypted: bool,
}
