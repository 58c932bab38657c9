//! [`IndexKey`]: what every writer of backups holds. With it the next backup is compared with the last one; no page is read with it.
//!
//! It is derived from the private half of a data key. So whoever opens the data key has it, nobody else can have made it, and a machine
//! that made the data key and forgot its private half keeps this, in its [`memory`](crate::key_ring::memory::KeyMemory).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::encryption::identity::PrivateIdentity;
use crate::encryption::sealing_key::{KEY_BYTES, SealingKey};
use crate::secret::Secret;

const OF_DATA_KEY: &[u8] = b"pgpersist/1 index key";
const OF_RUN: &[u8] = b"pgpersist/1 index key of a run";

/// The index key that belongs to a data key. Prints as `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexKey(Secret<Zeroizing<[u8; KEY_BYTES]>>);

impl IndexKey {
    /// Of the data key with this private half.
    pub fn of(data_key: &PrivateIdentity) -> Self {
        Self(Secret::new(data_key.derive(OF_DATA_KEY)))
    }

    /// The key that one run seals its index with: of its own, so that places in it are used once.
    pub fn for_run(&self, run: &str) -> SealingKey {
        SealingKey::derived(self.0.expose(), run.as_bytes(), OF_RUN)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let well_made = text.len() == 2 * KEY_BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !well_made {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(Secret::new(bytes)))
    }
}

impl Serialize for IndexKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: Zeroizing<String> = Zeroizing::new(self.0.expose().iter().map(|byte| format!("{byte:02x}")).collect());
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for IndexKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // Without the text: it may be a key with a typing error.
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("it is no index key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hangs_on_the_data_key_and_is_another_for_each_run() {
        let (one, other) = (PrivateIdentity::generate().unwrap(), PrivateIdentity::generate().unwrap());
        assert_eq!(IndexKey::of(&one), IndexKey::of(&one));
        assert_ne!(IndexKey::of(&one), IndexKey::of(&other));
        let run = |run| *IndexKey::of(&one).for_run(run).expose();
        assert_eq!(run("a"), run("a"));
        assert_ne!(run("a"), run("b"));
    }

    #[test]
    fn it_is_read_back_from_its_text_and_never_shown() {
        let key = IndexKey::of(&PrivateIdentity::generate().unwrap());
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<IndexKey>(&text).unwrap(), key);
        assert!(!format!("{key:?}").contains(&text[1..20]));
        for wrong in ["\"\"", "\"00\"", &text.replace(|c: char| c.is_ascii_hexdigit(), "g"), "7"] {
            assert!(serde_json::from_str::<IndexKey>(wrong).is_err(), "{wrong}");
        }
    }
}
