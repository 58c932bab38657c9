//! What the tests share: places that vanish afterwards, the program as a process of its own, what is compared, and the
//! judge, who shares nothing with us.

pub(crate) mod browser;
pub(crate) mod cluster;
pub(crate) mod container;
pub(crate) mod exposition;
pub(crate) mod http;
#[path = "../../../../pgpersist-core/tests/it/support/installation.rs"]
#[expect(dead_code, reason = "the core's tests need more of it")]
pub(crate) mod installation;
pub(crate) mod judge;
pub(crate) mod moments;
pub(crate) mod mount;
pub(crate) mod outside;
pub(crate) mod processes;
pub(crate) mod proof;
pub(crate) mod receiver;
pub(crate) mod scratch;
pub(crate) mod shared_memory;
#[path = "../../../../pgpersist-core/tests/it/support/skip.rs"]
pub(crate) mod skip;
#[path = "../../../../pgpersist-core/tests/it/support/stores/mod.rs"]
#[expect(dead_code, reason = "the core's tests need more of it")]
pub(crate) mod stores;
pub(crate) mod tree;
pub(crate) mod user;
pub(crate) mod volume;
