//! What a kill may leave behind: each command is run as a process, killed at any moment, and run again.
//!
//! The moments are drawn uniformly over the length of an undisturbed run. Half of the kills take pgpersist alone and leave
//! its children alive, half take all of its descendants. A sweep with strace kills at each durable system call besides.
//! Larger counts for `script/proofs`: `PGPERSIST_TEST_ROUNDS`, `PGPERSIST_TEST_SWEEP` (so many points in each sweep),
//! `PGPERSIST_TEST_SEED`.

mod backup;
pub(crate) mod dump;
mod harness;
mod init;
mod load;
pub(crate) mod migrate;
mod prune;
mod prune_backups;
mod read_backups;
mod repository;
mod restore;
mod restore_delta;
mod restored;
mod start;
pub(crate) mod sweep;
mod sync;
pub(crate) mod yard;
