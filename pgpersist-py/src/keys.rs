//! The keys that open what is encrypted in the store: made, listed, given, taken, renewed, tested.

use std::path::{self, PathBuf};

use pyo3::prelude::*;
use serde_json::json;

use crate::cluster::{Ground, NativeCluster};
use crate::operation::{Operation, document, value_answer};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::configured;
use pgpersist_core::encryption::key_file;
use pgpersist_core::encryption::recipient::Recipient;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::key_ring::slot::Holder;
use pgpersist_core::logical::key_admin::KeyFile;
use pgpersist_core::store::ObjectKey;
use pgpersist_core::workers;

fn absolute(file: PathBuf) -> Result<PathBuf> {
    path::absolute(&file).map_err(|error| Error::file("resolve", &file, error))
}

/// Makes a private key in a file.
#[pyfunction]
pub(crate) fn new_key(file: PathBuf) -> Operation {
    Operation::new("`store key new`", async move {
        let file = absolute(file)?;
        let made = file.clone();
        let public_key = workers::run(move || key_file::create(&made, SystemClock.now())).await?;
        Ok(value_answer(json!({ "file": file, "public_key": public_key })))
    })
}

/// The data keys, and who opens them.
#[pyfunction]
pub(crate) fn list_keys(cluster: &NativeCluster) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`store key list`", async move {
        let report = ground.shelf()?.key_report(&SystemClock).await?;
        let mut document = document(&report)?;
        document["warnings"] = json!(report.advice);
        Ok(value_answer(document))
    })
}

/// Wraps every data key for these; for all who are configured where none is given.
#[pyfunction]
pub(crate) fn add_keys(cluster: &NativeCluster, recipients: Vec<String>) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`store key add`", async move {
        let recipients: Vec<Recipient> = recipients.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        let (added, warnings) = ground.shelf()?.add_holders(&recipients).await?;
        Ok(value_answer(json!({ "added": added, "warnings": warnings })))
    })
}

/// Deletes the slots of one of those who open the data keys, or only names them.
#[pyfunction]
pub(crate) fn remove_key(cluster: &NativeCluster, holder: String, consent: bool, only_plan: bool) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`store key remove`", async move {
        let (shelf, holder) = (ground.shelf()?, holder.parse::<Holder>()?);
        let slots = shelf.slots_of_holder(&holder).await?;
        if only_plan {
            return Ok(value_answer(json!({ "removed": slots, "warnings": [] })));
        }
        if !consent {
            let step = |slot: &ObjectKey| format!("delete {slot} from {}", shelf.store());
            return Err(Error::ConsentNeeded { action: "`store key remove`".to_owned(), plan: slots.iter().map(step).collect() });
        }
        let warnings = shelf.remove_holder(&holder, &slots).await?;
        Ok(value_answer(json!({ "removed": slots, "warnings": warnings })))
    })
}

/// Makes a new data key for what comes later.
#[pyfunction]
pub(crate) fn rotate_key(cluster: &NativeCluster) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`store key rotate`", async move {
        let (shelf, warnings) = remembering(&ground).await?;
        let recipients = shelf.must_encrypt()?.recipients.clone();
        let name = shelf.rotate_key(&SystemClock).await?;
        let document = json!({ "name": name.to_string(), "public_key": name.public(), "recipients": recipients, "warnings": warnings });
        Ok(value_answer(document))
    })
}

/// The shelf, with what remembers a new data key where that is at hand.
async fn remembering(ground: &Ground) -> Result<(pgpersist_core::logical::shelf::Shelf, Vec<String>)> {
    let (shelf, config) = (ground.shelf()?, ground.config.clone());
    Ok(match workers::run(move || configured::drill::volume(&config)).await? {
        Some(own) => (shelf.remembering_keys(own), Vec::new()),
        None => {
            let warning = "without the data directory nothing remembers this key: a machine that has public keys only makes another one";
            (shelf, vec![warning.to_owned()])
        }
    })
}

/// Proves that a recovery key opens everything, and records that.
#[pyfunction]
pub(crate) fn test_key(cluster: &NativeCluster, file: PathBuf, is_passphrase: bool) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`store key test`", async move {
        let file = absolute(file)?;
        let file = if is_passphrase { KeyFile::Passphrase(file) } else { KeyFile::Identity(file) };
        Ok(value_answer(document(&ground.shelf()?.test_key_file(file).await?)?))
    })
}
