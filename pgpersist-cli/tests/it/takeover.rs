//! The command takes over what a program made that embeds the library and stays root.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::config::load::Config;
use pgpersist_core::config::sources::Sources;
use pgpersist_core::configured;
use pgpersist_core::init::ready::make_ready;
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::start::{StartOptions, start};

use crate::support::cluster::TestCluster;
use crate::support::skip::skip;

/// Makes, starts and dumps the cluster in this process.
async fn embed(config: &Config) {
    let (progress, clock): (Arc<dyn ProgressSink>, Arc<dyn Clock>) = (Arc::new(Silent), Arc::new(SystemClock));
    let cluster = configured::cluster::open(config, BTreeMap::new()).unwrap();
    let shelf = configured::stores::shelf_if_any(config).unwrap();
    make_ready(&cluster, shelf.as_ref(), &configured::init::options(config, true).unwrap(), &progress).await.unwrap();
    start(&cluster, &StartOptions::default()).await.unwrap();
    configured::dump::request(config, Vec::new()).unwrap().carry_out(&clock, progress.as_ref()).await.unwrap();
    configured::dump::remember_room(config, &cluster);
}

#[test]
fn the_command_goes_on_with_what_a_process_made_that_is_still_root() {
    if !rustix::process::geteuid().is_root() {
        skip("root", "only root can stay root");
        return;
    }
    let cluster = TestCluster::planned("databases = ['customerInvoice']");
    let file = cluster.scratch.join("pgpersist.toml");
    let config = Config::load(&Sources::gather(Some(&file), [], Path::new("/"), Vec::new()).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(embed(&config));
    runtime.block_on(embed(&config));
    assert_eq!(cluster.run(&["status", "--json"]).done().json()["state"], "running");
    let dumps = cluster.run(&["list", "--json"]).done().json()["dumps"].as_array().unwrap().len();
    assert!(dumps >= 1);
    let health = cluster.run(&["health", "--json"]);
    let findings = health.json();
    let wrong = findings["findings"].as_array().unwrap().iter().filter(|finding| finding["status"] == "unknown").count();
    assert_eq!(wrong, 0, "what root wrote can be read: {findings:#}");
    let dump = cluster.dump(&[]);
    cluster.run(&["verify", "--json"]).done();
    let pruned = cluster.run(&["prune", "--keep-last", "1", "--yes", "--json"]).done().json();
    // Each with its roles.
    assert_eq!((pruned["kept"].as_array().unwrap().len(), pruned["dropped"].as_array().unwrap().len()), (2, 2 * dumps), "{pruned:#}");
    assert_eq!(pruned["kept"][0]["name"], dump.as_str());
    cluster.run(&["restart"]).done();
    cluster.run(&["stop"]).done();
    cluster.init();
    cluster.start();
    // And back again.
    runtime.block_on(embed(&config));
    assert_eq!(cluster.sql("customerInvoice", "SELECT 1"), "1");
}
