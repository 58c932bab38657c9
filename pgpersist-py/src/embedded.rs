//! PostgreSQL's programs that came as a Python package.

use std::path::PathBuf;

use pyo3::prelude::*;

use pgpersist_core::server::brought_along;

/// Has every search of this process look into this folder, after all other places.
#[pyfunction]
pub(crate) fn bring_along(bin_directory: PathBuf) {
    brought_along::bring_along(bin_directory);
}
