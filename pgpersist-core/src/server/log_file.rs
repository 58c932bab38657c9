//! The server's log: one file that we rotate, bounded in number and size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::os_user::OsUser;
use crate::fs::{durable, hand_over, on_behalf};

/// A log larger than this is rotated.
pub const ROTATE_BYTES: u64 = 10 * 1024 * 1024;
/// So many rotated logs are kept: `postgresql.log.1` is the newest.
pub const KEPT: u32 = 5;

/// The log file in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    path: PathBuf,
    user: Option<OsUser>,
}

impl LogFile {
    /// The log in this folder; nothing is created.
    pub fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join("postgresql.log"), user: None }
    }

    /// The same as the log of this user, whom root makes its folder for.
    #[must_use]
    pub fn of_user(self, user: Option<OsUser>) -> Self {
        Self { user: user.filter(|_| rustix::process::geteuid().is_root()), ..self }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size, 0 when it does not exist: where the next server's lines begin.
    pub fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Opens it for a server to append to, and creates it and its folder when missing.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(&self) -> Result<File> {
        if let Some(folder) = self.path.parent() {
            if folder.exists() && !folder.is_dir() {
                return Err(Error::invalid(
                    format!("the log's folder {} is a file", folder.display()),
                    "set `[log] directory` to a folder, or remove it: then the log lies beside the data",
                ));
            }
            if let Some(user) = &self.user {
                hand_over::prepare(folder, user)?;
            }
            self.as_writer(|| durable::create_directories(folder, 0o700))?;
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        self.as_writer(|| options.open(&self.path).map_err(|e| Error::file("open the log", &self.path, e)))
    }

    /// Rotates a log that has grown too large while no server writes to it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn rotate(&self) -> Result<()> {
        if self.size() < ROTATE_BYTES {
            return Ok(());
        }
        self.as_writer(|| {
            self.make_room()?;
            durable::rename(&self.path, &self.numbered(1))
        })
    }

    /// Rotates a log that has grown too large under a running server: copies it away and empties it. The server appends,
    /// so its next line starts the file anew; lines written during the copy may be lost.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn rotate_under_server(&self) -> Result<()> {
        if self.size() < ROTATE_BYTES {
            return Ok(());
        }
        self.as_writer(|| {
            self.make_room()?;
            fs::copy(&self.path, self.numbered(1)).map_err(|e| Error::file("copy the log", &self.path, e))?;
            let file = OpenOptions::new().write(true).open(&self.path).map_err(|e| Error::file("open the log", &self.path, e))?;
            file.set_len(0).map_err(|e| Error::file("empty the log", &self.path, e))
        })
    }

    /// The last lines that were written after `offset`, as text; empty when there is nothing.
    pub fn tail(&self, offset: u64, lines: usize) -> String {
        let Ok(bytes) = self.read_after(offset) else {
            return String::new();
        };
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn read_after(&self, offset: u64) -> io::Result<Vec<u8>> {
        const MOST: u64 = 64 * 1024;
        let mut file = File::open(&self.path)?;
        let size = file.metadata()?.len();
        let start = if offset > size { 0 } else { offset };
        file.seek(SeekFrom::Start(start.max(size.saturating_sub(MOST))))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// As whom its files are written, so that whoever reads and rotates them next time may.
    fn as_writer<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_behalf::as_user_or_owner(self.user.as_ref(), self.path.parent().unwrap_or(&self.path), work)
    }

    fn make_room(&self) -> Result<()> {
        durable::remove_file(&self.numbered(KEPT))?;
        for number in (1..KEPT).rev() {
            if self.numbered(number).exists() {
                durable::rename(&self.numbered(number), &self.numbered(number + 1))?;
            }
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_rotated_and_the_number_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogFile::in_folder(folder.path());
        for _ in 0..8 {
            log.open().unwrap().set_len(ROTATE_BYTES).unwrap();
            log.rotate().unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count() as u32, KEPT);
        log.open().unwrap().set_len(ROTATE_BYTES).unwrap();
        log.rotate_under_server().unwrap();
        assert_eq!(log.size(), 0);
    }

    #[test]
    fn tells_the_last_lines_of_this_start_only() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogFile::in_folder(folder.path());
        io::Write::write_all(&mut log.open().unwrap(), b"old\n").unwrap();
        let offset = log.size();
        io::Write::write_all(&mut log.open().unwrap(), b"one\ntwo\nthree\n").unwrap();
        assert_eq!(log.tail(offset, 2), "two\nthree");
        assert_eq!(log.tail(0, 9), "old\none\ntwo\nthree");
    }
}
