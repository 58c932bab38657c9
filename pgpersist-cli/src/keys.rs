//! The options with which encrypted dumps and backups are read.

use std::path::PathBuf;

use crate::context::Reading;

/// What opens a dump or a backup.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct KeyArgs {
    /// A file with the private key that opens what is encrypted; else the configured one
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

impl KeyArgs {
    /// What it says of reading.
    pub(crate) fn reading(&self) -> Reading {
        Reading { identity: self.identity.clone(), accepts_unencrypted: false }
    }
}

/// The same, and whether it has to be encrypted.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LoadKeyArgs {
    #[command(flatten)]
    keys: KeyArgs,
    /// Also take what is not encrypted from a store where it should be: who can write into the store could have put it there
    #[arg(long)]
    unencrypted: bool,
}

impl LoadKeyArgs {
    /// What it says of reading.
    pub(crate) fn reading(&self) -> Reading {
        Reading { accepts_unencrypted: self.unencrypted, ..self.keys.reading() }
    }
}
