//! The native module of the Python package: registers classes and functions, nothing else.
//!
//! What an operation is in Python stands in `operation`; the layer above, in `python/pgpersist/`, gives it two faces,
//! its types and its documentation.

mod agent;
mod arguments;
mod backups;
mod cluster;
mod command;
mod config;
mod drill;
mod dumps;
mod embedded;
mod exceptions;
mod health;
mod home;
mod invariant;
mod keys;
mod migrate;
mod operation;
mod overview;
mod progress;
mod python_call;
mod python_check;
mod python_store;
mod python_upload;
mod runtime;
mod session;
mod store;
mod sync;
mod temporary;
mod testing;
mod thrown;
mod value;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::agent::NativeAgent;
    #[pymodule_export]
    use crate::backups::{backup, export, find_backup, list_backups, restore};
    #[pymodule_export]
    use crate::cluster::NativeCluster;
    #[pymodule_export]
    use crate::command::run_command;
    #[pymodule_export]
    use crate::config::NativeConfig;
    #[pymodule_export]
    use crate::drill::{crash_drill, past_drills, plan_crash_drill, plan_restore_drill, render_crash, render_restore, restore_drill};
    #[pymodule_export]
    use crate::dumps::{dump, find_dump, list_dumps, load, plan_dump, plan_load, prune, verify};
    #[pymodule_export]
    use crate::embedded::bring_along;
    #[pymodule_export]
    use crate::health::{health, render_health};
    #[pymodule_export]
    use crate::home::enter_background;
    #[pymodule_export]
    use crate::invariant::Query;
    #[pymodule_export]
    use crate::keys::{add_keys, list_keys, new_key, remove_key, rotate_key, test_key};
    #[pymodule_export]
    use crate::migrate::{migrate, plan_migrate};
    #[pymodule_export]
    use crate::operation::Operation;
    #[pymodule_export]
    use crate::overview::{NativeOverview, overview};
    #[pymodule_export]
    use crate::python_upload::NativeSource;
    #[pymodule_export]
    use crate::runtime::{after_fork, close};
    #[pymodule_export]
    use crate::session::NativeSession;
    #[pymodule_export]
    use crate::store::{NativeStore, NativeUpload};
    #[pymodule_export]
    use crate::sync::{plan_sync, sync};
    #[pymodule_export]
    use crate::temporary::NativeTemporaryCluster;
    #[pymodule_export]
    use crate::testing::{check_health_check, check_store};

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
