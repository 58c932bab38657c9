//! HTTP of the agent: what it tells whom, and that no client can hurt it.

mod access;
mod browser;
mod hostile;
mod probes;
mod reload;
mod status_page;

use crate::support::cluster::TestCluster;
use crate::support::http::free_port;

/// The section that has the agent listen on a free port of the loopback, and the port.
pub(crate) fn listening() -> (String, u16) {
    let port = free_port();
    (section(port, ""), port)
}

fn section(port: u16, more: &str) -> String {
    format!("[health]\nlisten = \"127.0.0.1:{port}\"\n{more}")
}

/// A cluster that `init` has made, whose agent will listen on this port.
fn stopped() -> (TestCluster, u16) {
    let (section, port) = listening();
    (TestCluster::stopped(&section), port)
}
