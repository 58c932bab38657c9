//! Keys and passphrases in files of their own.

use std::path::Path;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::encryption::identity::PrivateIdentity;
use crate::encryption::passphrase::Passphrase;
use crate::encryption::recipient::Recipient;
use crate::error::{Error, Result};
use crate::fs::{durable, secret_file};

/// The private keys in a file as `age-keygen` writes it: one a line, with comments behind `#`. Blocking.
///
/// # Errors
/// [`Error::File`] when it cannot be read; `Invalid` when every user could read it, when it holds none, or something else, too.
pub fn identities(path: &Path) -> Result<Vec<PrivateIdentity>> {
    let text = secret_file::read(path, "key", "identity_file")?;
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
    let text = secret_file::read(path, "passphrase", "passphrase_file")?;
    Passphrase::new(text.expose().as_str()).map_err(|error| match error {
        Error::Invalid { what, remedy } => Error::Invalid { what: format!("{}: {what}", path.display()), remedy },
        other => other,
    })
}

/// Makes a key and writes it into a new file that only its owner can read, as `age-keygen -o FILE` does. Blocking.
///
/// # Errors
/// `Conflict` where there is a file already; [`Error::File`].
pub fn create(path: &Path, now: OffsetDateTime) -> Result<Recipient> {
    let identity = PrivateIdentity::generate()?;
    let created = now.format(&Rfc3339).map_err(|e| Error::Bug(format!("a time cannot be written: {e}")))?;
    let text = identity.to_text();
    let content = Zeroizing::new(format!("# created: {created}\n# public key: {}\n{}\n", identity.recipient(), text.expose().as_str()));
    match durable::write_new(path, content.as_bytes(), 0o600) {
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::conflict(format!("{} is there already, and may hold a key that is needed", path.display()), "give another name"))
        }
        written => written.map(|()| identity.recipient()),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_new_key_is_closed_to_others_and_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.txt");
        let recipient = create(&file, datetime!(2026-02-08 09:33:16 UTC)).unwrap();
        assert_eq!(identities(&file).unwrap().iter().map(PrivateIdentity::recipient).collect::<Vec<_>>(), [recipient]);
        assert_eq!(create(&file, datetime!(2026-02-08 09:33:16 UTC)).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(identities(&file).unwrap()[0].recipient(), recipient);
    }

    #[test]
    fn what_is_no_file_of_keys_is_told_with_its_line_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.txt");
        for (text, told) in [
            ("", "holds no key"),
            ("# only a comment\n\n", "holds no key"),
            ("# x\ncanary\n", "line 2: it is no private key of age"),
            ("age-encryption.org/v1\n", "itself encrypted"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "of another kind"),
        ] {
            durable::write(&file, text.as_bytes(), 0o600).unwrap();
            let error = identities(&file).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(told) && !error.to_string().contains("canary"), "{error}");
        }
        durable::write(&file, b"canary\n", 0o600).unwrap();
        let words = passphrase(&file).unwrap();
        assert!(words.check().is_err() && !format!("{words:?}").contains("canary"));
        durable::set_permissions(&file, 0o644).unwrap();
        for error in [identities(&file).unwrap_err(), passphrase(&file).unwrap_err()] {
            assert!(error.to_string().contains("open to every user"), "{error}");
        }
        assert_eq!(identities(&folder.path().join("nothing")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
