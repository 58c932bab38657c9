//! Whether the server that answers is the one of the data directory. `PGHOST` may lead to another machine's server while the
//! directory at hand is this one's: what is then dumped or loaded is not what the command line says.

use crate::data_directory::state::State;
use crate::error::{Error, Result};
use crate::server::cluster::Cluster;
use crate::server::session::Session;

/// Compares the system identifier of the session's server with that of the data directory. Where there is no cluster in the
/// directory, as on a machine that only asks a server elsewhere, there is nothing to compare.
///
/// # Errors
/// `Unsafe` when they differ, naming both; what looking at the directory and asking the server say.
pub async fn check(cluster: &Cluster, session: &Session) -> Result<()> {
    let State::Cluster(files) = cluster.directory().state().await? else { return Ok(()) };
    let (ours, answers) = (files.control.system_identifier, session.system_identifier().await?);
    if ours == answers {
        return Ok(());
    }
    let place = cluster.options().host.as_ref().map_or_else(|| "that answers".to_owned(), |host| format!("at {}", host.as_text()));
    Err(Error::refused(
        format!(
            "the server {place} is another one than that of {}: its system identifier is {answers}, and the directory's is {ours}",
            cluster.path().display()
        ),
        "check PGHOST, PGPORT and `--data-directory`: they must lead to one cluster",
    ))
}
