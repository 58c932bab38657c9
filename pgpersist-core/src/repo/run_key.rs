//! [`WrappedRunKeys`]: the keys of a run as they lie in the store, wrapped for whoever may read.

use zeroize::Zeroizing;

use crate::encryption::decryptor::open_small;
use crate::encryption::encryptor::Encryptor;
use crate::encryption::header::Header;
use crate::encryption::identity::Identity;
use crate::encryption::recipient::Recipient;
use crate::error::{Error, Result};
use crate::repo::envelope::{self, ObjectKind};
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::names::RunName;
use crate::repo::sealing::RunKeys;

/// The keys of a run, wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedRunKeys {
    /// The data key of the store that they are wrapped for, besides the recipients; the index key belongs to it.
    pub data_key: Recipient,
    /// A file of age.
    wrapped: Vec<u8>,
}

impl WrappedRunKeys {
    /// Wraps the keys of a run that begins for a data key, and for recipients, each of whom opens them alone. Blocking.
    ///
    /// # Errors
    /// `Invalid` for a recipient that protects nothing.
    pub fn wrap(keys: &RunKeys, data_key: Recipient, recipients: &[Recipient]) -> Result<Self> {
        let both = keys.expose().ok_or_else(|| Error::Bug("the keys of a run were to be wrapped without the data key".to_owned()))?;
        let all: Vec<Recipient> = std::iter::once(data_key).chain(recipients.iter().copied()).collect();
        let mut wrapped = Vec::new();
        let mut encryptor = Encryptor::begin(&all, &mut wrapped)?;
        encryptor.update(both.as_slice(), &mut wrapped)?;
        encryptor.finish(&mut wrapped)?;
        Ok(Self { data_key, wrapped })
    }

    /// For whom they are.
    ///
    /// # Errors
    /// `Sealed` when that cannot be told.
    pub fn header(&self) -> Result<Header, Fault> {
        Header::read(&mut self.wrapped.as_slice()).map_err(|_| Fault::Sealed)
    }

    /// Unwraps them. Blocking.
    ///
    /// # Errors
    /// `Sealed` when none of the identities does.
    pub fn unwrap(&self, identities: &[Identity]) -> Result<RunKeys, Fault> {
        let bytes: Zeroizing<Vec<u8>> = open_small(&self.wrapped, identities).map_err(|_| Fault::Sealed)?;
        RunKeys::from_bytes(&bytes).ok_or(Fault::NotCanonical)
    }

    /// The object's bytes.
    pub fn encode(&self, run: RunName) -> Vec<u8> {
        let body = [format!("{}\n", self.data_key).as_bytes(), &self.wrapped].concat();
        envelope::seal(ObjectKind::RunKey, &layout::run_key(run), &body)
    }

    /// Reads the object of a run.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(run: RunName, object: &[u8]) -> Result<Self, Fault> {
        let body = envelope::open(ObjectKind::RunKey, &layout::run_key(run), object)?;
        let end = body.iter().position(|byte| *byte == b'\n').ok_or(Fault::CutOff)?;
        let data_key = std::str::from_utf8(&body[..end]).ok().and_then(|text| text.parse().ok()).ok_or(Fault::NotCanonical)?;
        let wrapped = Self { data_key, wrapped: body[end + 1..].to_vec() };
        wrapped.header()?;
        Ok(wrapped)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::encryption::identity::PrivateIdentity;
    use crate::encryption::sealing_key::SealingKey;
    use crate::repo::names::PackName;
    use crate::repo::trailer::PackKind;

    fn run() -> RunName {
        RunName::new(datetime!(2026-02-08 09:33:16 UTC), [1, 2, 3, 4])
    }

    #[test]
    fn the_data_key_and_each_recipient_unwrap_them_and_nobody_else() {
        let [data_key, alice, bob, eve] = [(); 4].map(|()| PrivateIdentity::generate().unwrap());
        let keys = RunKeys::begin(SealingKey::generate().unwrap()).unwrap();
        let wrapped = WrappedRunKeys::wrap(&keys, data_key.recipient(), &[alice.recipient(), bob.recipient()]).unwrap();
        let object = wrapped.encode(run());
        let read = WrappedRunKeys::parse(run(), &object).unwrap();
        assert_eq!(read, wrapped);
        let pack = PackName { run: run(), number: 0 };
        let mut page = b"page".to_vec();
        keys.seal_frame(PackKind::Chunks, pack, 0, &mut page, 0).unwrap();
        for reader in [data_key, alice, bob] {
            let keys = read.unwrap(&[Identity::Key(reader)]).unwrap();
            assert_eq!(keys.open_frame(PackKind::Chunks, pack, 0, &page), Ok(b"page".to_vec()));
        }
        assert!(read.unwrap(&[Identity::Key(eve)]).is_err_and(|fault| fault == Fault::Sealed));
        let another = RunName::new(datetime!(2026-02-08 09:33:16 UTC), [0; 4]);
        assert_eq!(WrappedRunKeys::parse(another, &object), Err(Fault::Digest));
        assert!(RunKeys::of_index(SealingKey::generate().unwrap()).expose().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, tail: Vec<u8>) {
            let sealed = |body: &[u8]| envelope::seal(ObjectKind::RunKey, &layout::run_key(run()), body);
            let line = format!("{}\nage-encryption.org/v1\n", PrivateIdentity::generate().unwrap().recipient());
            for object in [bytes.clone(), sealed(&bytes), sealed(&[line.as_bytes(), &tail].concat())] {
                let _ = WrappedRunKeys::parse(run(), &object);
            }
        }
    }
}
