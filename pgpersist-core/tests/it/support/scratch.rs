//! A folder that vanishes with its handle, in which the user who runs PostgreSQL may write.

use std::path::{Path, PathBuf};

use crate::support::installation::server_user;

/// A folder in the system's temporary folder.
#[derive(Debug)]
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one. It belongs to the user who runs PostgreSQL.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pgpersist-test-").tempdir().expect("the temporary folder takes a folder");
        if let Some(user) = server_user() {
            std::os::unix::fs::chown(folder.path(), Some(user.uid), Some(user.gid)).expect("root may give a folder away");
        }
        Self(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
