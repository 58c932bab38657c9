//! A socket beside the data on which an agent can be asked and told, by whoever owns the cluster: how it is, to stop, and to
//! leave a job to somebody for a while.
//!
//! One connection is one question: a line of JSON goes in ([`protocol`]), a line comes out. [`client`] finds the agent of a
//! cluster; `server` answers for it. The folder that the socket lies in is closed to others.

pub mod client;
pub mod protocol;
pub(crate) mod server;
pub(crate) mod socket;
