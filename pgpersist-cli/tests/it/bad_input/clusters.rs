//! Data directories that are not what the programs at hand can serve.

use std::fs;

use crate::support::cluster::{CONFIGURATION, TestCluster};

/// Replaces a file of a stopped cluster, runs what must be refused, sees that nothing changed, and puts the file back.
fn with(cluster: &TestCluster, name: &str, content: &[u8], code: i32, told: &[&str]) {
    let path = format!("volume/data/{name}");
    let original = fs::read(cluster.data().join(name)).unwrap();
    cluster.scratch.write_bytes(&path, content);
    let before = cluster.volume_tree();
    for command in [&["init", "--allow-ephemeral"][..], &["start"], &["restart"]] {
        cluster.run(command).refused(code, told);
        before.assert_same(&cluster.volume_tree());
    }
    cluster.scratch.write_bytes(&path, &original);
}

#[test]
fn a_directory_that_is_of_another_major_or_damaged_is_left_alone() {
    let cluster = TestCluster::stopped("");
    let major = fs::read_to_string(cluster.data().join("PG_VERSION")).unwrap();
    let remedy = "  remedy: install PostgreSQL ";
    with(
        &cluster,
        "PG_VERSION",
        b"99\n",
        5,
        &["was made by PostgreSQL 99", "the programs at hand are", &format!("{}.", major.trim()), remedy],
    );
    with(&cluster, "PG_VERSION", b"13\n", 5, &["was made by PostgreSQL 13", remedy]);
    for garbage in [&b""[..], b"fifteen\n", b"\xff\xfe\x00", b"15.2.1\n", b"-1\n", b"99999999999999999999\n"] {
        with(&cluster, "PG_VERSION", garbage, 7, &["PG_VERSION", "  remedy: keep the directory as it is"]);
    }
    let control = fs::read(cluster.data().join("global/pg_control")).unwrap();
    let mut flipped = control.clone();
    flipped[40] ^= 1;
    for content in [&control[..0], &control[..16], &control[..100], &flipped, &vec![0; control.len()]] {
        with(&cluster, "global/pg_control", content, 7, &["is damaged: global/pg_control", "  remedy: keep the directory as it is"]);
    }
    // What was refused was refused for its reason: the cluster itself is well.
    cluster.run(&["start"]).done();
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
}

#[test]
fn what_needs_a_server_says_why_there_can_be_none() {
    let cluster = TestCluster::planned("");
    let dump = |code, told: &[&str]| {
        let run = cluster.run(&["dump", "-d", "postgres"]);
        run.refused(code, told);
        assert!(!run.stderr.contains("start it with"), "{run:?}");
    };
    dump(4, &["there is no data directory at", "  remedy: make one with `pgpersist init`"]);
    cluster.scratch.folder("volume/data");
    dump(4, &["is empty", "  remedy: "]);
    cluster.scratch.write("volume/data/thesis.tex", "of somebody else");
    dump(5, &["holds files that are no PostgreSQL cluster: thesis.tex", "  remedy: "]);
    fs::remove_file(cluster.data().join("thesis.tex")).unwrap();
    cluster.init();
    let major = fs::read(cluster.data().join("PG_VERSION")).unwrap();
    cluster.scratch.write("volume/data/PG_VERSION", "13\n");
    dump(5, &["was made by PostgreSQL 13", "  remedy: "]);
    cluster.scratch.write("volume/data/PG_VERSION", "garbage\n");
    dump(7, &["is damaged", "  remedy: "]);
    cluster.scratch.write_bytes("volume/data/PG_VERSION", &major);
    cluster.run(&["dump", "-d", "postgres"]).refused(6, &["no server runs in", "  remedy: start it with `pgpersist start`"]);
}

#[test]
fn a_directory_without_its_control_file_is_damaged() {
    let cluster = TestCluster::stopped("");
    let control = cluster.data().join("global/pg_control");
    let bytes = fs::read(&control).unwrap();
    fs::remove_file(&control).unwrap();
    let before = cluster.volume_tree();
    for command in [&["init", "--allow-ephemeral"][..], &["init", "--allow-ephemeral", "--new"], &["start"]] {
        cluster.run(command).refused(7, &["is damaged: could not read global/pg_control", "  remedy: "]);
        before.assert_same(&cluster.volume_tree());
    }
    cluster.scratch.write_bytes("volume/data/global/pg_control", &bytes);
    assert_eq!(cluster.run(&["status"]).code, Some(6));
}

#[test]
fn a_cluster_that_the_store_knows_by_another_identifier_is_not_adopted() {
    let (cluster, other) = TestCluster::pair();
    cluster.init();
    // Another cluster under the same name: a wrong volume, or a wrong store.
    other.scratch.write(
        "pgpersist.toml",
        &format!(
            "{}[[store]]\nurl = \"{}\"\n",
            CONFIGURATION.replace("[[store]]\nurl = \"{dir}/volume/backups\"\n", ""),
            cluster.store().display()
        ),
    );
    let before = cluster.store_tree();
    other.run(&["init", "--allow-ephemeral"]).refused(5, &["a cluster is known to live here", "--new"]);
    before.assert_same(&cluster.store_tree());
    assert!(!other.data().exists());
    other.scratch.run(&["init", "--allow-ephemeral"], &[("PGPERSIST_CLUSTER_NAME", "other")]).done();
    let volume = other.volume_tree();
    other.run(&["init", "--allow-ephemeral"]).refused(5, &["holds the cluster with system identifier", "give this cluster another name"]);
    volume.assert_same(&other.volume_tree());
}
