//! Where the socket lies, and how it is reached: its path may be longer than an address can be (108 bytes, *unix(7)*), so it is
//! named through a descriptor of its folder.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use tokio::net::{UnixListener, UnixStream};

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::on_behalf::as_owner;

/// Its name in the folder of our own files.
const FILE_NAME: &str = "control.socket";

/// Its name, and the folder that must stay open as long as it is used.
fn named(own: &OwnFolder) -> io::Result<(PathBuf, File)> {
    let folder = File::open(own.path())?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{FILE_NAME}", folder.as_raw_fd())), folder))
}

/// Listens. The caller holds the claim of the directory: what an agent before left there is nobody's any more.
pub(crate) fn listen(own: &OwnFolder) -> Result<UnixListener> {
    let path = own.path().join(FILE_NAME);
    let left = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if left {
        durable::remove_file(&path)?;
    }
    let failed = |error| Error::file("listen on", own.path().join(FILE_NAME), error);
    let bound = as_owner(own.path(), || {
        let (name, _folder) = named(own).map_err(failed)?;
        let listener = std::os::unix::net::UnixListener::bind(name).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    })?;
    UnixListener::from_std(bound).map_err(failed)
}

/// Connects; none where no agent listens.
pub(crate) async fn connect(own: &OwnFolder) -> Result<Option<UnixStream>> {
    let connected = match named(own) {
        Ok((name, _folder)) => UnixStream::connect(name).await,
        Err(error) => Err(error),
    };
    match connected {
        Ok(stream) => Ok(Some(stream)),
        // None was ever there, it was left behind, or the place is closed to us: then it is no business of ours.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::file("connect to", own.path().join(FILE_NAME), error)),
    }
}
