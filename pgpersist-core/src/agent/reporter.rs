//! The health report of an agent: made once for all who want it within some seconds, and by one at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::http::kept::{Found, Kept};
use crate::clock::Clock;
use crate::error::Result;
use crate::health::Finding;
use crate::health::checks::standard::{HealthOptions, checks};
use crate::health::report::{self, Report};
use crate::store::url::StoreUrl;
use crate::workers;

/// How long a report stays.
const LASTS: Duration = Duration::from_secs(5);

/// How long anybody waits for one: longer than the checks may take, not longer than Prometheus waits for an answer.
const DEADLINE: Duration = Duration::from_secs(9);

/// How long a check may take that is to be in a report.
pub(crate) const LONGEST_CHECK: Duration = Duration::from_secs(8);

/// A report, or nothing when there was none in time.
pub(crate) type Looked = Option<Arc<Found<Report>>>;

/// Makes reports. All of an agent share one, also over a reload: a report that hangs is never joined by a second one.
#[derive(Debug)]
pub(crate) struct Reporter {
    kept: Kept<Report>,
}

impl Reporter {
    pub(crate) fn new() -> Self {
        Self { kept: Kept::new(LASTS) }
    }

    /// The report; `None` when there is none in time, as where a volume hangs.
    pub(crate) async fn get(&self, options: &HealthOptions) -> Looked {
        tokio::time::timeout(DEADLINE, self.wait(options)).await.ok().flatten()
    }

    /// The report, for who waits as long as it takes; `None` when making it panicked.
    pub(crate) async fn wait(&self, options: &HealthOptions) -> Looked {
        self.kept.get(|| make(options.clone())).await
    }

    /// Forgets the last one, which was made as another configuration says.
    pub(crate) fn forget(&self) {
        self.kept.forget();
    }
}

/// What is told instead of a report.
pub(crate) fn missing(clock: &dyn Clock) -> Report {
    let summary = format!("no report within {} s: a volume of the data, the store or the log does not answer", DEADLINE.as_secs());
    let remedy = "look at the volumes (`findmnt`, `dmesg`), and at the load of this machine";
    Report::new(clock.now(), vec![Finding::unknown("health", summary, Some(remedy.to_owned()))])
}

async fn make(options: HealthOptions) -> Report {
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
