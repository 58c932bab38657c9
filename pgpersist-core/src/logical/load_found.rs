//! Loading a dump that was found: from the first store that has it, and from the next one where its bytes turn out to be
//! damaged, or cannot be read. Loading is all or nothing, so nothing of the first attempt is left.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::logical::dump_source::{self, FoundDump};
use crate::logical::load::load;
use crate::logical::load_options::{LoadOptions, LoadReport, Trust};
use crate::logical::verify::told;
use crate::progress::{Event, ProgressSink};

/// What a load into `database` would do, one step a line.
pub fn plan(found: &FoundDump, database: &str) -> Vec<String> {
    vec![
        format!("load {} into a new database", found.source.name),
        "compare its rows with what was recorded".to_owned(),
        format!("rename the database {database}, if it holds something, to {database}_before_… and keep it"),
        format!("give the new database the name {database}"),
    ]
}

/// Loads a dump. How far it is trusted is what the options say where that is [`Trust::Superuser`], else what is known of it.
/// That another store had to be asked is among the report's warnings.
///
/// # Errors
/// As [`load`]; where no store has it whole, what was wrong in the first one.
pub fn load_found<'a>(
    options: &'a LoadOptions,
    found: FoundDump,
    clock: &'a Arc<dyn Clock>,
    progress: &'a Arc<dyn ProgressSink>,
) -> BoxFuture<'a, Result<LoadReport>> {
    Box::pin(async move {
        let FoundDump { mut source, mut trust, elsewhere, mut warnings, .. } = found;
        let (mut elsewhere, mut first) = (elsewhere.into_iter(), None::<Error>);
        loop {
            let could_not_be_read = Arc::new(AtomicBool::new(false));
            source.bytes = Box::new(Watched { inner: source.bytes, failed: could_not_be_read.clone() });
            let trust_of_this = if options.trust == Trust::Superuser { Trust::Superuser } else { trust };
            let error = match load(&LoadOptions { trust: trust_of_this, ..options.clone() }, source, clock, progress).await {
                Ok(report) => {
                    warnings.extend(report.warnings);
                    return Ok(LoadReport { warnings, ..report });
                }
                Err(error) => error,
            };
            if error.kind() != ErrorKind::Damaged && !could_not_be_read.load(Ordering::SeqCst) {
                return Err(error);
            }
            let why = told(&error);
            let first_error = first.take().unwrap_or(error);
            let next = loop {
                let Some(placed) = elsewhere.next() else { return Err(first_error) };
                match dump_source::open(&placed.shelf, &placed.entry).await {
                    Ok(opened) => {
                        let warning = format!("{} comes from {}: {why}", placed.entry.name, placed.shelf.store());
                        progress.event(Event::Step(warning.clone()));
                        warnings.push(warning);
                        break opened;
                    }
                    Err(error) => {
                        warnings.push(format!("{} could not be read in {}: {}", placed.entry.name, placed.shelf.store(), told(&error)))
                    }
                }
            };
            first = Some(first_error);
            (source, trust) = next;
        }
    })
}

/// Remembers whether its bytes could not be read: that says nothing about the server.
struct Watched {
    inner: Box<dyn Read + Send>,
    failed: Arc<AtomicBool>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        if read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.failed.store(true, Ordering::SeqCst);
        }
        read
    }
}
