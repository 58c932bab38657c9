//! A `restart` that cannot be carried out leaves the server running.

use std::fs::{self, File};

use rustix::fs::FlockOperation;

use crate::support::cluster::TestCluster;

#[test]
fn a_restart_that_is_refused_stops_nothing() {
    let cluster = TestCluster::running("");
    let postmaster = cluster.postmaster();
    let settings = || fs::read(cluster.data().join("pgpersist.conf")).unwrap();
    let before = settings();
    let still_runs = || {
        assert_eq!(cluster.postmaster(), postmaster);
        assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
        assert!(settings() == before);
    };

    let claim = File::open(cluster.scratch.join("volume/.pgpersist/data/supervisor.lock")).unwrap();
    rustix::fs::flock(&claim, FlockOperation::NonBlockingLockExclusive).unwrap();
    cluster.run(&["restart"]).refused(5, &["is in use by another pgpersist"]);
    still_runs();
    drop(claim);

    for (name, value) in [("NO_SUCH_SETTING", "1"), ("SHARED_BUFFERS", "lots")] {
        let variable = format!("PGPERSIST_CLUSTER_SETTINGS_{name}");
        cluster.scratch.run(&["restart"], &[(&variable, value)]).refused(2, &[&name.to_lowercase(), "nothing was started"]);
        still_runs();
    }

    cluster.scratch.folder("empty");
    let nowhere = [("PGPERSIST_CLUSTER_BIN_DIRECTORY", "{dir}/empty")];
    cluster.scratch.run(&["restart"], &nowhere).refused(4, &["found no PostgreSQL"]);
    still_runs();

    cluster.run(&["restart"]).done();
    assert_ne!(cluster.postmaster(), postmaster);
}
