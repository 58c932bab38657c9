//! Keys and passphrases in files of their own.

use std::path::Path;

use crate::encryption::identity::PrivateIdentity;
use crate::encryption::passphrase::Passphrase;
use crate::error::{Error, Result};
use crate::fs::secret_file;

/// The private keys in a file as `age-keygen` writes it: one a line, with comments behind `#`. Blocking.
///
/// # Errors
/// [`Error::File`] when it cannot be read; `Invalid` when every user could read it, when it holds none, or something else, too.
pub fn identities(path: &Path) -> Result<Vec<PrivateIdentity>> {
    let text = secret_file::read(path, "key", "encryption.identity_file")?;
    let mut identities = Vec::new();
    for (number, line) in text.expose().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("{}, line {}", path.display(), number + 1);
        if line.starts_with("age-encryption.org/") || line.starts_with("-----BEGIN") {
            return Err(Error::invalid(
                format!("{}: the key is itself encrypted, or of another kind", place()),
                "decrypt it first (`age -d FILE > key.txt`), or give a key that `age-keygen` made",
            ));
        }
        identities.push(line.parse().map_err(|error: Error| match error {
            Error::Invalid { what, remedy } => Error::Invalid { what: format!("{}: {what}", place()), remedy },
            other => other,
        })?);
    }
    if identities.is_empty() {
        return Err(Error::invalid(format!("{} holds no key", path.display()), "give the file that `age-keygen -o FILE` made"));
    }
    Ok(identities)
}

/// The passphrase in a file, without the line break at its end. Blocking.
///
/// # Errors
/// As [`identities`] and [`Passphrase::new`].
pub fn passphrase(path: &Path) -> Result<Passphrase> {
    let text = secret_file::read(path, "passphrase", "encryption.passphrase_file")?;
    Passphrase::new(text.expose().as_str()).map_err(|error| match error {
        Error::Invalid { what, remedy } => Error::Invalid { what: format!("{}: {what}", path.display()), remedy },
        other => other,
    })
}
