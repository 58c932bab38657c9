//! Moving a cluster to another directory: copied, compared, switched, and the source kept.
//!
//! # What is where while it happens
//! The copy grows in the target's own folder, `migration/data`, with a journal of what is durable in it and a marker that
//! says where it comes from. As long as the marker is there and the target holds no cluster, the target's state is
//! half-made: nobody creates a cluster in its place. A run that was killed is continued by the next one.
//!
//! # Why neither copy is ever lost, and both never live
//! 1. *Copy.* The source is only read; a server may run in it. Files that changed are copied again, so a source that was
//!    started in between is no harm.
//! 2. *Stop.* The server is stopped, through whatever would restart it. From here on it is down.
//! 3. *Catch up.* What changed since its own copy began is copied again and compared. `pg_control` is copied last, to a
//!    place outside the copy: no server can start in the copy yet.
//! 4. *Marker: switching.* The copy is durable, compared, and has its configuration. Killed before this: the source is a
//!    whole stopped cluster, which may be started again; the next run begins at 1 with little to do.
//! 5. *The source is set aside*: one rename of its `pg_control`. Before it only the source can start, after it none can. Just
//!    before and after it the source must be what was copied, file by file, and without a server; else the name goes back.
//! 6. *The copy gets its `pg_control` and is published*, by one rename, or entry by entry into a mount point. From here on
//!    only the target can start. Killed between 5 and 6: the next run goes on with 6, from the marker alone.
//! 7. *`/etc` follows*, where Debian keeps the configuration there; then the journal and the marker go.
//!
//! Each step can be repeated. When the target's volume is lost between 5 and 6, the old name of `pg_control` brings the
//! source back: the source's own error tells how.

pub mod configuration;
pub mod debian;
pub mod plan;
pub mod run;

pub(crate) mod access_rules;
mod command_line;
mod copy;
mod facts;
mod folder;
mod journal;
mod source_server;
mod source_tree;
