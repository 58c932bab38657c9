//! Bringing the other stores up to date: what the primary store has and a copy lacks goes there, verified, and nothing is
//! ever overwritten or removed.
//!
//! # What is copied
//! The dumps of this cluster, those whose cluster nothing tells, the dumps of roles, the cluster's cards, and the keys of
//! encrypted dumps. Not what only
//! concerns a store itself: leases, and the reports of drills with its dumps. A dump that retention of the copy would drop at
//! once is left out, so that syncing and pruning never take turns.
//!
//! Where the copy is encrypted and the primary store is not, a dump is encrypted on its way, and its side file tells what it is there.
//!
//! # In which order
//! The cards and keys first; then each dump, the newest first, behind the dump of roles that it would be loaded with; its side file last.
//! An object appears whole or not at all. So a copy can be restored from at any moment: what is there of it is good, and
//! a dump without its side file is one that loads. The next run finds that, reads the dump there, and adds the side file when
//! it is what that says.
//!
//! # What is not trusted
//! A dump is hashed on its way and published only when it is what its side file says. What lies under the same name there and
//! is something else is a conflict: it is told and left alone, since nobody here knows which of the two is worth more. Of an encrypted
//! dump only a machine with a key knows what it is; without one its side file is believed, and what has none is left without.

pub mod behind;
mod bringing;
mod objects;
mod passing;
pub mod plan;
pub mod report;
pub mod request;
