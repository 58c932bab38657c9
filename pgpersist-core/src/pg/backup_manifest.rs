//! [`BackupManifest`]: `backup_manifest`, by which `pg_verifybackup` holds a backup against what was written.
//!
//! Source: *Backup Manifest Format*, PostgreSQL 17, and `backup_manifest.c`, PostgreSQL 14 to 18. Version 2, from PostgreSQL 17 on, tells the system
//! identifier, too.

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::pg::lsn::Lsn;

/// What it is called in a backup.
pub const BACKUP_MANIFEST: &str = "backup_manifest";

const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] GMT");
/// The first major version whose manifests are of version 2.
const FIRST_OF_VERSION_2: u32 = 17;

/// What a manifest says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Relative to the data directory, as the file system has it.
    pub path: Vec<u8>,
    /// Its length.
    pub size: u64,
    /// When its content changed.
    pub modified_at: OffsetDateTime,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// The log that makes a backup consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestWal {
    /// The timeline.
    pub timeline: u32,
    /// Where it begins.
    pub start: Lsn,
    /// Where it ends.
    pub end: Lsn,
}

/// A backup, as `pg_verifybackup` knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupManifest {
    /// The major version that made it.
    pub major: u32,
    /// Which cluster it is of.
    pub system_identifier: u64,
    /// All files but the manifest.
    pub files: Vec<ManifestFile>,
    /// The log.
    pub wal: ManifestWal,
}

impl BackupManifest {
    /// The file's text, its own checksum at the end.
    pub fn text(&self) -> String {
        let mut text = if self.major < FIRST_OF_VERSION_2 {
            "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n".to_owned()
        } else {
            format!("{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {},\n", self.system_identifier)
        };
        text.push_str("\"Files\": [");
        for (at, file) in self.files.iter().enumerate() {
            text.push_str(if at == 0 { "\n" } else { ",\n" });
            text.push_str(&file.line());
        }
        let ManifestWal { timeline, start, end } = &self.wal;
        text.push_str("\n],\n\"WAL-Ranges\": [\n");
        text.push_str(&format!("{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \"End-LSN\": \"{end}\" }}\n],\n"));
        // Of all bytes up to the line that it stands in.
        let checksum = hex(&Sha256::digest(&text));
        text.push_str(&format!("\"Manifest-Checksum\": \"{checksum}\"}}\n"));
        text
    }
}

impl ManifestFile {
    fn line(&self) -> String {
        let path = match std::str::from_utf8(&self.path) {
            Ok(path) => format!("\"Path\": {}", serde_json::Value::from(path)),
            Err(_) => format!("\"Encoded-Path\": \"{}\"", hex(&self.path)),
        };
        let modified =
            self.modified_at.to_offset(time::UtcOffset::UTC).format(TIME).unwrap_or_else(|_| "1970-01-01 00:00:00 GMT".to_owned());
        format!(
            "{{ {path}, \"Size\": {}, \"Last-Modified\": \"{modified}\", \"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"{}\" }}",
            self.size,
            hex(&self.sha256)
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn manifest(major: u32) -> BackupManifest {
        let file = |path: &[u8]| ManifestFile {
            path: path.to_vec(),
            size: 3,
            modified_at: datetime!(2026-02-08 09:33:16 UTC),
            sha256: Sha256::digest("15\n").into(),
        };
        BackupManifest {
            major,
            system_identifier: 7_591_234_567_890_123_456,
            files: vec![file(b"PG_VERSION"), file(b"a \"name\""), file(b"base/\xff")],
            wal: ManifestWal { timeline: 1, start: Lsn(0x200_0028), end: Lsn(0x200_0138) },
        }
    }

    #[test]
    fn it_reads_as_it_is_documented() {
        let of_file = "\"Size\": 3, \"Last-Modified\": \"2026-02-08 09:33:16 GMT\", \"Checksum-Algorithm\": \"SHA256\", \
            \"Checksum\": \"238903180cc104ec2c5d8b3f20c5bc61b389ec0a967df8cc208cdc7cd454174f\" }";
        let text = manifest(15).text();
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "{ \"PostgreSQL-Backup-Manifest-Version\": 1,",
            "\"Files\": [",
            &format!("{{ \"Path\": \"PG_VERSION\", {of_file},"),
            &format!("{{ \"Path\": \"a \\\"name\\\"\", {of_file},"),
            &format!("{{ \"Encoded-Path\": \"626173652fff\", {of_file}"),
            "],",
            "\"WAL-Ranges\": [",
            "{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000138\" }",
            "],",
        ];
        assert_eq!(lines[..lines.len() - 1], expected);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn from_17_on_it_tells_the_cluster_and_its_checksum_is_of_all_lines_but_the_last() {
        let text = manifest(17).text();
        assert!(
            text.starts_with("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7591234567890123456,\n\"Files\": [\n")
        );
        let last = text.trim_end().rfind('\n').unwrap() + 1;
        assert_eq!(text[last..], format!("\"Manifest-Checksum\": \"{}\"}}\n", hex(&Sha256::digest(&text[..last]))));
    }
}
