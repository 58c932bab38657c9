//! What is not what was written is found and named, wherever it is; and what lies in another one's place, too.

use crate::encryption::Vault;
use crate::support::scratch::Run;

const STORE: &str = "encryption = { recipients = [\"@ops\"], identity_file = \"{dir}/keys/ops.txt\" }";

/// The names that `verify` tells as damaged.
#[track_caller]
fn damaged(vault: &Vault) -> Vec<String> {
    let run = vault.run(&["verify", "--json"]);
    let names: Vec<String> = run.json()["damaged"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(run.code, Some(if names.is_empty() { 0 } else { 7 }), "{run:?}");
    names
}

#[track_caller]
fn damaged_error(run: &Run, name: &str) {
    run.refused(7, &[name]);
}

#[test]
fn a_flipped_bit_in_any_object_is_found_and_named() {
    let vault = Vault::new(&["ops"], STORE);
    let name = vault.dump();
    assert_eq!(damaged(&vault), [] as [&str; 0]);
    let slot = vault.slots().remove(0);
    let slot_name = slot.strip_prefix(vault.cluster.store()).unwrap().to_str().unwrap().to_owned();
    let globals = name.replace("backup_", "globals_");
    let side_file = format!("{name}.json");

    let before = vault.flip(&vault.object(&name));
    assert_eq!(damaged(&vault), [name.as_str()]);
    damaged_error(&vault.run(&["load", &name, "-d", "copy", "--quiet"]), &name);
    vault.write(&vault.object(&name), &before);

    // In the part of the header that the key at hand opens: it looks like a wrong key, and is none.
    let place = before.windows(10).position(|window| window == b"-> X25519 ").unwrap() + 40;
    vault.flip_bit(&vault.object(&name), place * 8);
    damaged_error(&vault.run(&["load", &name, "-d", "copy", "--quiet"]), &name);
    vault.write(&vault.object(&name), &before);

    vault.write(&vault.object(&name), &before[..before.len() - 1]);
    damaged_error(&vault.run(&["load", &name, "-d", "copy", "--quiet"]), &name);
    vault.write(&vault.object(&name), &before);

    let before = vault.flip(&vault.object(&globals));
    assert_eq!(damaged(&vault), [globals.as_str()]);
    vault.write(&vault.object(&globals), &before);

    let before = vault.flip(&vault.object(&side_file));
    assert_eq!(damaged(&vault), [name.as_str()], "the dump whose side file it is");
    let told = vault.run(&["list"]).done().stdout;
    assert!(told.contains("DAMAGED") && told.contains(&side_file), "{told}");
    vault.write(&vault.object(&side_file), &before);

    vault.flip(&slot);
    assert_eq!(damaged(&vault), [slot_name.as_str()]);
    // The dump itself is encrypted to the key at hand, too.
    vault.loads(&name, "copy", &[]);
}

#[test]
fn a_damaged_slot_that_is_needed_is_named() {
    let vault = Vault::new(&[], "");
    let file = vault.cluster.scratch.write_bytes("keys/words", b"correct horse battery staple\n");
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    vault.configure("encryption = { passphrase_file = \"{dir}/keys/words\" }");
    let name = vault.dump();
    vault.flip(&vault.slots()[0]);
    vault.run(&["load", &name, "-d", "copy", "--quiet"]).refused(7, &[&name, "passphrase_", "is not what was written"]);
}

#[test]
fn dumps_that_changed_places_are_found_though_their_side_files_changed_too() {
    let vault = Vault::new(&["ops"], STORE);
    let older = vault.dump();
    vault.cluster.sql("orders", "DELETE FROM orders WHERE id > 4");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let newer = vault.dump();
    for suffix in ["", ".json"] {
        let (first, second) = (vault.object(&format!("{older}{suffix}")), vault.object(&format!("{newer}{suffix}")));
        let (one, other) = (std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        vault.write(&first, &other);
        vault.write(&second, &one);
    }
    let mut found = damaged(&vault);
    found.sort();
    assert_eq!(found, [older.as_str(), newer.as_str()]);
    vault
        .run(&["load", "latest", "-d", "copy", "--quiet"])
        .refused(7, &[&newer, "is not the dump that belongs there", older.trim_end_matches(".age")]);
    let drill = vault.run(&["drill", "restore", "--json"]);
    assert_eq!(drill.code, Some(7), "{drill:?}");
    assert!(drill.json()["databases"][0]["reasons"][0].as_str().unwrap().contains("belongs there"), "{drill:?}");
}
