//! `/`: how it stands, for a person with a browser. Whoever may not see details sees the bare state, and how to see more.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use crate::agent::http::access::Access;
use crate::agent::http::answers::Answer;
use crate::agent::http::kept::Found;
use crate::agent::http::readiness;
use crate::agent::http::report::Crowded;
use crate::agent::http::site::Site;
use crate::report::gather::{self, OverviewOptions};
use crate::report::html;
use crate::report::live::Live;
use crate::report::overview::Overview;

/// How long an overview stays: it lists the store and reads past drills.
pub(crate) const LASTS: Duration = Duration::from_secs(10);

/// How long anybody waits for one: longer than the report and the parts may take, not longer than a connection lasts.
const DEADLINE: Duration = Duration::from_secs(15);

/// The page. A browser cannot send a token, so it gets a page in any case; one that is not right is told.
pub(crate) async fn answer(site: &Site, access: Access) -> Answer {
    match access {
        Access::Details => details(site).await,
        Access::Bare => bare(site).await,
        Access::Mistaken => bare(site).await.challenging(true),
    }
}

async fn bare(site: &Site) -> Answer {
    let obstacle = readiness::obstacle(site).await;
    let word = readiness::word(obstacle.as_deref(), site.status.borrow().phase);
    Answer::page(StatusCode::OK, html::bare(word, obstacle.is_none()))
}

async fn details(site: &Site) -> Answer {
    let found = match get(site).await {
        Ok(found) => found,
        Err(Crowded) => return Answer::crowded(),
    };
    // What the agent knows is of this moment, however old the rest is.
    let live = live(site);
    let page = match found {
        Some(found) => html::render(&found.value, Some(&live)),
        None => {
            let reason = format!("no overview within {} s: a volume of the data, the store or the log does not answer", DEADLINE.as_secs());
            html::without_overview(&site.health.cluster_name, &reason, site.health.clock.now(), &live)
        }
    };
    Answer::page(StatusCode::OK, page)
}

/// The overview; `None` when there is none in time.
async fn get(site: &Site) -> Result<Option<Arc<Found<Overview>>>, Crowded> {
    let _right = site.waiting.try_acquire().map_err(|_| Crowded)?;
    let asked = site.overview.get(|| make(site));
    Ok(tokio::time::timeout(DEADLINE, asked).await.ok().flatten())
}

/// Makes one of the report that `/health` shows, too. That one is there only when every volume has answered, so a volume that
/// hangs holds no second thread here.
fn make(site: &Site) -> impl Future<Output = Overview> + Send + 'static {
    let (reporter, health) = (Arc::clone(&site.reporter), site.health.clone());
    let options = OverviewOptions { retention: site.retention, ..OverviewOptions::new(health.clone()) };
    async move {
        match reporter.wait(&health).await {
            Some(found) => gather::gather(&options, found.value.clone()).await,
            None => gather::overview(&options).await,
        }
    }
}

fn live(site: &Site) -> Live {
    let status = site.status.borrow();
    Live {
        phase: status.phase.as_str().to_owned(),
        phase_for: status.since.elapsed(),
        pid: status.pid,
        restarts: status.restarts,
        recovery: status.recovery,
        last_failure: status.last_failure.clone(),
    }
}
