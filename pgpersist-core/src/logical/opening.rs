//! [`Opening`]: what opens a dump, found before its bytes are read.

use crate::encryption::fault::Fault;
use crate::encryption::identity::Identity;
use crate::encryption::recipient::Recipient;
use crate::error::{Error, ErrorKind};
use crate::logical::place::Place;

/// What opens a dump, and where it must belong.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Keys and passphrases to try; those of a dump in a store are known to fit.
    pub identities: Vec<Identity>,
    /// Why it will not be opened, to be told once its bytes have proven to be what was written.
    pub obstacle: Option<Obstacle>,
    /// Where it lies, and so what it must say of itself; nothing for a file from anywhere.
    pub place: Option<Place>,
}

impl Opening {
    /// For a dump of which nothing is known but what might open it.
    pub fn with(identities: Vec<Identity>) -> Self {
        Self { identities, ..Self::default() }
    }

    /// For a dump of which nothing is known where the files of keys cannot be read.
    pub fn without_keys(error: &Error) -> Self {
        let (what, remedy) = (format!("it is encrypted, and its key cannot be had: {error}"), error.remedy().unwrap_or_default());
        Self { obstacle: Some(Obstacle { kind: ErrorKind::Denied, what, remedy }), ..Self::default() }
    }

    /// Whether it is known that nothing at hand opens it.
    pub fn lacks_a_key(&self) -> bool {
        self.obstacle.as_ref().is_some_and(|obstacle| obstacle.kind == ErrorKind::Denied)
    }
}

/// Why something will not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    kind: ErrorKind,
    what: String,
    remedy: String,
}

impl Obstacle {
    /// No key at hand fits. `recipients` are those of whom it is known that they open it.
    pub fn no_key(name: &str, has_keys: bool, recipients: &[Recipient]) -> Self {
        let what = if has_keys { "none of the keys at hand opens it" } else { "no key is at hand" };
        let whose = match recipients {
            [] => String::new(),
            recipients => format!("; it is encrypted to {}", recipients.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        Self {
            kind: ErrorKind::Denied,
            what: format!("{name} is encrypted, and {what}"),
            remedy: format!(
                "give the file of the private key with `--identity FILE`, or as `identity_file` of the store's `encryption`{whose}"
            ),
        }
    }

    /// A key that would open it is damaged.
    pub(super) fn damaged_key(name: &str, error: &Error) -> Self {
        Self { kind: ErrorKind::Damaged, what: format!("{name} cannot be opened: {error}"), remedy: error.remedy().unwrap_or_default() }
    }

    /// As the error that it is.
    pub fn into_error(self) -> Error {
        match self.kind {
            ErrorKind::Denied => Error::denied(self.what, self.remedy),
            _ => Error::damaged(self.what, self.remedy),
        }
    }
}

/// What a fault of an encrypted dump means for whoever loads it.
pub(super) fn explain(name: &str, fault: Fault) -> Error {
    let remedy = "choose another dump: see `pgpersist list`";
    match fault {
        Fault::NoKey => Obstacle::no_key(name, true, &[]).into_error(),
        Fault::TooDear(_) => Error::invalid(format!("{name} cannot be opened: {fault}"), "decrypt it by hand with `age -d`"),
        fault => Error::damaged(format!("{name} cannot be decrypted: {fault}"), remedy),
    }
}
