//! Clusters that vanish with their handle: copied from a template that `initdb` made once, started within a blink, gone
//! when the handle is dropped, and also when the process that holds it is killed.

pub mod clone;
pub mod cluster;
pub mod installed;
pub mod scratch;
pub mod server;
pub mod sweeper;
pub mod template;
