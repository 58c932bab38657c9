//! The bearer token: read from a file, and compared in a time that tells nothing.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::fs::secret_file::{self, MAX_BYTES};

/// What opens the details of an agent's answers. Only its hash is kept.
#[derive(Clone)]
pub struct Token {
    hash: [u8; 32],
}

impl Token {
    /// From its text.
    ///
    /// # Errors
    /// `Invalid` when it is empty, too long, or no header could carry it.
    pub fn new(text: &str) -> Result<Self> {
        let make = "make one with `openssl rand -hex 32`";
        if text.is_empty() {
            return Err(Error::invalid("the token is empty", make));
        }
        if text.len() > MAX_BYTES {
            return Err(Error::invalid(format!("the token is longer than {MAX_BYTES} bytes"), make));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("the token holds more than letters, digits and signs of ASCII, so no client could send it", make));
        }
        Ok(Self { hash: Sha256::digest(text).into() })
    }

    /// From a file, without the line break at its end. Blocking.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read; `Invalid` when everybody could read it, when it is no plain file, and as
    /// [`Token::new`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = secret_file::read(path, "token", "[health] token_file")?;
        let shown = path.display();
        Self::new(text.expose()).map_err(|error| {
            let remedy = format!("write one into it: `openssl rand -hex 32 > {shown}`");
            Error::invalid(format!("{error} ({shown})"), remedy)
        })
    }

    /// Whether this is it. Hashes are compared, and all of their bytes: how long that takes tells neither how much of a guess
    /// was right nor how long the token is.
    pub(crate) fn fits(&self, offered: &[u8]) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered).into();
        let difference = self.hash.iter().zip(offered).fold(0, |difference, (own, other)| difference | (own ^ other));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error::ErrorKind;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file.as_file().set_permissions(Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn only_the_whole_token_fits_and_its_line_break_is_no_part_of_it() {
        for content in [b"hunter2\n".as_slice(), b"hunter2\r\n", b"hunter2"] {
            let token = Token::read(file(content, 0o440).path()).unwrap();
            assert!(token.fits(b"hunter2"));
            for wrong in ["", "hunter", "hunter22", "Hunter2", "hunter2\n"] {
                assert!(!token.fits(wrong.as_bytes()), "{wrong}");
            }
            assert_eq!(format!("{token:?}"), "***");
        }
    }

    #[test]
    fn a_file_that_is_not_right_says_what_to_do() {
        for (content, mode, expected) in [
            (b"hunter2".as_slice(), 0o444, "open to every user"),
            (b"\n".as_slice(), 0o400, "the token is empty"),
            (b"two words".as_slice(), 0o400, "no client could send it"),
            (b"\xff\xfe".as_slice(), 0o400, "no client could send it"),
            ([b'x'; 9000].as_slice(), 0o400, "longer than"),
        ] {
            let file = file(content, mode);
            let error = Token::read(file.path()).unwrap_err();
            let told = format!("{error}; {}", error.remedy().unwrap());
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(told.contains(expected) && told.contains(file.path().to_str().unwrap()) && !told.contains("hunter2"), "{told}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Token::read(folder.path()).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(Token::read(&folder.path().join("absent")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
