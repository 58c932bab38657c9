//! A machine that has public keys only: it writes, and cannot read back.

use crate::encryption::Vault;

#[test]
fn it_dumps_and_prunes_and_does_not_load() {
    let vault = Vault::new(&["safe"], "encryption = { recipients = [\"@safe\"] }");
    let first = vault.dump();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = vault.dump();
    assert_eq!(vault.slots().len(), 1, "the data key is made once and remembered");
    let listed = vault.run(&["list", "--json"]).done().json();
    assert_eq!(listed["dumps"].as_array().unwrap().len(), 2);
    assert_eq!((&listed["dumps"][0]["encrypted"], &listed["dumps"][0]["state"]), (&true.into(), &"complete".into()));

    let told = ["is encrypted, and no key is at hand", "--identity FILE", vault.public("safe")];
    vault.run(&["load", "latest", "-d", "copy", "--quiet"]).refused(1, &told);
    let error = vault.run(&["load", "latest", "-d", "copy", "--json"]);
    assert_eq!((error.code, error.error()["kind"].as_str()), (Some(1), Some("denied")));
    assert_eq!(vault.cluster.databases(), ["orders"]);
    vault.run(&["drill", "restore", "--quiet"]).refused(1, &told);

    let looked = vault.run(&["verify", "--json"]);
    assert_eq!((looked.code, looked.json()["damaged"].as_array().unwrap().len()), (Some(3), 0), "{looked:?}");
    assert_eq!(looked.json()["unopened"].as_array().unwrap().len(), 4, "two dumps and their roles");

    let quick = vault.run(&["verify", "--quick", "--json"]).done().json();
    assert_eq!((&quick["damaged"], &quick["unopened"]), (&serde_json::json!([]), &serde_json::json!([])));

    let pruned = vault.run(&["prune", "--keep-last", "1", "--yes", "--json"]).done().json();
    assert_eq!(pruned["dropped"][0]["name"], first.as_str());
    let left: Vec<_> =
        vault.run(&["list", "--json"]).done().json()["dumps"].as_array().unwrap().iter().map(|dump| dump["name"].clone()).collect();
    assert_eq!(left, [second.as_str()]);

    vault.loads("latest", "copy", &["--identity", "{dir}/keys/safe.txt"]);
    let whole = vault.run(&["verify", "--identity", "{dir}/keys/safe.txt", "--json"]).done().json();
    assert_eq!((&whole["damaged"], &whole["unopened"]), (&serde_json::json!([]), &serde_json::json!([])));
}

#[test]
fn without_its_memory_it_makes_another_data_key_rather_than_believe_the_store() {
    let vault = Vault::new(&["safe"], "encryption = { recipients = [\"@safe\"] }");
    vault.dump();
    let memory = vault.cluster.scratch.join("volume/.pgpersist/data/keys.json");
    let text = std::fs::read_to_string(&memory).unwrap();
    assert!(text.contains("age1") && !text.contains("SECRET"), "{text}");
    std::fs::remove_file(&memory).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    vault.dump();
    assert_eq!(vault.slots().len(), 2);
    vault.loads("latest", "copy", &["--identity", "{dir}/keys/safe.txt"]);
}

#[test]
fn no_output_and_no_file_of_ours_shows_a_private_key_or_a_passphrase() {
    let vault = Vault::new(
        &["safe"],
        "encryption = { recipients = [\"@safe\"], passphrase_file = \"{dir}/keys/words\", identity_file = \"{dir}/keys/safe.txt\" }",
    );
    vault.cluster.scratch.write_bytes("keys/words", b"canary canary canary\n");
    std::fs::set_permissions(vault.cluster.scratch.join("keys/words"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let private = std::fs::read_to_string(vault.key_file("safe")).unwrap();
    let private = private.lines().last().unwrap();
    let mut said = String::new();
    for words in [
        &["dump", "--verbose"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["store", "key", "list", "--json"],
        &["store", "key", "test", "--identity", "{dir}/keys/safe.txt"],
        &["store", "key", "test", "--passphrase-file", "{dir}/keys/words"],
        &["load", "latest", "-d", "copy", "--verbose"],
        &["verify", "--verbose"],
        &["health", "--json"],
        &["report", "--json"],
    ] {
        let run = vault.run(words);
        assert!(matches!(run.code, Some(0 | 1 | 3)), "{words:?}: {run:?}");
        said += &(run.stdout + &run.stderr);
    }
    assert!(said.contains("keys/words"), "the file is named");
    for secret in [private, "canary"] {
        assert!(!said.contains(secret), "{secret}");
        for path in vault.cluster.volume_tree().paths().filter(|path| path.is_file() && !path.starts_with(vault.cluster.data())) {
            let bytes = std::fs::read(path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
        }
    }
}
