//! What the page tells, and in which order: `outline` puts it together, a file for each part of it.

pub(super) mod backups;
pub(super) mod drills;
#[cfg(test)]
pub(super) mod fixture;
pub(super) mod outline;
pub(super) mod parts;
pub(super) mod schedules;
pub(super) mod storage;
