//! A secret in a file of its own: who may have put it there, and what it may hold.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::secret::Secret;

/// A longer one is something else, and does not fit into a request.
pub(crate) const MAX_BYTES: usize = 4096;

/// Reads a secret, without the line break at its end. `what` says what it is, such as `token`, and `key` where the file is named.
/// Blocking.
///
/// # Errors
/// [`Error::File`] when it cannot be read; `Invalid` when everybody could read it, and when it is no plain file.
pub fn read(path: &Path, what: &'static str, key: &str) -> Result<Secret<String>> {
    let shown = path.display();
    let action = match what {
        "token" => "read the token in",
        "key" => "read the key in",
        "passphrase" => "read the passphrase in",
        _ => "read the address in",
    };
    let failed = |error| Error::file(action, path, error);
    // A pipe would block until somebody writes into it.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::invalid(format!("{shown} is no plain file, so it holds no {what}"), format!("name a file in `{key}`")));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(Error::invalid(
            format!("the {what} in {shown} is open to every user of this machine"),
            format!("close it: `chmod o= {shown}`; as a Secret of Kubernetes it wants `defaultMode: 0440`"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(2 * MAX_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
    // What is no text is refused like any other sign that does not belong there.
    let text = String::from_utf8_lossy(&bytes);
    Ok(Secret::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}
