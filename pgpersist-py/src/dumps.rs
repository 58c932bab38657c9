//! Dumps: made, loaded, listed, verified, pruned.

use std::sync::Arc;

use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::cluster::NativeCluster;
use crate::operation::{Operation, document, value_answer, with_warnings};
use crate::progress::Told;
use pgpersist_core::agent::supervising;
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::all_stores::AllStores;
use pgpersist_core::logical::dump::RolePasswords;
use pgpersist_core::logical::dump_request::DumpRequest;
use pgpersist_core::logical::load_found::{self, load_found};
use pgpersist_core::logical::load_options::{Existing, LoadOptions, LoadedOwners, OtherSessions, Trust};
use pgpersist_core::logical::prune::Consent;
use pgpersist_core::logical::prune_all;
use pgpersist_core::logical::shelf::DumpEntry;
use pgpersist_core::logical::verify::Depth;
use pgpersist_core::logical::verify_all::verify_all;
use pgpersist_core::progress::ProgressSink;
use pgpersist_core::retention::Retention;
use pgpersist_core::schedule;
use pgpersist_core::server::clients;
use pgpersist_core::workers;

/// Dumps databases; none named means the configured ones, else all.
#[pyfunction]
pub(crate) fn dump(
    cluster: &NativeCluster,
    databases: Vec<String>,
    role_passwords: bool,
    begin_anew: bool,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`dump`", told.clone(), async move {
        let config = ground.config_here();
        let request = DumpRequest {
            role_passwords: if role_passwords { RolePasswords::Keep } else { RolePasswords::LeaveOut },
            begin_anew,
            ..configured::dump::request(&config, databases)?
        };
        let held = supervising::hold(schedule::DUMP, &request.cluster, told.as_ref()).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let report = request.carry_out(&clock, told.as_ref()).await?;
        drop(held);
        // A copy that fails is a warning: the dumps stand.
        request.copy(told.as_ref()).await;
        let cluster = request.cluster.clone();
        workers::run(move || {
            configured::dump::remember_room(&config, &cluster);
            Ok(())
        })
        .await?;
        Ok(with_warnings(document(&report)?, &told))
    })
}

/// What that would do.
#[pyfunction]
pub(crate) fn plan_dump(cluster: &NativeCluster, databases: Vec<String>, begin_anew: bool) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`dump`", async move {
        let request = DumpRequest { begin_anew, ..configured::dump::request(&ground.config_here(), databases)? };
        Ok(value_answer(json!({ "plan": request.plan().await? })))
    })
}

/// Loads a dump into a database, all or nothing.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the layer above has names and defaults for them")]
pub(crate) fn load(
    cluster: &NativeCluster,
    name: String,
    database: Option<String>,
    clean: bool,
    disconnect: bool,
    trust: bool,
    no_owner: bool,
    accept_locale: bool,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`load`", told.clone(), async move {
        let cluster = ground.cluster()?;
        let config = ground.config_here();
        let found = configured::load::find(&config, &name, database.as_deref(), told.as_ref()).await?;
        let database = configured::load::database(&config, &found, database.as_deref())?;
        let connection = cluster.connection("postgres").await?;
        let psql = clients::directory(&cluster, &connection, "psql").await?.join("psql");
        let options = LoadOptions {
            existing: if clean { Existing::KeepAside } else { Existing::Refuse },
            other_sessions: if disconnect { OtherSessions::Disconnect } else { OtherSessions::Refuse },
            trust: if trust { Trust::Superuser } else { found.trust },
            owners: if no_owner { LoadedOwners::DatabaseOwner } else { LoadedOwners::AsDumped },
            accept_locale,
            ..LoadOptions::new(connection, psql, database)
        };
        let (clock, sink): (Arc<dyn Clock>, Arc<dyn ProgressSink>) = (Arc::new(SystemClock), told);
        Ok(value_answer(document(&load_found(&options, found, &clock, &sink).await?)?))
    })
}

/// What that would do.
#[pyfunction]
pub(crate) fn plan_load(
    cluster: &NativeCluster,
    name: String,
    database: Option<String>,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`load`", told.clone(), async move {
        let config = ground.config_here();
        let found = configured::load::find(&config, &name, database.as_deref(), told.as_ref()).await?;
        let database = configured::load::database(&config, &found, database.as_deref())?;
        let mut document = json!({ "plan": load_found::plan(&found, &database) });
        // That another store is asked is said of a load in its report.
        document["warnings"] = json!(found.warnings.iter().chain(&told.warnings()).collect::<Vec<_>>());
        Ok(value_answer(document))
    })
}

/// All dumps of the cluster, the newest first, and the stores that were asked.
#[pyfunction]
pub(crate) fn list_dumps(cluster: &NativeCluster, listener: Py<PyAny>, with_bytes: bool) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`list`", told.clone(), async move {
        let shelf = configured::stores::existing_shelf(&ground.config_here(), told.as_ref())?;
        let all = AllStores::look(&shelf, told.as_ref()).await?;
        let dumps = all.list_with_places().into_iter().map(|(entry, places)| listed(entry, places)).collect::<Result<Vec<_>>>()?;
        let stores: Vec<Value> =
            all.stores().map(|(place, shelf, why)| json!({ "place": place, "store": shelf.store().to_string(), "error": why })).collect();
        Ok(with_warnings(json!({ "backups": [], "dumps": dumps, "windows": [], "stores": stores }), &told))
    })
}

/// One dump, by its name or as the latest.
#[pyfunction]
pub(crate) fn find_dump(
    cluster: &NativeCluster,
    name: String,
    database: Option<String>,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`show`", told.clone(), async move {
        let all = AllStores::look(&ground.shelf()?, told.as_ref()).await?;
        let entry = all.find(&name, database.as_deref())?;
        let places = all.places(&entry.name).iter().map(|placed| placed.place).collect();
        Ok(value_answer(listed(entry, places)?))
    })
}

/// A dump with the places of the stores that have it.
fn listed(entry: &DumpEntry, mut places: Vec<usize>) -> Result<Value> {
    places.sort_unstable();
    let mut document = document(entry)?;
    document["stores"] = json!(places);
    if let Some(side_file) = &entry.side_file {
        document["sha256"] = json!(side_file.sha256);
        document["rows"] = json!(side_file.tables.values().sum::<u64>());
    }
    Ok(document)
}

/// Compares dumps and backups with what was written.
#[pyfunction]
pub(crate) fn verify(
    cluster: &NativeCluster,
    name: Option<String>,
    database: Option<String>,
    quick: bool,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> Operation {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    Operation::told("`verify`", told.clone(), async move {
        let config = ground.config_here();
        if let Some(backup) = name.as_deref().and_then(|name| name.parse().ok()) {
            let report = configured::backup::verify(&config, Some(backup), quick, told.as_ref()).await?;
            return Ok(value_answer(document(&report)?));
        }
        let depth = if quick { Depth::Quick } else { Depth::Full };
        let dumps = verify_all(&ground.shelf()?, name.as_deref(), database.as_deref(), depth, told.as_ref()).await?;
        let mut document = document(&dumps)?;
        if name.is_none() && database.is_none() {
            configured::backup::verify(&config, None, quick, told.as_ref()).await?.add_to(&mut document);
        }
        Ok(value_answer(document))
    })
}

/// The rules of retention, each only where it is given; else the configured ones.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Rules {
    keep_days: Option<u32>,
    keep_last: Option<u32>,
    keep_daily: Option<u32>,
    keep_weekly: Option<u32>,
    keep_monthly: Option<u32>,
    max_bytes: Option<u64>,
}

impl Rules {
    fn over(&self, configured: Retention) -> Retention {
        Retention {
            keep_days: self.keep_days.or(configured.keep_days),
            keep_last: self.keep_last.or(configured.keep_last),
            keep_daily: self.keep_daily.or(configured.keep_daily),
            keep_weekly: self.keep_weekly.or(configured.keep_weekly),
            keep_monthly: self.keep_monthly.or(configured.keep_monthly),
            max_bytes: self.max_bytes.or(configured.max_bytes),
        }
    }
}

/// Applies retention, or only tells what it would do.
#[pyfunction]
pub(crate) fn prune(cluster: &NativeCluster, rules: Rules, consent: bool, only_plan: bool) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`prune`", async move {
        let mut requests = configured::stores::prune_requests(&ground.config_here())?;
        requests.iter_mut().for_each(|request| request.retention = rules.over(request.retention));
        let (now, consent) = (SystemClock.now(), if consent { Consent::Given } else { Consent::Missing });
        let report = if only_plan { prune_all::plan(&requests, now).await? } else { prune_all::carry_out(&requests, consent, now).await? };
        if !only_plan && ground.config.cluster.data_directory.is_some() {
            // Whoever prunes regularly also keeps the server's log bounded.
            let log = ground.cluster()?.log_file();
            workers::run(move || log.rotate_under_server()).await?;
        }
        Ok(value_answer(document(&report)?))
    })
}
