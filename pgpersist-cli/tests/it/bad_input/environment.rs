//! Secrets of the caller's environment do not reach PostgreSQL's programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::cluster::TestCluster;
use crate::support::user;

#[test]
fn the_servers_programs_get_nothing_of_the_callers_secrets() {
    let cluster = TestCluster::planned("bin_directory = \"{dir}/bin\"\n");
    // Programs that tell what they were given, and then are the real ones.
    let seen = cluster.scratch.folder("seen");
    cluster.scratch.folder("bin");
    for name in ["postgres", "initdb"] {
        let script = format!("#!/bin/sh\nenv >{{dir}}/seen/{name}.$$\nexec {} \"$@\"\n", user::client(name).display());
        let path = cluster.scratch.write(&format!("bin/{name}"), &script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let secrets = [("PGPASSWORD", "canary"), ("AWS_SECRET_ACCESS_KEY", "canary"), ("TZ", "Europe/Berlin")];
    cluster.scratch.run(&["init", "--allow-ephemeral"], &secrets).done();
    cluster.scratch.run(&["start"], &secrets).done();
    let told: Vec<String> = fs::read_dir(&seen).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(told.len() >= 3);
    for environment in &told {
        assert!(!environment.contains("canary") && !environment.contains("PGPERSIST"), "{environment}");
        assert!(environment.contains("PATH=") && environment.contains("TZ=Europe/Berlin"), "{environment}");
    }
    let server = fs::read(format!("/proc/{}/environ", cluster.postmaster().unwrap())).unwrap();
    assert!(!String::from_utf8_lossy(&server).contains("canary"));
}
