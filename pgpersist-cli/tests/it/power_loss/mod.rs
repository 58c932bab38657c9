//! What a power failure may take: the volume loses everything that was not synced, at any moment, and after the next boot
//! everything goes on without help.
//!
//! A file system on a loop device is shut down without the flush of its journal, the processes are killed, and it is mounted
//! again. How many cuts for each file system: `PGPERSIST_TEST_ROUNDS`. Each promise has a control in which syncs are left
//! out: it must find a loss, or the cuts prove nothing.

mod commits;
mod dump;
mod init;
mod migrate;
mod swallowed;

use crate::kill::yard::{Place, Yard};
use crate::support::moments::rounds;
use crate::support::volume::FileSystem;

/// How many cuts an everyday run has for each file system.
const EVERYDAY: usize = 1;

const FILE_SYSTEMS: [FileSystem; 2] = [FileSystem::Ext4, FileSystem::Xfs];

fn cuts() -> usize {
    rounds(EVERYDAY)
}

/// Cuts that are aimed between a command's beginning and its end mostly fall there; few prove nothing about that.
fn assert_midway(early: usize, aimed: usize) {
    assert!(aimed < 5 || early * 2 >= aimed, "only {early} of {aimed} cuts fell while the command ran");
}

/// A volume of its own for each file system; nothing, after a line that says so, where none can be mounted.
fn yard(file_system: FileSystem) -> Option<Yard> {
    Yard::new(Place::OnVolume(file_system))
}
