//! [`choose`]: which backup is meant by a name or by [`LATEST`], for whoever reads one.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::progress::{Event, ProgressSink};
use crate::repo::keys::RepositoryKeys;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::restore::newest::Newest;
use crate::store::{BackupStore, ObjectKey};

/// The name that means the newest backup.
pub const LATEST: &str = "latest";

/// Opens the repository in `folder` of a store, and finds the backup in it. Newer ones that [`LATEST`] passes over are told as warnings. Looks
/// only.
///
/// # Errors
/// `NotFound` when there is no repository; `Invalid` for a name that is none; as [`Newest::find`].
pub async fn choose(
    store: &Arc<dyn BackupStore>,
    folder: &ObjectKey,
    keys: Option<&Arc<RepositoryKeys>>,
    name: &str,
    progress: &dyn ProgressSink,
) -> Result<(Repository, RunName)> {
    let none = || Error::not_found(format!("there is no backup in {store}"), "make one with `pgpersist backup`");
    let repository = Repository::open(Arc::clone(store), folder.clone()).await?.ok_or_else(none)?;
    let repository = match keys {
        Some(keys) => repository.with_keys(Arc::clone(keys)),
        None => repository,
    };
    repository.refuse_downgrade()?;
    let backup = match name {
        LATEST => {
            let newest = Newest::find(&repository).await?;
            for why in &newest.passed_over {
                progress.event(Event::Warning(format!("a newer backup is passed over: {why}")));
            }
            newest.backup
        }
        name => parse_name(name)?,
    };
    Ok((repository, backup))
}

/// Reads the name of a backup.
///
/// # Errors
/// `Invalid`, with the place where names are told.
pub fn parse_name(text: &str) -> Result<RunName> {
    text.parse().map_err(|_| {
        Error::invalid(
            format!("`{text}` is no name of a backup, such as 20260208T093316Z-0f8e7d6c"),
            "see `pgpersist list` for their names",
        )
    })
}
