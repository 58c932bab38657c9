//! Carries a backup from where it is read to where it goes, and hashes it on the way: reading is async, writing is not, and a queue of
//! [`QUEUE`] pieces lies between them.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::export::sink::{NextFile, Sink};
use crate::pg::backup_manifest::ManifestFile;
use crate::repo::entry::EntryPath;

/// How large a piece is.
pub const PIECE_BYTES: usize = 1 << 20;
/// How many pieces wait: 4 MiB.
pub const QUEUE: usize = 4;

/// Zeros to hash.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// A folder.
    Folder(EntryPath, u32),
    /// A file, whose bytes follow.
    File(NextFile),
    /// Bytes of the file.
    Bytes(Bytes),
    /// So many bytes of zero.
    Zeros(u64),
    /// Nothing any more.
    End,
}

/// A file on its way.
struct Passing {
    file: NextFile,
    digest: Sha256,
    left: u64,
}

impl Passing {
    fn take(&mut self, count: u64) -> Result<()> {
        let left = self.left.checked_sub(count);
        self.left = left.ok_or_else(|| Error::Bug("a file is longer than was said".to_owned()))?;
        Ok(())
    }
}

/// Hands on what comes, and tells of each file what a manifest says. Blocking.
///
/// # Errors
/// What the sink says; `Cancelled` when whoever reads has ended early, and knows why.
pub fn carry(mut coming: mpsc::Receiver<Next>, sink: &mut dyn Sink) -> Result<Vec<ManifestFile>> {
    let (mut told, mut passing): (Vec<ManifestFile>, Option<Passing>) = (Vec::new(), None);
    let nothing = || Error::Bug("bytes come without a file".to_owned());
    while let Some(next) = coming.blocking_recv() {
        match next {
            Next::Bytes(bytes) => {
                let passing = passing.as_mut().ok_or_else(nothing)?;
                passing.take(bytes.len() as u64)?;
                passing.digest.update(&bytes);
                sink.write(&bytes)?;
            }
            Next::Zeros(count) => {
                let passing = passing.as_mut().ok_or_else(nothing)?;
                passing.take(count)?;
                let mut left = count;
                while left > 0 {
                    let now = left.min(ZEROS.len() as u64);
                    passing.digest.update(&ZEROS[..now as usize]);
                    left -= now;
                }
                sink.zeros(count)?;
            }
            Next::Folder(path, mode) => {
                told.extend(end(&mut passing, sink)?);
                sink.folder(&path, mode)?;
            }
            Next::File(file) => {
                told.extend(end(&mut passing, sink)?);
                sink.begin(&file)?;
                passing = Some(Passing { left: file.size, file, digest: Sha256::new() });
            }
            Next::End => {
                told.extend(end(&mut passing, sink)?);
                return Ok(told);
            }
        }
    }
    Err(Error::Cancelled { what: "exporting a backup".to_owned() })
}

fn end(passing: &mut Option<Passing>, sink: &mut dyn Sink) -> Result<Option<ManifestFile>> {
    let Some(Passing { file, digest, left }) = passing.take() else { return Ok(None) };
    if left > 0 {
        return Err(Error::Bug("a file is shorter than was said".to_owned()));
    }
    sink.end()?;
    Ok(Some(ManifestFile {
        path: file.path.as_bytes().to_vec(),
        size: file.size,
        modified_at: file.modified_at,
        sha256: digest.finalize().into(),
    }))
}
