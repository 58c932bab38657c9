//! What the tests share: places that vanish afterwards, the program as a process of its own, and what is compared.

pub(crate) mod cluster;
pub(crate) mod mount;
pub(crate) mod scratch;
pub(crate) mod tree;
pub(crate) mod user;
