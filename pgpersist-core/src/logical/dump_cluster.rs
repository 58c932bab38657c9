//! Dumping databases of a cluster onto its shelf: named, with their side files, and the roles beside them.

use std::sync::Arc;

use serde::Serialize;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::logical::cluster_card::ClusterCard;
use crate::logical::dump::{Dump, DumpOptions, dump_database, dump_globals};
use crate::logical::name::SIDE_FILE_SUFFIX;
use crate::logical::shelf::Shelf;
use crate::pg::database_name;
use crate::progress::{Event, ProgressSink};
use crate::server::session::Session;

/// How often a name that another dump took first is chosen anew.
const NAME_ATTEMPTS: u32 = 5;

/// What was dumped.
#[derive(Debug, Clone, Serialize)]
pub struct DumpReport {
    /// One for each database, in the order in which they were asked for.
    pub dumps: Vec<Dump>,
}

/// Dumps databases one after the other. What was dumped before an error stays.
///
/// # Errors
/// As [`dump_database`]; `Unsafe` when the store serves another cluster under this cluster's name.
pub async fn dump_cluster(
    shelf: &Shelf,
    options: &DumpOptions,
    databases: &[String],
    clock: &Arc<dyn Clock>,
    progress: &dyn ProgressSink,
) -> Result<DumpReport> {
    let session = Session::connect(&options.connection, options.connect).await?;
    let system_identifier = session.system_identifier().await?;
    let version = session.version().await?;
    drop(session);
    ClusterCard::new(shelf.cluster(), system_identifier, version, clock.now()).claim(shelf.store().as_ref()).await?;
    let mut dumps = Vec::new();
    for database in databases {
        dumps.push(dump_one(shelf, options, database, system_identifier, clock, progress).await?);
    }
    Ok(DumpReport { dumps })
}

async fn dump_one(
    shelf: &Shelf,
    options: &DumpOptions,
    database: &str,
    system_identifier: u64,
    clock: &Arc<dyn Clock>,
    progress: &dyn ProgressSink,
) -> Result<Dump> {
    let store = shelf.store().as_ref();
    let mut attempt = 0;
    let (dump, time) = loop {
        attempt += 1;
        let (time, warning) = shelf.next_time(database).await?;
        let key = shelf.key_for(database, time)?;
        match dump_database(options, database, &key, store, clock, progress).await {
            Ok(dump) => {
                if let Some(warning) = warning {
                    progress.event(Event::Warning(warning));
                }
                break (dump, time);
            }
            // A dump that began in the same second took the name.
            Err(error)
                if error.kind() == ErrorKind::Conflict && !matches!(error, Error::VersionMismatch { .. }) && attempt < NAME_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    };
    // The dump is whole and stands under its name. What is missing if we die here, `load` does without.
    if let Err(error) = database_name::check(database) {
        return Err(Error::invalid(format!("`{database}` is no name of a database: {error}"), "`psql -l` lists the databases"));
    }
    store.put(&format!("{}{SIDE_FILE_SUFFIX}", dump.name).parse()?, dump.side_file(shelf.cluster(), system_identifier).to_bytes()?).await?;
    // The dump stands whatever becomes of the roles, but whoever needs them must know.
    if let Err(error) = dump_globals(options, &shelf.globals_key_for(database, time)?, store, progress).await {
        let causes = error.causes();
        let why = std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ");
        progress.event(Event::Warning(format!("the roles were not dumped beside {}: {why}", dump.name)));
    }
    Ok(dump)
}
