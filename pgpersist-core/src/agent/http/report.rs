//! The health report as `/health`, `/metrics` and the status page show it.

use crate::agent::http::site::Site;
use crate::agent::reporter::{self, Looked};
use crate::health::report::Report;

/// The report; `None` when there is none in time.
///
/// # Errors
/// When too many wait for it already.
pub(crate) async fn get(site: &Site) -> Result<Looked, Crowded> {
    let _right = site.waiting.try_acquire().map_err(|_| Crowded)?;
    Ok(site.reporter.get(&site.health).await)
}

/// Too many wait for the same report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowded;

/// What is told instead of a report.
pub(crate) fn missing(site: &Site) -> Report {
    reporter::missing(&*site.health.clock)
}
