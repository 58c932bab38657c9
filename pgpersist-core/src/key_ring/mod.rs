//! Whose keys open what lies encrypted in a store.
//!
//! What is encrypted is encrypted to a *data key* of the cluster, besides its recipients. The private half of a data key lies in
//! the store, wrapped once for each recipient and each passphrase, in a *slot* of its own. So whoever is added later reads
//! what was written before, without a byte of it being rewritten, and a passphrase goes together with public keys.
//!
//! ```text
//! <folder>/20260208T093316Z_age1zvkyg…/           a data key: when it was made, and its public half
//!     age1abc….<digest>.age                       a slot for a public key
//!     passphrase_1f2e3d4c.<digest>.age            a slot for a passphrase
//! <folder>/proofs/age1abc….json                   when this recipient was last proven to open them all
//! ```
//!
//! A slot is a file of age, and holds an identity file: `age -d -i key.txt SLOT > data.key` needs none of us. Every object is
//! written once; the digest in its name tells a flipped bit from a key that does not fit.
//!
//! # Whom a writer believes
//! Who can write into the store could put a data key of his own there, and would read all that is encrypted to it. So a writer
//! takes a data key only when it made it itself, which its [`memory`](memory::KeyMemory) beside the data tells, or when its
//! passphrase opens a slot, which nobody else could have made. Else it makes a new one.

pub mod data_key;
pub mod index_key;
pub mod memory;
pub mod proof;
pub mod ring;
pub mod slot;
#[cfg(test)]
mod tests;
pub mod writer;
