//! Encryption in the format of age (<https://c2sp.org/age>), so that the stock program alone brings back what we wrote.
//!
//! The format is age's, byte for byte; the primitives below it (X25519, HKDF, HMAC-SHA-256, ChaCha20-Poly1305) are those of
//! AWS-LC, which rustls stands on anyway, and scrypt. A [`Recipient`](recipient::Recipient) is whom something is encrypted to,
//! an [`Identity`](identity::Identity) is what opens it. [`Encryptor`](encryptor::Encryptor) and
//! [`Decryptor`](decryptor::Decryptor) are streams that hold one chunk of 64 KiB in memory each. A [`SealingKey`](sealing_key::SealingKey) is for what is read from its middle.
//!
//! What this module knows nothing of: stores, dumps, and where keys lie in them.

mod bech32;
pub mod decryptor;
pub mod encryptor;
pub mod fault;
mod file_key;
pub mod header;
pub mod identity;
pub mod key_file;
pub mod passphrase;
pub mod recipient;
pub mod sealing_key;
pub mod settings;
pub mod stanza;
#[cfg(test)]
mod tests;
