//! A copy that is encrypted on its way, as a team has it whose own disk is trusted and whose bucket is not.

use std::path::PathBuf;

use crate::encryption::Vault;

const COPY: &str = "[[store]]\nurl = \"{dir}/volume/copy\"\nencryption = { recipients = [\"@safe\"] }";

fn copied(vault: &Vault, name: &str) -> PathBuf {
    vault.cluster.scratch.join("volume/copy").join(name)
}

#[test]
fn the_copy_is_the_same_dump_encrypted_and_loads_without_the_first_store() {
    let vault = Vault::new(&["safe"], COPY);
    let name = vault.dump();
    assert!(name.ends_with(".sql.gz"), "{name}");
    let sealed = format!("{name}.age");
    let identity = vault.key_file("safe");
    let identity = identity.to_str().unwrap();
    // The stock program makes of it what lies in the first store, byte by byte.
    assert!(vault.age(&vault.key_file("safe"), &copied(&vault, &sealed)) == std::fs::read(vault.object(&name)).unwrap());
    let side: serde_json::Value = serde_json::from_slice(&std::fs::read(copied(&vault, &format!("{sealed}.json"))).unwrap()).unwrap();
    let sum = std::process::Command::new("sha256sum").arg(copied(&vault, &sealed)).output().unwrap().stdout;
    assert_eq!(side["sha256"].as_str().unwrap(), String::from_utf8(sum).unwrap().split_whitespace().next().unwrap());
    assert_eq!(side["tables"]["public.orders"], 8);
    let roles = copied(&vault, &sealed.replace("backup_", "globals_"));
    assert!(vault.age(&vault.key_file("safe"), &roles) == std::fs::read(vault.object(&name.replace("backup_", "globals_"))).unwrap());
    // Both are one dump.
    let listed = vault.run(&["list", "--json"]).done().json();
    assert_eq!((listed["dumps"].as_array().unwrap().len(), &listed["dumps"][0]["stores"]), (1, &serde_json::json!([1, 2])));
    let again = vault.run(&["sync", "--json"]).done().json();
    assert_eq!((&again["stores"][0]["copied"], &again["stores"][0]["behind"]), (&0.into(), &0.into()));
    let told = vault.run(&["verify", "--identity", identity, "--json"]).done().json();
    assert_eq!(told["damaged"], serde_json::json!([]));
    // From the copy alone: not without the key, and under either name with it.
    let refused = vault.run(&["load", "latest", "--store", "2", "-d", "refused"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("--identity"), "{refused:?}");
    vault.loads("latest", "from_copy", &["--store", "2", "--identity", identity]);
    std::fs::remove_file(vault.object(&name)).unwrap();
    vault.loads(&name, "from_either", &["--identity", identity]);
    vault.loads(&sealed, "by_its_name", &["--identity", identity]);
}

#[test]
fn nobody_who_holds_the_key_of_a_copy_is_told_until_somebody_does() {
    let vault = Vault::new(&["safe"], COPY);
    vault.dump();
    let health = vault.run(&["health", "--json"]).json();
    let of_copy = |health: &serde_json::Value| {
        let findings = health["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["name"] == "encryption:2").map(|finding| finding["status"].clone())
    };
    assert_eq!(of_copy(&health), Some("warn".into()), "{health}");
    let identity = vault.key_file("safe");
    vault.run(&["store", "key", "test", "--store", "2", "--identity", identity.to_str().unwrap()]).done();
    assert_eq!(of_copy(&vault.run(&["health", "--json"]).json()), Some("pass".into()));
}
