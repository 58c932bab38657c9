//! How an agent makes its directory ready: as `init` does, and also while the store is away.

use std::sync::Arc;

use crate::agent::log::with_causes;
use crate::agent::options::AgentOptions;
use crate::data_directory::Claim;
use crate::error::{ErrorKind, Result};
use crate::init::ready::{self, InitReport};
use crate::progress::{Event, ProgressSink};
use crate::server::cluster::Cluster;

/// Makes ready. A store that does not answer is left out where the volume itself knows its cluster: backups can be made later,
/// people wait now.
///
/// # Errors
/// As [`ready::make_ready`].
pub(crate) async fn make_ready(cluster: &Cluster, options: &AgentOptions, progress: &Arc<dyn ProgressSink>) -> Result<(InitReport, Claim)> {
    let error = match ready::make_ready_and_keep(cluster, options.shelf.as_ref(), &options.init, progress).await {
        Err(error) if options.shelf.is_some() && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied) => error,
        outcome => return outcome,
    };
    if !ready::is_known_by_card(cluster).await.unwrap_or(false) {
        return Err(error);
    }
    match ready::make_ready_and_keep(cluster, None, &options.init, progress).await {
        Ok(made) => {
            let told = format!("the store is left out, and there are no backups while it stays so: {}", with_causes(&error));
            progress.event(Event::Warning(told));
            Ok(made)
        }
        // It was not the store.
        Err(_) => Err(error),
    }
}
