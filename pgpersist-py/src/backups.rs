//! Physical backups: made, listed, restored, exported.

use std::num::NonZeroU64;
use std::path::{self, PathBuf};

use pyo3::prelude::*;
use serde_json::json;

use crate::arguments::one_of;
use crate::cluster::NativeCluster;
use crate::operation::{Operation, document, value_answer, with_warnings};
use crate::progress::Told;
use pgpersist_core::agent::supervising;
use pgpersist_core::backup::physical::BackupOptions;
use pgpersist_core::clock::SystemClock;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::export::physical::Destination;
use pgpersist_core::pg::lsn::Lsn;
use pgpersist_core::progress::{Event, ProgressSink};
use pgpersist_core::repo::catalog;
use pgpersist_core::repo::frame::Compression;
use pgpersist_core::restore::physical::RestoreOptions;
use pgpersist_core::restore::tablespaces::TablespaceMapping;
use pgpersist_core::schedule;
use pgpersist_core::server::base_backup::Checkpoint;

/// How a backup is made; what is not given is as the library does it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct How {
    label: Option<String>,
    checkpoint: String,
    compression: String,
    jobs: Option<usize>,
    rate_limit: Option<u64>,
    full_read: bool,
}

/// Makes a backup, or only tells what it would do.
#[pyfunction]
pub(crate) fn backup(cluster: &NativeCluster, how: How, only_plan: bool, listener: Py<PyAny>, with_bytes: bool) -> PyResult<Operation> {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    let checkpoint = one_of(&how.checkpoint, "checkpoint", &[("fast", Checkpoint::Fast), ("spread", Checkpoint::Spread)])?;
    let codecs = [("zstd", Compression::default()), ("lz4", Compression::Lz4), ("none", Compression::Plain)];
    let compression = one_of(&how.compression, "compression", &codecs)?;
    Ok(Operation::told("`backup`", told.clone(), async move {
        let config = ground.config_here();
        let usual = configured::backup::options(&config);
        let options = BackupOptions {
            label: how.label,
            checkpoint,
            compression,
            workers: how.jobs.unwrap_or(usual.workers),
            rate_limit: how.rate_limit.and_then(NonZeroU64::new),
            full_read_days: if how.full_read { 0 } else { usual.full_read_days },
            ..usual
        };
        let request = configured::backup::backup(&config, options)?;
        if only_plan {
            let step = format!("back up {} to {}", request.cluster.path().display(), request.store);
            return Ok(value_answer(json!({ "plan": [step] })));
        }
        let _held = supervising::hold(schedule::BACKUP, &request.cluster, told.as_ref()).await?;
        let report = request.carry_out(&SystemClock, told.as_ref()).await?;
        for page in &report.damaged {
            told.event(Event::Warning(format!("{}: block {} is damaged on the disk", page.path, page.block)));
        }
        Ok(with_warnings(document(&report)?, &told))
    }))
}

/// All backups, the newest first.
#[pyfunction]
pub(crate) fn list_backups(cluster: &NativeCluster, listener: Py<PyAny>, with_bytes: bool) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`list`", told.clone(), async move {
        let config = ground.config_here();
        configured::stores::existing_shelf(&config, told.as_ref())?;
        let (backups, wrong) = match configured::backup::repository(&config).await? {
            Some(repository) => catalog::list(&repository).await?,
            None => Default::default(),
        };
        wrong.iter().for_each(|error| told.event(Event::Warning(error.to_string())));
        Ok(with_warnings(json!({ "backups": document(&backups)? }), &told))
    })
}

/// One backup, by its name or as the latest good one.
#[pyfunction]
pub(crate) fn find_backup(cluster: &NativeCluster, name: String) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`show`", async move {
        let (repository, backup) = configured::backup::find(&ground.config_here(), &name).await?;
        Ok(value_answer(document(&catalog::show(&repository, backup).await?)?))
    })
}

/// Where a backup is restored to, and what becomes of what is there.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Whereto {
    tablespaces: Vec<(String, PathBuf)>,
    in_place: bool,
    delta: bool,
    discard_unshipped_wal: Option<String>,
    without_damaged: bool,
    consent: bool,
}

impl Whereto {
    fn options(self) -> Result<RestoreOptions> {
        let tablespaces = self.tablespaces.into_iter().map(|(tablespace, location)| TablespaceMapping { tablespace, location }).collect();
        let discard_unshipped_wal = self.discard_unshipped_wal.map(|text| {
            let wrong =
                |_| Error::invalid(format!("`{text}` is no position in a log, such as 16/4D000000"), "take the one that the plan tells");
            text.parse::<Lsn>().map_err(wrong)
        });
        Ok(RestoreOptions {
            tablespaces,
            in_place: self.in_place,
            delta: self.delta,
            discard_unshipped_wal: discard_unshipped_wal.transpose()?,
            without_damaged: self.without_damaged,
            consent: self.consent,
            ..RestoreOptions::default()
        })
    }
}

/// Makes a data directory of a backup, or only tells what that would do.
#[pyfunction]
pub(crate) fn restore(
    cluster: &NativeCluster,
    name: String,
    whereto: Whereto,
    only_plan: bool,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`restore`", told.clone(), async move {
        let request = configured::backup::restore(&ground.config_here(), name, whereto.options()?)?;
        if only_plan {
            let plan = request.plan(told.as_ref()).await?;
            plan.warnings.iter().for_each(|warning| told.event(Event::Warning(warning.clone())));
            return Ok(with_warnings(document(&plan)?, &told));
        }
        let report = request.carry_out(told.as_ref()).await?;
        Ok(with_warnings(document(&report)?, &told))
    })
}

/// Writes a backup as PostgreSQL's own tools know one, or only tells where to.
#[pyfunction]
pub(crate) fn export(
    cluster: &NativeCluster,
    name: String,
    path: PathBuf,
    tar: bool,
    only_plan: bool,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`export`", told.clone(), async move {
        let path = path::absolute(&path).map_err(|error| Error::file("resolve", &path, error))?;
        let destination = if tar { Destination::Archive(path.clone()) } else { Destination::Directory(path.clone()) };
        let request = configured::backup::export(&ground.config_here(), name, destination)?;
        if only_plan {
            let (_, backup) = request.find(told.as_ref()).await?;
            request.destination.check()?;
            return Ok(value_answer(json!({ "plan": [format!("export {backup} to {}", path.display())] })));
        }
        Ok(with_warnings(document(&request.carry_out(told.as_ref()).await?)?, &told))
    })
}
