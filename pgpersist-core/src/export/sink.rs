//! [`Sink`]: where an exported backup goes, one thing after another. Blocking.

use time::OffsetDateTime;

use crate::error::Result;
use crate::repo::entry::EntryPath;

/// A file that is about to come.
#[derive(Debug, Clone)]
pub struct NextFile {
    /// Relative to the data directory.
    pub path: EntryPath,
    /// Its permission bits.
    pub mode: u32,
    /// How many bytes will come.
    pub size: u64,
    /// When its content changed.
    pub modified_at: OffsetDateTime,
}

/// Takes folders before what is in them, and all bytes of a file before what comes next. What is dropped unfinished leaves nothing.
pub trait Sink: Send {
    /// Makes a folder.
    fn folder(&mut self, path: &EntryPath, mode: u32) -> Result<()>;

    /// Begins a file; exactly as many bytes follow as it says.
    fn begin(&mut self, file: &NextFile) -> Result<()>;

    /// Takes the next bytes of the file.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Takes so many bytes of zero.
    fn zeros(&mut self, count: u64) -> Result<()>;

    /// Ends the file.
    fn end(&mut self) -> Result<()>;

    /// Publishes all of it.
    fn finish(self: Box<Self>) -> Result<()>;
}
