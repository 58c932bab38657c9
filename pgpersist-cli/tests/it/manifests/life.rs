//! What the manifest describes, run as a process: its command, user, mounts and read-only root, on volumes of file systems of their own.

use std::fs;
use std::os::unix::fs::chown;

use yaml_rust2::Yaml;

use crate::manifests::image::Image;
use crate::manifests::node::{Node, can_run_containers};
use crate::manifests::pod::Container;
use crate::manifests::{STATEFULSET, document, documents, text, word, words};
use crate::support::cluster::TestCluster;
use crate::support::volume::{FileSystem, Volume};

/// psql as the application: by TCP, with the password of the secret.
const AS_APPLICATION: &str =
    "PGPASSWORD=$(cat \"$APP_PASSWORD_FILE\") exec psql -X -A -t -q -h 127.0.0.1 -U app -d customerInvoice -c \"$1\"";

/// The texts of a ConfigMap or a Secret.
fn files(manifest: &Yaml, key: &str) -> Vec<(String, String)> {
    manifest[key].as_hash().unwrap().iter().map(|(name, text)| (word(name).to_owned(), word(text).to_owned())).collect()
}

/// Enough for the ballast that is configured, which wants four times as much to be free. What is not written takes no room here.
const ROOMY_MIB: u64 = 2000;

fn volume(cluster: &TestCluster, name: &str, size_mib: u64, gid: u32) -> Option<Volume> {
    let volume = Volume::create(cluster.scratch.path(), name, FileSystem::Ext4, size_mib)?;
    Node::give_to_group(volume.path(), gid);
    Some(volume)
}

#[test]
fn the_pod_runs_as_the_manifest_says_and_the_next_one_adopts_what_it_left() {
    let cluster = TestCluster::planned("");
    if !can_run_containers(&cluster) {
        return;
    }
    let (image, manifest) = (Image::read(), document(STATEFULSET));
    let template = &manifest["spec"]["template"];
    let container = Container::of_pod(template, &image);
    let (configuration, secret) = (document("kubernetes/base/configmap.yaml"), document("kubernetes/base/secret.yaml"));
    let node = Node::new(&cluster, &files(&configuration, "data"), &files(&secret, "stringData"), container.gid);
    let Some(_data) = volume(&cluster, "data", ROOMY_MIB, container.gid) else { return };
    let Some(_backups) = volume(&cluster, "backups", 64, container.gid) else { return };

    let mut pod = node.run(&image, &container);
    pod.wait_until_ready(1);
    let process = fs::read_to_string(format!("/proc/{}/status", pod.first_process())).unwrap();
    let ids = |name: &str, id: u32| format!("{name}:\t{id}\t{id}\t{id}\t{id}\n");
    assert!(process.contains(&ids("Uid", container.uid)) && process.contains(&ids("Gid", container.gid)), "{process}");
    for line in ["CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "NSpid:"] {
        assert!(process.contains(line), "{line}: {process}");
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", pod.first_process())).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert_eq!(root.split(' ').nth(5).map(|options| options.starts_with("ro")), Some(container.root_is_read_only), "{root}");
    assert!(container.root_is_read_only);

    pod.exec(&["pgpersist", "status"]).done();
    pod.agent.wait_for("256 MB of ballast are taken in", 1);
    let health = pod.exec(&["pgpersist", "health", "--json"]).done().json();
    let placement = health["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "placement").unwrap();
    assert_eq!(placement["status"], "pass", "two volumes, so the dumps outlive the data: {placement}");

    let role = ["psql", "-X", "-q", "-d", "customerInvoice", "-f", "/etc/pgpersist/app-role.sql"];
    // Safe to repeat.
    pod.exec(&role).done();
    pod.exec(&role).done();
    let as_application = |statement: &str| ["sh", "-c", AS_APPLICATION, "sh", statement].map(str::to_owned);
    pod.exec(&as_application("CREATE TABLE orders AS SELECT generate_series(1, 8) AS id")).done();
    // The superuser comes by the socket or not at all, and the password is nowhere in the log.
    let refused = pod.exec(&["psql", "-X", "-w", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"]);
    assert!(refused.code != Some(0) && refused.stderr.contains("rejects connection"), "{refused:?}");
    assert!(!pod.agent.said().contains(word(&secret["stringData"]["app-password"])), "{}", pod.agent.said());
    pod.exec(&["pgpersist", "dump"]).done();
    // Nothing but /tmp is there for a throw-away cluster and its template.
    let version = pod.exec(&["pgpersist", "temp", "--", "psql", "-X", "-A", "-t", "-c", "SHOW server_version_num"]).done().stdout;
    assert!(version.trim().parse::<u32>().is_ok_and(|number| number >= 140_000), "{version}");
    pod.exec(&words(&template["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"])).done();
    assert_eq!(pod.terminated(), Some(0), "{}", pod.agent.said());

    let mut next = node.run(&image, &container);
    next.wait_until_ready(2);
    assert!(next.agent.said().contains("adopted the cluster in /app/data/pgdata"), "{}", next.agent.said());
    assert_eq!(next.exec(&as_application("SELECT count(*) FROM orders")).done().stdout, "8\n");
    assert_eq!(next.terminated(), Some(0), "{}", next.agent.said());
}

#[test]
fn a_lost_volume_is_refused_until_a_restore_is_asked_for() {
    let cluster = TestCluster::planned("");
    if !can_run_containers(&cluster) {
        return;
    }
    let (image, manifest) = (Image::read(), document(STATEFULSET));
    let mut container = Container::of_pod(&manifest["spec"]["template"], &image);
    let (configuration, secret) = (document("kubernetes/base/configmap.yaml"), document("kubernetes/base/secret.yaml"));
    let node = Node::new(&cluster, &files(&configuration, "data"), &files(&secret, "stringData"), container.gid);
    let Some(data) = volume(&cluster, "data", 400, container.gid) else { return };
    let Some(_backups) = volume(&cluster, "backups", 64, container.gid) else { return };

    let count = ["psql", "-X", "-A", "-t", "-d", "customerInvoice", "-c", "SELECT count(*) FROM orders"];
    let mut pod = node.run(&image, &container);
    pod.wait_until_ready(1);
    pod.exec(&["psql", "-X", "-d", "customerInvoice", "-c", "CREATE TABLE orders AS SELECT generate_series(1, 8) AS id"]).done();
    pod.exec(&["pgpersist", "dump"]).done();
    assert_eq!(pod.terminated(), Some(0), "{}", pod.agent.said());

    // A new one in its place, as when its claim was deleted and made again.
    drop((pod, data));
    fs::remove_dir(cluster.scratch.join("data")).unwrap();
    fs::remove_file(cluster.scratch.join("data.image")).unwrap();
    let Some(_data) = volume(&cluster, "data", 400, container.gid) else { return };
    let mut pod = node.run(&image, &container);
    assert_eq!(pod.agent.ended(), Some(5), "{}", pod.agent.said());
    drop(pod);

    let patches = document("kubernetes/overlays/production/statefulset-patch.yaml");
    let patch = patches.as_vec().unwrap().iter().map(|patch| &patch["value"]).find(|value| value["value"].as_str() == Some("restore"));
    container.environment.push((word(&patch.unwrap()["name"]).to_owned(), "restore".to_owned()));
    let mut pod = node.run(&image, &container);
    pod.wait_until_ready(2);
    assert!(pod.agent.said().contains("restored the cluster in /app/data/pgdata"), "{}", pod.agent.said());
    assert_eq!(pod.exec(&count).done().stdout, "8\n");
    assert_eq!(pod.terminated(), Some(0), "{}", pod.agent.said());
}

#[test]
fn the_composed_container_runs_the_same_way() {
    let cluster = TestCluster::planned("");
    if !can_run_containers(&cluster) {
        return;
    }
    let (image, compose) = (Image::read(), documents("container/compose.yaml").remove(0));
    let service = &compose["services"]["postgres"];
    let container = Container::of_service(service, &image);
    let configuration =
        ["pgpersist.toml", "pg_hba.conf", "app-role.sql"].map(|name| (name.to_owned(), text(&format!("container/etc/{name}"))));
    // As `openssl rand -hex` makes them: one of them is a token, which a header carries, and so without a blank.
    let secret: Vec<(String, String)> = words(&service["secrets"]).into_iter().map(|name| (name, "c0ffee".repeat(8))).collect();
    let node = Node::new(&cluster, &configuration, &secret, container.gid);
    let Some(data) = Volume::create(cluster.scratch.path(), "data", FileSystem::Ext4, ROOMY_MIB) else { return };
    let Some(backups) = Volume::create(cluster.scratch.path(), "backups", FileSystem::Ext4, 64) else { return };
    for volume in [&data, &backups] {
        // A named volume that is new takes over the owner of the image's folder.
        chown(volume.path(), Some(container.uid), Some(container.gid)).unwrap();
    }

    let mut pod = node.run(&image, &container);
    pod.wait_until_ready(1);
    pod.exec(&["psql", "-X", "-d", "customerInvoice", "-f", "/etc/pgpersist/app-role.sql"]).done();
    pod.exec(&["sh", "-c", AS_APPLICATION, "sh", "CREATE TABLE orders ()"]).done();
    pod.agent.wait_for("256 MB of ballast are taken in", 1);
    // The first word says that the others are a command and not a line of the shell.
    let check = words(&service["healthcheck"]["test"]);
    assert_eq!(check[0], "CMD");
    pod.exec(&check[1..]).done();
    assert_eq!(pod.terminated(), Some(0), "{}", pod.agent.said());
}
