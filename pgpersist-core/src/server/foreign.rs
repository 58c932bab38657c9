//! Whether the server that runs in a directory is ours: one that pgpersist started, or that its agent did, holds our lock.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::pg::postmaster_pid::PostmasterPid;
use crate::server::cluster::Cluster;
use crate::server::lock;
use crate::workers;

/// How long a server without our lock is looked at again. One that ends lets go of its files, and so of the lock, a moment
/// before its process is seen to be gone; on a busy machine that moment can be long.
const DYING: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// Whose server runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Runs {
    /// None is seen.
    Nobody,
    /// One that holds our lock.
    Ours,
    /// One that does not, and is not about to end.
    Foreign(PostmasterPid),
}

/// Looks whose server runs here.
///
/// # Errors
/// As [`Cluster::presence`]; [`Error::File`](crate::error::Error::File) when the lock cannot be looked at.
pub(crate) async fn look(cluster: &Cluster) -> Result<Runs> {
    decided(DYING, || now(cluster)).await
}

async fn now(cluster: &Cluster) -> Result<Runs> {
    let Some(pid_file) = cluster.presence().await?.running().cloned() else { return Ok(Runs::Nobody) };
    let directory = cluster.directory().clone();
    Ok(if workers::run(move || lock::is_held(directory.as_ref())).await? { Runs::Ours } else { Runs::Foreign(pid_file) })
}

/// What is seen first that is not foreign, else what is seen last.
async fn decided<F: Future<Output = Result<Runs>>>(patience: Duration, mut look: impl FnMut() -> F) -> Result<Runs> {
    let deadline = Instant::now() + patience;
    loop {
        match look().await? {
            Runs::Foreign(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            seen => return Ok(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign() -> Runs {
        Runs::Foreign(PostmasterPid::parse(b"7\n/data\n1700000000\n5432\n/tmp\n\n  1 2\nready\n").unwrap())
    }

    #[tokio::test]
    async fn a_server_that_has_let_go_of_the_lock_and_is_about_to_be_gone_is_nobodys() {
        for ending in [Runs::Nobody, Runs::Ours] {
            let mut looks = [foreign(), foreign(), foreign(), ending.clone(), foreign()].into_iter();
            let seen = decided(Duration::from_secs(60), || std::future::ready(Ok(looks.next().unwrap()))).await;
            assert_eq!((seen.unwrap(), looks.len()), (ending, 1));
        }
    }

    #[tokio::test]
    async fn one_that_stays_is_foreign_in_the_end() {
        assert_eq!(decided(Duration::from_millis(50), || std::future::ready(Ok(foreign()))).await.unwrap(), foreign());
    }
}
