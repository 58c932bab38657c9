//! The health report as `/health`, `/metrics` and the status page show it: made once for all who ask within some seconds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::http::kept::Found;
use crate::agent::http::site::Site;
use crate::error::Result;
use crate::health::Finding;
use crate::health::checks::standard::{HealthOptions, checks};
use crate::health::report::{self, Report};
use crate::store::url::StoreUrl;
use crate::workers;

/// How long a report stays.
pub(crate) const LASTS: Duration = Duration::from_secs(5);

/// How long anybody waits for one: longer than the checks may take, not longer than Prometheus waits for an answer.
const DEADLINE: Duration = Duration::from_secs(9);

/// The report; `None` when there is none in time, as where a volume hangs.
///
/// # Errors
/// When too many wait for it already.
pub(crate) async fn get(site: &Site) -> Result<Option<Arc<Found<Report>>>, Crowded> {
    let _right = site.waiting.try_acquire().map_err(|_| Crowded)?;
    let asked = site.report.get(|| make(site.health.clone()));
    Ok(tokio::time::timeout(DEADLINE, asked).await.ok().flatten())
}

/// Too many wait for the same report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowded;

/// What is told instead of a report.
pub(crate) fn missing(site: &Site) -> Report {
    let summary = format!("no report within {} s: a volume of the data, the store or the log does not answer", DEADLINE.as_secs());
    let remedy = "look at the volumes (`findmnt`, `dmesg`), and at the load of this machine";
    Report::new(site.health.clock.now(), vec![Finding::unknown("health", summary, Some(remedy.to_owned()))])
}

/// Makes one, whoever waits.
pub(crate) async fn make(options: HealthOptions) -> Report {
    knock(&options).await;
    let options = options.with_databases_of_server().await;
    match checks(&options) {
        Ok(checks) => report::run(&checks, &*options.clock).await,
        Err(error) => Report::new(options.clock.now(), vec![Finding::unknown("health", error.to_string(), error.remedy())]),
    }
}

/// Waits until every file system answers that the checks look at. A check that hangs is left behind on its thread; asked again and
/// again, that would take all threads there are. Here at most one hangs, since nobody makes a second report meanwhile.
async fn knock(options: &HealthOptions) {
    let mut places: Vec<PathBuf> = options.stores.iter().filter_map(StoreUrl::folder).map(ToOwned::to_owned).collect();
    places.extend([options.cluster.path().to_owned(), options.cluster.log_file().path().to_owned()]);
    let knocking = workers::run(move || {
        for place in places {
            // What it says is for the checks to judge.
            let _ = rustix::fs::statfs(&place);
        }
        Result::Ok(())
    });
    let _ = knocking.await;
}
