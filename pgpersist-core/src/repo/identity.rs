//! [`ItemId`]: what an item is known by.

use std::fmt;

use crate::secret::Secret;

/// How many bytes an identity has.
pub const ITEM_ID_BYTES: usize = 16;

/// The identity of an item: the first 128 bits of keyed BLAKE3 over its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(pub [u8; ITEM_ID_BYTES]);

impl fmt::Debug for ItemId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The random key of a repository's identities.
#[derive(Debug, Clone)]
pub struct HashKey(Secret<[u8; 32]>);

impl HashKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The identity of an item.
    pub fn identify(&self, item: &[u8]) -> ItemId {
        let hash = blake3::keyed_hash(self.0.expose(), item);
        let (id, _) = hash.as_bytes().split_first_chunk().expect("BLAKE3 gives 32 bytes");
        ItemId(*id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_hangs_on_the_bytes_and_on_the_key() {
        let (ours, other) = (HashKey::new([1; 32]), HashKey::new([2; 32]));
        assert_eq!(ours.identify(b"page"), ours.identify(b"page"));
        assert_ne!(ours.identify(b"page"), ours.identify(b"pagf"));
        assert_ne!(ours.identify(b"page"), other.identify(b"page"));
    }
}
