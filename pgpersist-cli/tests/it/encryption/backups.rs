//! Physical backups of a cluster whose store is encrypted.

use crate::encryption::Vault;

const ELSEWHERE: &str = "{dir}/volume/restored";

/// What was restored starts, and has the orders.
fn starts(vault: &Vault) {
    vault.run(&["stop"]).done();
    let started = vault.run(&["start", "-D", ELSEWHERE]);
    assert!(matches!(started.code, Some(0 | 3)), "{started:?}");
    assert_eq!(vault.cluster.sql("orders", "SELECT count(*), sum(amount) FROM orders"), "8|36");
    vault.run(&["stop", "-D", ELSEWHERE]).done();
}

#[test]
fn a_machine_with_public_keys_backs_up_what_changed_and_the_key_of_the_safe_restores() {
    let vault = Vault::new(&["safe", "eve"], "encryption = { recipients = [\"@safe\"] }");
    let first = vault.run(&["backup", "--label", "the first", "--json"]).done().json();
    let second = vault.run(&["backup", "--json"]).done().json();
    assert!(second["new_bytes"].as_u64().unwrap() * 5 < first["new_bytes"].as_u64().unwrap(), "{second} after {first}");
    assert_eq!(vault.slots().len(), 1, "the data key is made once and remembered");
    let listed = vault.run(&["list", "--json"]).done().json();
    assert_eq!((listed["backups"].as_array().unwrap().len(), &listed["backups"][1]["label"]), (2, &"the first".into()));

    // What is needed is told by names and sizes, which the machine can read.
    let pruned = vault.run(&["prune", "--keep-last", "1", "--json"]).done().json();
    assert_eq!((&pruned["dropped"][0]["name"], &pruned["blocked"]), (&first["name"], &serde_json::Value::Null), "{pruned}");
    assert_eq!(pruned["kept"][0]["name"], second["name"], "{pruned}");

    let told = ["is encrypted, and no key is at hand", "--identity FILE", vault.public("safe")];
    vault.run(&["restore", "-D", ELSEWHERE, "--quiet"]).refused(1, &told);
    let eve = ["restore", "-D", ELSEWHERE, "--identity", "{dir}/keys/eve.txt", "--quiet"];
    vault.run(&eve).refused(1, &["is encrypted, and none of the keys at hand opens it"]);
    assert!(!vault.cluster.scratch.join("volume/restored").exists());

    let looked = vault.run(&["verify", "--json"]);
    assert_eq!((looked.code, looked.json()["damaged"].as_array().unwrap().len()), (Some(3), 0), "{looked:?}");
    assert_eq!(looked.json()["unopened"].as_array().unwrap().len(), 2);
    let whole = vault.run(&["verify", "--identity", "{dir}/keys/safe.txt", "--json"]).done().json();
    assert_eq!((&whole["damaged"], &whole["unopened"]), (&serde_json::json!([]), &serde_json::json!([])));

    vault.run(&["restore", "-D", ELSEWHERE, "--identity", "{dir}/keys/safe.txt"]).done();
    starts(&vault);
}

#[test]
fn a_repository_from_before_the_store_was_encrypted_is_neither_written_to_nor_believed() {
    let vault = Vault::new(&["ops"], "");
    vault.run(&["backup"]).done();
    vault.configure("encryption = { recipients = [\"@ops\"], identity_file = \"{dir}/keys/ops.txt\" }");
    vault.run(&["backup", "--quiet"]).refused(5, &["is not encrypted", ".pgpersist/main/repository"]);
    vault.run(&["restore", "-D", ELSEWHERE, "--quiet"]).refused(5, &["is not encrypted", "--unencrypted"]);
    vault.run(&["restore", "-D", ELSEWHERE, "--unencrypted"]).done();
    starts(&vault);
}
