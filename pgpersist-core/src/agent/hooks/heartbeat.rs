//! Calls an address while all is well, so that whoever misses the call knows: a dead man's switch.
//!
//! Services such as healthchecks.io, Uptime Kuma or Dead Man's Snitch alarm when no call has come for a while. That covers what no
//! hook can tell: a machine that is gone, a pod that is not scheduled, a network that is cut, a fence that was forgotten.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use tokio::sync::watch;

use crate::agent::hooks::http_client::{self, HttpClient};
use crate::agent::log::{Told, with_causes};
use crate::agent::status::{AgentStatus, Phase};
use crate::error::{Error, Result};
use crate::pg::log_line::Severity;
use crate::web_url::WebUrl;

/// The name under which its calls are counted.
const NAME: &str = "heartbeat";
/// How long one call may take at most.
const LONGEST_CALL: Duration = Duration::from_secs(10);
/// How much longer than between two looks the last one may be ago: a look itself takes some seconds.
const GRACE: Duration = Duration::from_secs(30);

/// An address that is called by GET every `interval` while the server is ready and its health is `pass` or `warn`.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    url: WebUrl,
    client: HttpClient,
    interval: Duration,
}

impl Heartbeat {
    /// Calls this address.
    pub fn new(url: WebUrl, client: HttpClient, interval: Duration) -> Self {
        Self { url, client, interval }
    }

    /// Beats as long as it lives. `looks` tells when health was looked at last and whether all was well, `every` how often that is.
    pub(crate) async fn beat(
        self,
        looks: watch::Receiver<Option<(Instant, bool)>>,
        every: Duration,
        told: Told,
        status: watch::Sender<AgentStatus>,
    ) {
        let mut looks = looks;
        let mut was_told = false;
        loop {
            // A call begins with the look that finds all well, not up to an interval later.
            if looks.wait_for(|look| look.is_some_and(|(_, is_well)| is_well)).await.is_err() {
                return;
            }
            let is_recent = looks.borrow().is_some_and(|(at, _)| at.elapsed() < 2 * every + GRACE);
            if is_recent && status.borrow().phase == Phase::Ready {
                let outcome = self.call().await;
                status.send_modify(|status| status.hooks.entry(NAME.to_owned()).or_default().count(outcome.is_ok()));
                match outcome {
                    Err(error) if !was_told => {
                        let remedy = error.remedy().map(|remedy| format!(" ({remedy})")).unwrap_or_default();
                        told.say(Severity::Warning, &format!("heartbeat: {}{remedy}", with_causes(&error)));
                        was_told = true;
                    }
                    Ok(()) if was_told => {
                        told.say(Severity::Log, &format!("heartbeat: {} takes it again", self.url));
                        was_told = false;
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn call(&self) -> Result<()> {
        let request = Request::get("/").body(Full::new(Bytes::new())).map_err(|error| Error::Bug(format!("no request: {error}")))?;
        match tokio::time::timeout(LONGEST_CALL, self.client.send(&self.url, request)).await {
            Ok(status) => http_client::check(&self.url, status?),
            Err(_) => Err(Error::unavailable(
                format!("{}: no answer within {} s", self.url, LONGEST_CALL.as_secs()),
                "look at what listens there",
            )),
        }
    }
}
