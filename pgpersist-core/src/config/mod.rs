//! The configuration: what can be set, where each value came from, and what is wrong with it. Stands above what it
//! configures, so nothing below reads it.
//!
//! Sources, weakest first:
//!
//! 1. the default, which is safe;
//! 2. libpq's environment (`PGDATA`, `PGPORT`, and others): it speaks of *some* server of this login or image;
//! 3. the file: it speaks of *this* cluster, so a `PGDATA` that an image brings along does not move it;
//! 4. `PGPERSIST_<SECTION>_<KEY>`: meant for us and nobody else;
//! 5. the command line;
//! 6. what a program gives that embeds us.
//!
//! Every value is checked, also one that a stronger source replaces: a typo is found before the day it would matter.

pub mod connection;
pub mod environment;
pub mod file;
pub mod keys;
pub(crate) mod layer;
pub mod load;
pub mod password_file;
pub mod sources;
pub mod value;
