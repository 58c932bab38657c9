//! The frame around every object that is no pack: what it is, which version, its body, and a digest that holds it to its name.

use sha2::{Digest, Sha256};

use crate::repo::fault::Fault;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// The descriptor of a repository.
    Descriptor,
    /// A backup's manifest.
    Manifest,
    /// What a run builds on.
    Intent,
    /// A run's sign of life.
    Beat,
    /// What is to be removed.
    Tombstone,
    /// The mark of a run that was given up.
    Dropped,
    /// The keys of a run, wrapped.
    RunKey,
}

impl ObjectKind {
    fn magic(self) -> [u8; 4] {
        match self {
            Self::Descriptor => *b"pgpd",
            Self::Manifest => *b"pgpm",
            Self::Intent => *b"pgpi",
            Self::Beat => *b"pgpb",
            Self::Tombstone => *b"pgpt",
            Self::Dropped => *b"pgpo",
            Self::RunKey => *b"pgpr",
        }
    }
}

/// The object that lies under `key`, below the repository's folder.
pub fn seal(kind: ObjectKind, key: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() + DIGEST_BYTES);
    out.extend_from_slice(&kind.magic());
    out.extend_from_slice(&[VERSION, 0, 0, 0]);
    out.extend_from_slice(body);
    let digest = digest(key, &out);
    out.extend_from_slice(&digest);
    out
}

/// The body of what lies under `key`.
///
/// # Errors
/// `Magic`, `Version`, `CutOff`, `Digest`.
pub fn open<'a>(kind: ObjectKind, key: &str, object: &'a [u8]) -> Result<&'a [u8], Fault> {
    let header: &[u8; HEADER_BYTES] = object.first_chunk().ok_or(Fault::CutOff)?;
    if header[..4] != kind.magic() {
        return Err(Fault::Magic);
    }
    // Before the digest: a newer version may have another one.
    if header[4] != VERSION {
        return Err(Fault::Version(header[4]));
    }
    let (front, found) = object.split_last_chunk::<DIGEST_BYTES>().ok_or(Fault::CutOff)?;
    let body = front.get(HEADER_BYTES..).ok_or(Fault::CutOff)?;
    if digest(key, front) == *found { Ok(body) } else { Err(Fault::Digest) }
}

fn digest(key: &str, front: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(key).chain_update([0]).chain_update(front).finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_object_opens_under_its_own_name_and_as_what_it_is() {
        let object = seal(ObjectKind::Manifest, "backups/a.manifest", b"body");
        assert_eq!(open(ObjectKind::Manifest, "backups/a.manifest", &object), Ok(b"body".as_slice()));
        assert_eq!(open(ObjectKind::Manifest, "backups/b.manifest", &object), Err(Fault::Digest));
        assert_eq!(open(ObjectKind::Intent, "backups/a.manifest", &object), Err(Fault::Magic));
    }

    #[test]
    fn every_bit_and_every_length_counts() {
        let good = seal(ObjectKind::Intent, "runs/a.json", b"body");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(open(ObjectKind::Intent, "runs/a.json", &bad).is_err(), "byte {at}, bit {bit}");
            }
            assert!(open(ObjectKind::Intent, "runs/a.json", &good[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut object = seal(ObjectKind::Descriptor, "repository", b"");
        object[4] = 2;
        assert_eq!(open(ObjectKind::Descriptor, "repository", &object), Err(Fault::Version(2)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = open(ObjectKind::Manifest, "x", &bytes);
        }
    }
}
