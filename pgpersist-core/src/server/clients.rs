//! Where the client programs lie that fit a running server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::server::cluster::Cluster;
use crate::server::connection::ConnectionOptions;
use crate::server::same_cluster;
use crate::server::session::Session;
use crate::workers;

/// How long opening a session may take.
const CONNECT: Duration = Duration::from_secs(30);

/// The folder of `program` that fits the server, once the server is known to be the one of the data directory.
///
/// # Errors
/// `Unavailable` when the server does not answer, `Unsafe` when it is another one than the directory's, `NotFound` when no
/// program is new enough.
pub async fn directory(cluster: &Cluster, connection: &ConnectionOptions, program: &'static str) -> Result<PathBuf> {
    let session = Session::connect(connection, CONNECT).await?;
    same_cluster::check(cluster, &session).await?;
    let version = session.version().await?;
    let search = cluster.search().clone();
    let (path, _) = workers::run(move || search.client(program, version)).await?;
    path.parent().map(Path::to_owned).ok_or_else(|| Error::Bug(format!("{} lies nowhere", path.display())))
}
