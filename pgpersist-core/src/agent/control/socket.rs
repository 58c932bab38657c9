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
        Err(error) if is_nobody(error.kind()) => Ok(None),
        Err(error) => Err(Error::file("connect to", own.path().join(FILE_NAME), error)),
    }
}

/// None was ever there, it was left behind, it ended before it took the call, or the place is closed to us: then it is no business of
/// ours.
fn is_nobody(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotADirectory, NotFound, PermissionDenied};
    matches!(kind, NotFound | ConnectionRefused | ConnectionReset | PermissionDenied | NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Whoever calls while an agent ends is put through by the kernel, and cut off before anybody answered.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_agent_that_ends_while_it_is_called_is_none() {
        let volume = tempfile::tempdir().unwrap();
        let own = OwnFolder::locate(&volume.path().join("data")).unwrap();
        own.create().unwrap();
        let (stop, name) = (AtomicBool::new(false), own.path().join(FILE_NAME));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let listener = std::os::unix::net::UnixListener::bind(&name).unwrap();
                    std::thread::yield_now();
                    drop(listener);
                    durable::remove_file(&name).unwrap();
                }
            });
            let called = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    for _ in 0..3000 {
                        connect(&own).await?;
                    }
                    Ok::<(), Error>(())
                })
            });
            stop.store(true, Ordering::Relaxed);
            called.unwrap();
        });
    }
}
