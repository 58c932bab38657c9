//! The native module of the Python package: registers classes and functions, nothing else.
//!
//! What an operation is in Python stands in [`operation`]; the layer above, in `python/pgpersist/`, gives it two faces,
//! its types and its documentation.

mod agent;
mod arguments;
mod cluster;
mod config;
mod drill;
mod dumps;
mod exceptions;
mod invariant;
mod migrate;
mod operation;
mod progress;
mod runtime;
mod store;
mod temporary;
mod value;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::agent::NativeAgent;
    #[pymodule_export]
    use crate::cluster::NativeCluster;
    #[pymodule_export]
    use crate::config::NativeConfig;
    #[pymodule_export]
    use crate::drill::{crash_drill, past_drills, restore_drill};
    #[pymodule_export]
    use crate::dumps::{dump, find_dump, list_dumps, load, prune, verify_dumps};
    #[pymodule_export]
    use crate::invariant::Query;
    #[pymodule_export]
    use crate::migrate::{migrate, plan_migrate};
    #[pymodule_export]
    use crate::operation::Operation;
    #[pymodule_export]
    use crate::runtime::close;
    #[pymodule_export]
    use crate::store::NativeStore;
    #[pymodule_export]
    use crate::temporary::NativeTemporaryCluster;

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
