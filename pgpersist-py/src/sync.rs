//! Copies in other stores: brought up to date, or only planned.

use pyo3::prelude::*;
use serde_json::json;

use crate::cluster::{Ground, NativeCluster};
use crate::operation::{Operation, document, value_answer, with_warnings};
use crate::progress::Told;
use pgpersist_core::error::Result;
use pgpersist_core::logical::sync::request::SyncRequest;

/// Copies what the first store has and the others lack.
#[pyfunction]
pub(crate) fn sync(cluster: &NativeCluster, begin_anew: bool, listener: Py<PyAny>, with_bytes: bool) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`sync`", told.clone(), async move {
        let request = SyncRequest { begin_anew, ..request(&ground)? };
        let report = request.carry_out(told.as_ref()).await?;
        Ok(with_warnings(document(&report)?, &told))
    })
}

/// What that would do.
#[pyfunction]
pub(crate) fn plan_sync(cluster: &NativeCluster) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`sync`", async move { Ok(value_answer(json!({ "stores": document(&request(&ground)?.plan().await?)? }))) })
}

/// Where the cluster is not at hand, nothing is remembered of its stores.
fn request(ground: &Ground) -> Result<SyncRequest> {
    let cluster = ground.config.cluster.data_directory.is_some().then(|| ground.cluster()).transpose()?;
    Ok(SyncRequest { cluster, ..SyncRequest::new(ground.shelf()?) })
}
