//! Who can open what: wrong keys and passphrases, recipients that come and go, rotation.

use crate::encryption::Vault;

#[test]
fn a_wrong_key_and_a_wrong_passphrase_are_told_from_damage() {
    let vault = Vault::new(&["ops", "other"], "encryption = { recipients = [\"@ops\"] }");
    vault.dump();
    vault
        .run(&["load", "latest", "-d", "copy", "--identity", "{dir}/keys/other.txt", "--quiet"])
        .refused(1, &["none of the keys at hand opens it", vault.public("ops")]);
    std::fs::set_permissions(vault.key_file("ops"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    vault
        .run(&["load", "latest", "-d", "copy", "--identity", "{dir}/keys/ops.txt", "--quiet"])
        .refused(2, &["open to every user", "chmod"]);
    vault.run(&["load", "latest", "-d", "copy", "--identity", "{dir}/keys/none.txt", "--quiet"]).refused(4, &["keys/none.txt"]);
    assert_eq!(vault.cluster.databases(), ["orders"]);
}

#[test]
fn a_passphrase_alone_opens_what_was_written_with_it() {
    let vault = Vault::new(&[], "");
    let words = |text: &str| {
        let file = vault.cluster.scratch.write_bytes("keys/words", text.as_bytes());
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    vault.configure("encryption = { passphrase_file = \"{dir}/keys/words\" }");
    words("too short\n");
    vault.run(&["dump", "--quiet"]).refused(2, &["fewer than 12 characters", "openssl rand"]);
    words("correct horse battery staple\n");
    let name = vault.dump();
    vault.loads("latest", "copy", &[]);
    // The slot is one that the stock program asks the passphrase for.
    let slot = std::fs::read(&vault.slots()[0]).unwrap();
    assert!(String::from_utf8_lossy(&slot).contains("\n-> scrypt "));
    words("other words than before\n");
    vault.run(&["load", &name, "-d", "again", "--quiet"]).refused(1, &["none of the keys at hand opens it"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    vault.dump();
    assert_eq!(vault.slots().len(), 2, "another passphrase, another data key");
    vault.loads("latest", "again", &[]);
}

#[test]
fn who_was_removed_reads_nothing_that_comes_after_the_rotation() {
    let mut vault = Vault::new(&["ops", "leaver"], "encryption = { recipients = [\"@ops\", \"@leaver\"] }");
    let before = vault.dump();
    let with = |name: &str| format!("{{dir}}/keys/{name}.txt");
    vault.loads(&before, "before", &["--identity", &with("leaver")]);

    vault.configure("encryption = { recipients = [\"@ops\"] }");
    let leaver = vault.public("leaver").to_owned();
    let asked = vault.run(&["store", "key", "remove", &leaver, "--json"]);
    assert_eq!((asked.code, asked.error()["plan"].as_array().unwrap().len()), (Some(5), 1));
    vault.run(&["store", "key", "remove", &leaver, "--yes"]).done();
    vault.run(&["store", "key", "rotate"]).done();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let after = vault.dump();
    let keys = vault.run(&["store", "key", "list", "--json"]).json();
    assert_eq!(keys["data_keys"].as_array().unwrap().len(), 2, "the dump took the key of the rotation: {keys}");
    vault
        .run(&["load", &after, "-d", "after", "--identity", &with("leaver"), "--quiet"])
        .refused(1, &["none of the keys at hand opens it"]);
    vault.loads(&after, "after", &["--identity", &with("ops")]);

    // Who comes later reads what was written before, though no byte of it was written again.
    vault.make_key("joiner");
    let stored = std::fs::read(vault.object(&before)).unwrap();
    vault.configure("encryption = { recipients = [\"@ops\", \"@joiner\"] }");
    vault.run(&["store", "key", "add", "--quiet"]).refused(1, &["no key at hand opens the data key"]);
    let added = vault.run(&["store", "key", "add", "--identity", &with("ops"), "--json"]).done().json();
    assert_eq!(added["added"].as_array().unwrap().len(), 2);
    vault.loads(&before, "joined", &["--identity", &with("joiner")]);
    assert!(std::fs::read(vault.object(&before)).unwrap() == stored);

    let ops = vault.public("ops").to_owned();
    let joiner = vault.public("joiner").to_owned();
    vault.run(&["store", "key", "remove", &joiner, "--yes"]).code.unwrap();
    vault.run(&["store", "key", "remove", &ops, "--yes", "--quiet"]).refused(5, &["nobody else opens the data key"]);
}
