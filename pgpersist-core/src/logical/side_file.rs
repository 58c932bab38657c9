//! [`SideFile`]: what is known about a dump beyond its bytes, as `….sql.gz.json` beside it.
//!
//! Readers are tolerant: they ignore fields they do not know, and need only those that say what the dump is and how to tell
//! whether it is whole. A format that they do not know is refused.
//!
//! The side file of an encrypted dump ends with the SHA-256 of everything before it, so that a flipped bit is told from a change
//! that somebody made. It is not encrypted: see *Encryption* in the documentation for what it gives away.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::encryption::recipient::Recipient;
use crate::error::{Error, Result};
use crate::key_ring::writer::WriteKey;
use crate::logical::database_state::DatabaseState;
use crate::logical::name::{ENCRYPTED_SUFFIX, SIDE_FILE_SUFFIX};
use crate::logical::store_output::hexadecimal;
use crate::logical::system_identifier;
use crate::pg::version::ServerVersion;
use crate::store::ObjectKey;

/// The format that this version writes.
pub const FORMAT: u32 = 1;
/// The largest side file that is read: a database of a million tables.
pub const LARGEST: u64 = 128 << 20;

/// The content of a side file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideFile {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The database.
    pub database: String,
    /// The cluster's name in the stores.
    pub cluster: String,
    /// The cluster's system identifier; text in the file.
    #[serde(with = "system_identifier")]
    pub system_identifier: u64,
    /// The server's version.
    pub server_version: ServerVersion,
    /// The version of the `pg_dump` that wrote it.
    pub pg_dump_version: ServerVersion,
    /// The version of pgpersist.
    #[serde(default)]
    pub pgpersist_version: String,
    /// When the dump began, by the clock; its content is of a moment not much later. The name may be later.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When the dump was whole.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
    /// The size of the dump as it lies in the store.
    pub size_bytes: u64,
    /// SHA-256 of the dump as it lies in the store, as `sha256sum` prints it.
    #[serde(deserialize_with = "sha256")]
    pub sha256: String,
    /// The size of the SQL text.
    pub uncompressed_bytes: u64,
    /// The rows of each table, named `schema.table` with quotes where SQL needs them.
    #[serde(default)]
    pub tables: BTreeMap<String, u64>,
    /// To whom the dump is encrypted, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<SideEncryption>,
    /// Encoding, locale, owner, grants, settings and comment of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DatabaseState>,
}

/// To whom a dump is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideEncryption {
    /// The public half of the data key.
    pub data_key: Recipient,
    /// Those who open it directly.
    pub recipients: Vec<Recipient>,
}

impl From<&WriteKey> for SideEncryption {
    fn from(key: &WriteKey) -> Self {
        Self { data_key: key.data_key, recipients: key.recipients.clone() }
    }
}

/// What stands between a side file and its digest.
const BEFORE_DIGEST: &str = ",\n  \"digest\": \"";
const BEHIND_DIGEST: &str = "\"\n}\n";

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn sha256<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        Ok(text)
    } else {
        Err(serde::de::Error::custom("a SHA-256 is 64 lowercase hexadecimal digits"))
    }
}

impl SideFile {
    /// Reads the side file that lies under `key`.
    ///
    /// # Errors
    /// `Damaged` when it is no side file, or one of a format that this version does not know.
    pub fn parse(key: &ObjectKey, bytes: &[u8]) -> Result<Self> {
        let damaged = |error: serde_json::Error| {
            Error::damaged(format!("{key} is no side file of a dump: {error}"), "the dump itself may be whole: see `pgpersist verify`")
        };
        if let Some(wrong) = wrong_digest(key, bytes) {
            return Err(Error::damaged(format!("{key} {wrong}"), "the dump itself may be whole: see `pgpersist verify`"));
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(Error::damaged(
                format!("{key} has format {format}, and this version knows format {FORMAT}"),
                "use the version of pgpersist that wrote it, or a newer one",
            ));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// Whether it tells of the same dump: of the same bytes, or of those that were encrypted on their way to another store.
    pub fn tells_of_the_same(&self, other: &Self) -> bool {
        if self.encryption.is_some() == other.encryption.is_some() {
            return self.sha256 == other.sha256;
        }
        let when = |one: &Self| (one.started_at, one.finished_at);
        (&self.database, &self.cluster, self.system_identifier) == (&other.database, &other.cluster, other.system_identifier)
            && when(self) == when(other)
            && self.uncompressed_bytes == other.uncompressed_bytes
            && self.tables == other.tables
            && self.state == other.state
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// [`Error::Bug`] when a time lies outside of the years that RFC 3339 can write.
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::Bug(format!("a side file is no JSON: {e}")))?;
        if self.encryption.is_some() {
            bytes.truncate(bytes.len() - "\n}".len());
            let digest = hexadecimal(&Sha256::digest(&bytes));
            bytes.extend_from_slice(format!("{BEFORE_DIGEST}{digest}{BEHIND_DIGEST}").as_bytes());
        } else {
            bytes.push(b'\n');
        }
        Ok(bytes.into())
    }
}

/// What is wrong with the digest of a side file; that of an encrypted dump must have one.
fn wrong_digest(key: &ObjectKey, bytes: &[u8]) -> Option<&'static str> {
    let marks = memchr::memmem::rfind(bytes, BEFORE_DIGEST.as_bytes()).map(|place| bytes.split_at(place));
    let Some((before, behind)) = marks else {
        let is_needed = key.as_str().strip_suffix(SIDE_FILE_SUFFIX).is_some_and(|dump| dump.ends_with(ENCRYPTED_SUFFIX));
        return is_needed.then_some("has no digest of itself, so it is not what was written");
    };
    let expected = format!("{BEFORE_DIGEST}{}{BEHIND_DIGEST}", hexadecimal(&Sha256::digest(before)));
    (behind != expected.as_bytes()).then_some("is not what was written: its digest is another one")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    const WRITTEN: &str = r#"{
  "format": 1,
  "database": "customerInvoice",
  "cluster": "main",
  "system_identifier": "7412345678901234567",
  "server_version": "15.18",
  "pg_dump_version": "15.18",
  "pgpersist_version": "0.1.0",
  "started_at": "2026-02-08T09:33:16Z",
  "finished_at": "2026-02-08T09:33:17.25Z",
  "size_bytes": 12000,
  "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "uncompressed_bytes": 60000,
  "tables": {
    "public.orders": 8
  },
  "state": {
    "encoding": "UTF8",
    "locale_provider": "libc",
    "collate": "C.UTF-8",
    "ctype": "C.UTF-8",
    "owner": "postgres",
    "connection_limit": -1
  }
}
"#;

    fn key() -> ObjectKey {
        "backup_20260208_093316.sql.gz.json".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_written_again_alike() {
        let side_file = SideFile::parse(&key(), WRITTEN.as_bytes()).unwrap();
        assert_eq!(side_file.system_identifier, 7_412_345_678_901_234_567);
        assert_eq!(side_file.tables["public.orders"], 8);
        assert_eq!(side_file.to_bytes().unwrap(), WRITTEN);
    }

    #[test]
    fn fields_to_come_are_ignored_and_a_format_to_come_is_refused() {
        let later = WRITTEN.replace(r#""format": 1,"#, r#""format": 1, "colour": {"of": ["magic"]},"#);
        SideFile::parse(&key(), later.as_bytes()).unwrap();
        let error = SideFile::parse(&key(), br#"{"format": 2, "everything": "else"}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("backup_20260208_093316.sql.gz.json has format 2"), "{error}");
    }

    #[test]
    fn what_says_too_little_is_damaged() {
        for (field, wrong) in
            [("\"size_bytes\"", "\"size\""), ("e3b0", "E3B0"), ("\"15.18\"", "\"new\""), ("09:33:16Z", "today"), ("12000", "-1")]
        {
            let text = WRITTEN.replacen(field, wrong, 1);
            assert_ne!(text, WRITTEN);
            let error = SideFile::parse(&key(), text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{field}");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_side_file_of_an_encrypted_dump_is_found_wherever_it_is() {
        let key: ObjectKey = "backup_20260208_093316.sql.gz.age.json".parse().unwrap();
        let plain = SideFile::parse(&self::key(), WRITTEN.as_bytes()).unwrap();
        let recipient: Recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj".parse().unwrap();
        let sealed = SideFile { encryption: Some(SideEncryption { data_key: recipient, recipients: vec![recipient] }), ..plain.clone() };
        let bytes = sealed.to_bytes().unwrap();
        assert_eq!(SideFile::parse(&key, &bytes).unwrap(), sealed);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SideFile::parse(&key, &flipped).unwrap_err().kind(), ErrorKind::Damaged, "{bit}");
        }
        assert_eq!(SideFile::parse(&key, &plain.to_bytes().unwrap()).unwrap_err().kind(), ErrorKind::Damaged);
    }

    proptest! {
        #[test]
        fn a_cut_or_changed_side_file_never_panics(length in 0..WRITTEN.len(), place in 0..WRITTEN.len(), byte in any::<u8>()) {
            let mut bytes = WRITTEN.as_bytes().to_vec();
            bytes[place] = byte;
            let _ = SideFile::parse(&key(), &bytes);
            let error = SideFile::parse(&key(), &bytes[..length]);
            prop_assert!(error.is_err() || WRITTEN[length..].trim().is_empty());
        }
    }
}
