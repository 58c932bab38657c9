//! [`RescueFile`]: what every repository has with it so that it is restored without pgpersist: a page to read, and a program to run.
//!
//! Each ends in a line with its digest, so that damage is found by whatever version of pgpersist looks, and none needs the text of another. A
//! repository keeps those that it was made with; one that is gone is put again.

use sha2::{Digest, Sha256};

use crate::error::{ErrorKind, Result};
use crate::repo::fault::Fault;
use crate::store::{BackupStore, ObjectKey};

/// Larger than any such file is.
const MOST_BYTES: u64 = 1 << 20;
/// What stands before the digest in the last line.
const WORD: &str = "sha256";

/// A file for people who have a repository and no pgpersist.
#[derive(Debug, Clone, Copy)]
pub struct RescueFile {
    /// Its key below the repository's folder.
    pub name: &'static str,
    text: &'static str,
    /// How a comment begins and ends in it.
    comment: (&'static str, &'static str),
}

/// All of them.
pub const RESCUE_FILES: [RescueFile; 2] = [
    RescueFile { name: "RESTORE.md", text: include_str!("RESTORE.md"), comment: ("<!-- ", " -->") },
    RescueFile { name: "restore.py", text: include_str!("restore.py"), comment: ("# ", "") },
];

impl RescueFile {
    /// The object's bytes: the text, and a last line that holds it to its name.
    pub fn object(&self) -> Vec<u8> {
        [self.text.as_bytes(), self.last_line(self.text.as_bytes()).as_bytes()].concat()
    }

    fn last_line(&self, text: &[u8]) -> String {
        let digest = Sha256::new().chain_update(self.name).chain_update([0]).chain_update(text).finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let (before, after) = self.comment;
        format!("{before}{WORD} {hex}{after}\n")
    }

    /// Whether these are the bytes that some pgpersist put there.
    ///
    /// # Errors
    /// `CutOff` when the last line is none, `Digest` when it is another one's.
    pub fn check(&self, object: &[u8]) -> Result<(), Fault> {
        let whole = object.strip_suffix(b"\n").ok_or(Fault::CutOff)?;
        let text = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (text, line) = object.split_at(text);
        if self.last_line(text).as_bytes() == line { Ok(()) } else { Err(Fault::Digest) }
    }

    /// Reads it and holds it against its own digest.
    ///
    /// # Errors
    /// What the store says, with `NotFound` where it is gone.
    pub(super) async fn look(&self, store: &dyn BackupStore, key: &ObjectKey) -> Result<Result<(), Fault>> {
        if store.head(key).await?.size_bytes > MOST_BYTES {
            return Ok(Err(Fault::TooLong));
        }
        Ok(self.check(&store.get(key).await?))
    }
}

/// Puts those that are not there.
///
/// # Errors
/// What the store says.
pub(super) async fn put_missing(store: &dyn BackupStore, folder: &ObjectKey) -> Result<()> {
    for file in RESCUE_FILES {
        let key = folder.join(file.name)?;
        match store.head(&key).await {
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match store.put_if_absent(&key, file.object().into()).await {
            Ok(()) => {}
            // Somebody else was faster.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bit_and_every_length_counts() {
        for file in RESCUE_FILES {
            let good = file.object();
            assert_eq!(file.check(&good), Ok(()));
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                assert!(file.check(&bad).is_err(), "byte {at} of {}", file.name);
            }
            for length in (0..good.len()).rev().take(200).chain([0, 1]) {
                assert!(file.check(&good[..length]).is_err(), "{length} bytes of {}", file.name);
            }
        }
    }

    #[test]
    fn none_passes_for_another_and_an_older_text_passes() {
        let [page, program] = RESCUE_FILES;
        assert_eq!(page.check(&program.object()), Err(Fault::Digest));
        assert_eq!(program.check(&page.object()), Err(Fault::Digest));
        let older = RescueFile { text: "print('older')\n", ..program };
        assert_eq!(program.check(&older.object()), Ok(()));
        assert!(String::from_utf8(older.object()).unwrap().starts_with("print('older')\n# sha256 "));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            prop_assert!(RESCUE_FILES.iter().all(|file| file.check(&bytes).is_err()));
        }
    }
}
