//! Roles and grants from a `globals_….sql.gz`, or `.age`, into a new cluster.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use tokio_postgres::error::SqlState;

use crate::error::{Error, Result};
use crate::logical::all_stores::AllStores;
use crate::logical::sealed;
use crate::logical::shelf::Shelf;
use crate::progress::{Event, ProgressSink};
use crate::server::session::Session;
use crate::store::ObjectKey;
use crate::workers;

/// The largest text that is read: a cluster of a million roles.
const LARGEST: u64 = 256 << 20;
/// What a dump of roles consists of; a line that begins otherwise is a setting of the session, a comment, or not ours to run.
const STATEMENTS: [&str; 4] = ["CREATE ROLE ", "ALTER ROLE ", "GRANT ", "COMMENT ON ROLE "];

/// Makes the roles of the newest dump of roles in the stores, where there is one: dumps made elsewhere come without, and loading
/// them tells which roles are missing. Returns what could not be done. One that is damaged in one store is read from the next
/// that has it.
///
/// # Errors
/// As [`load`] and [`read`]; `Unsafe` where the newest is not encrypted and must be; what the stores say.
pub async fn load_newest(session: &Session, all: &AllStores, progress: &dyn ProgressSink) -> Result<Vec<String>> {
    // One that is not encrypted could have been put there to make a superuser.
    let newest = all.newest_globals(Shelf::accepts);
    if newest.is_empty() {
        let unencrypted = all.newest_globals(|_, _| true);
        return unencrypted.iter().try_for_each(|(name, shelf)| shelf.refuse_downgrade(name)).map(|()| Vec::new());
    }
    let mut warnings = Vec::new();
    for (place, (name, shelf)) in newest.iter().enumerate() {
        progress.event(Event::Step(format!("creating the roles of {name}")));
        let loaded = async { load(session, name, &read(shelf, name).await?).await };
        match loaded.await {
            Ok(more) => {
                warnings.extend(more);
                break;
            }
            // Roles that are there already stay as they are, so the next one may begin anew.
            Err(error) if place + 1 < newest.len() && !matches!(error, Error::Sql { .. }) => {
                warnings.push(format!("{name} could not be read in {}: {error}", shelf.store()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(warnings)
}

/// A dump of roles as `pg_dumpall` wrote it, compressed; decrypted, where it is encrypted.
///
/// # Errors
/// As [`Shelf::opening`]; `Denied` without a key that opens it; `Damaged`.
pub async fn read(shelf: &Shelf, name: &ObjectKey) -> Result<Vec<u8>> {
    let stored = shelf.store().get(name).await?;
    if !sealed::is_encrypted(name.as_str(), &[]) {
        return Ok(stored.to_vec());
    }
    let (opening, name) = (shelf.opening(name, None).await?, name.clone());
    workers::run(move || {
        let mut content = sealed::open(name.as_str(), &stored[..], &opening)?;
        let mut compressed = Vec::new();
        content.read_to_end(&mut compressed).map_err(|error| sealed::explain(name.as_str(), error))?;
        Ok(compressed)
    })
    .await
}

/// Runs the statements about roles, one by one, each as a single statement: what stands behind a semicolon on the same
/// line makes it fail. Roles that are there already stay as they are. Returns what could not be done.
///
/// # Errors
/// [`Error::Damaged`] when the object is cut off or no text; [`Error::Sql`] when the session breaks.
pub async fn load(session: &Session, name: &ObjectKey, compressed: &[u8]) -> Result<Vec<String>> {
    let mut text = String::new();
    let read = MultiGzDecoder::new(compressed).take(LARGEST).read_to_string(&mut text);
    read.map_err(|e| {
        Error::damaged(
            format!("{name} cannot be read: {e}"),
            "load the dumps with `pgpersist load --no-owner` into a cluster made with `pgpersist init --new`",
        )
    })?;
    let mut warnings = Vec::new();
    for line in text.lines().filter(|line| STATEMENTS.iter().any(|begin| line.starts_with(begin))) {
        let Err(error) = session.client().execute(line.trim_end_matches(';'), &[]).await else { continue };
        match error.code() {
            None => return Err(Error::sql("create the roles", error)),
            Some(code) if code == &SqlState::DUPLICATE_OBJECT => {}
            Some(_) => warnings.push(format!(
                "could not run `{}` of {name}: {}",
                without_password(line),
                error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().to_owned())
            )),
        }
    }
    Ok(warnings)
}

/// What stands behind the word is nobody's to read in a warning.
fn without_password(line: &str) -> String {
    line.find(" PASSWORD '").map_or_else(|| line.to_owned(), |place| format!("{} …", &line[..place]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_warning_shows_a_password() {
        let line = "ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:canary';";
        assert_eq!(without_password(line), "ALTER ROLE app WITH NOSUPERUSER LOGIN …");
        assert_eq!(without_password("CREATE ROLE app;"), "CREATE ROLE app;");
    }
}
