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

/// Dumps databases one after the other. One that cannot be dumped keeps none of the others from it.
///
/// # Errors
/// As [`dump_database`]; [`Error::NotAllDumped`] when there were several; `Unsafe` when the store serves another cluster under
/// this cluster's name, and then nothing was dumped.
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
    let card = ClusterCard::new(shelf.cluster(), system_identifier, version, clock.now());
    if let Some(weak) = card.claim_and_look(shelf.store().as_ref()).await? {
        progress.event(Event::Warning(weak));
    }
    let options = &DumpOptions { write_key: shelf.write_key().await?, ..options.clone() };
    let (mut dumps, mut missing, mut first) = (Vec::new(), Vec::new(), None);
    for database in databases {
        match dump_one(shelf, options, database, system_identifier, clock, progress).await {
            Ok(dump) => dumps.push(dump),
            Err(error) if databases.len() == 1 => return Err(error),
            Err(error) => {
                progress.event(Event::Warning(format!("`{database}` was not dumped: {}", told(&error))));
                missing.push(database.clone());
                first.get_or_insert(error);
            }
        }
    }
    match first {
        None => Ok(DumpReport { dumps }),
        Some(error) => {
            let made = dumps.iter().map(|dump| format!("`{}` ({})", dump.database, dump.name)).collect();
            Err(Error::NotAllDumped { missing, made, source: Box::new(error) })
        }
    }
}

/// An error with its causes, on one line.
fn told(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

async fn dump_one(
    shelf: &Shelf,
    options: &DumpOptions,
    database: &str,
    system_identifier: u64,
    clock: &Arc<dyn Clock>,
    progress: &dyn ProgressSink,
) -> Result<Dump> {
    if let Err(error) = database_name::check(database) {
        return Err(Error::invalid(format!("`{database}` is no name of a database: {error}"), "`psql -l` lists the databases"));
    }
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
    store.put(&format!("{}{SIDE_FILE_SUFFIX}", dump.name).parse()?, dump.side_file(shelf.cluster(), system_identifier).to_bytes()?).await?;
    // The dump stands whatever becomes of the roles, but whoever needs them must know.
    if let Err(error) = dump_globals(options, &shelf.globals_key_for(database, time)?, store, progress).await {
        progress.event(Event::Warning(format!("the roles were not dumped beside {}: {}", dump.name, told(&error))));
    }
    Ok(dump)
}
