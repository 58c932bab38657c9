//! [`Descriptor`]: the first object of a repository: what it is, whose, and the key of its identities.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::repo::envelope::{self, ObjectKind};
use crate::repo::fault::Fault;
use crate::repo::identity::HashKey;
use crate::repo::layout;

/// What a repository is. Written once, when it is made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// A random name, so that two repositories are told apart wherever they are copied to: 32 hexadecimal digits.
    pub repository: String,
    /// The cluster whose backups these are; as text, as in manifests.
    pub system_identifier: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub made_at: OffsetDateTime,
    /// The key of identities, in hexadecimal. Not a secret of the data: it keeps those who choose what stands in a table from
    /// constructing two pages of one identity.
    hash_key: String,
    /// Whether all that tells of the cluster's content is encrypted, in every object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { repository, system_identifier, made_at, hash_key: _, encrypted } = self;
        formatter
            .debug_struct("Descriptor")
            .field("repository", repository)
            .field("system_identifier", system_identifier)
            .field("made_at", made_at)
            .field("encrypted", encrypted)
            .finish_non_exhaustive()
    }
}

impl Descriptor {
    /// A new repository's, which is not encrypted.
    pub fn new(repository: [u8; 16], hash_key: [u8; 32], system_identifier: u64, made_at: OffsetDateTime) -> Self {
        let (repository, hash_key) = (hex(&repository), hex(&hash_key));
        Self { repository, system_identifier: system_identifier.to_string(), made_at, hash_key, encrypted: false }
    }

    /// The same of one that is.
    #[must_use]
    pub fn encrypted(self) -> Self {
        Self { encrypted: true, ..self }
    }

    /// The key of identities.
    ///
    /// # Errors
    /// `NotCanonical` when it is none.
    pub fn hash_key(&self) -> Result<HashKey, Fault> {
        let (pairs, []) = self.hash_key.as_bytes().as_chunks::<2>() else { return Err(Fault::NotCanonical) };
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let key: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        key.map(HashKey::new).ok_or(Fault::NotCanonical)
    }

    /// The object's bytes.
    ///
    /// # Errors
    /// `NotCanonical`.
    pub fn encode(&self) -> Result<Vec<u8>, Fault> {
        let json = serde_json::to_vec(self).map_err(|_| Fault::NotCanonical)?;
        Ok(envelope::seal(ObjectKind::Descriptor, layout::DESCRIPTOR, &json))
    }

    /// Reads the object.
    ///
    /// # Errors
    /// What is wrong with the bytes; `Version` when a newer pgpersist wrote them.
    pub fn parse(object: &[u8]) -> Result<Self, Fault> {
        let json = envelope::open(ObjectKind::Descriptor, layout::DESCRIPTOR, object)?;
        let descriptor: Self = serde_json::from_slice(json).map_err(|_| Fault::NotCanonical)?;
        descriptor.hash_key()?;
        Ok(descriptor)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    proptest! {
        #[test]
        fn a_descriptor_survives_a_round_trip_and_does_not_show_its_key(repository: [u8; 16], hash_key: [u8; 32], system_identifier: u64) {
            let descriptor = Descriptor::new(repository, hash_key, system_identifier, datetime!(2026-02-08 09:33:16 UTC));
            let read = Descriptor::parse(&descriptor.encode().unwrap()).unwrap();
            prop_assert_eq!(&read, &descriptor);
            let (ours, theirs) = (HashKey::new(hash_key), read.hash_key().unwrap());
            prop_assert_eq!(ours.identify(b"page"), theirs.identify(b"page"));
            prop_assert!(!read.encrypted);
            let encrypted = read.encrypted();
            prop_assert_eq!(Descriptor::parse(&encrypted.encode().unwrap()).unwrap(), encrypted);
            let shown = format!("{descriptor:?}");
            prop_assert!(!shown.contains(&hex(&hash_key)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Descriptor::parse(&bytes);
            let _ = Descriptor::parse(&envelope::seal(ObjectKind::Descriptor, layout::DESCRIPTOR, &bytes));
        }
    }
}
