//! Configuration that would make the server of one data directory work on another one.

use std::fs;
use std::io::Write;

use crate::support::cluster::TestCluster;

#[test]
fn a_data_directory_in_postgresql_conf_moves_no_server() {
    let (cluster, other) = TestCluster::pair();
    cluster.init();
    other.init();
    let mut configuration = fs::OpenOptions::new().append(true).open(cluster.data().join("postgresql.conf")).unwrap();
    writeln!(configuration, "data_directory = '{}'", other.data().display()).unwrap();
    drop(configuration);
    let before = other.volume_tree();
    let report = cluster.run(&["start", "--json"]).done().json();
    let directory = fs::read_link(format!("/proc/{}/cwd", report["pid"])).unwrap();
    assert_eq!(directory, cluster.data());
    assert_eq!(cluster.sql("postgres", "SHOW data_directory"), cluster.data().to_str().unwrap());
    assert_eq!(cluster.run(&["status", "--json"]).json()["pid"], report["pid"]);
    before.assert_same(&other.volume_tree());
}

#[test]
fn a_setting_that_names_another_cluster_is_invalid() {
    let cluster = TestCluster::stopped("");
    let before = cluster.volume_tree();
    for name in ["DATA_DIRECTORY", "CONFIG_FILE"] {
        let variable = format!("PGPERSIST_CLUSTER_SETTINGS_{name}");
        for command in [&["start"][..], &["restart"], &["config", "check"]] {
            cluster
                .scratch
                .run(command, &[(&variable, "/elsewhere")])
                .refused(2, &[&format!("[cluster.settings] {}", name.to_lowercase()), "would name another cluster", "  remedy: "]);
            before.assert_same(&cluster.volume_tree());
        }
    }
}
