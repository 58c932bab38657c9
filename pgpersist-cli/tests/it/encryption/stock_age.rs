//! What we encrypt, the stock program decrypts, and the other way round.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::encryption::Vault;

/// What `gunzip` makes of bytes.
fn gunzip(bytes: &[u8]) -> String {
    let mut child = Command::new("gunzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, bytes) = (child.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_dump_and_the_roles_come_back_with_nothing_of_ours() {
    let vault = Vault::new(&["ops", "safe"], "encryption = { recipients = [\"@ops\", \"@safe\"] }");
    let name = vault.dump();
    assert!(name.starts_with("backup_") && name.ends_with(".sql.gz.age"), "{name}");
    for key in ["ops", "safe"] {
        let sql = gunzip(&vault.age(&vault.key_file(key), &vault.object(&name)));
        vault.cluster.sql("postgres", &format!("CREATE DATABASE by_hand_{key}"));
        vault.cluster.sql(&format!("by_hand_{key}"), &sql);
        assert_eq!(vault.cluster.sql(&format!("by_hand_{key}"), "SELECT count(*), sum(amount) FROM orders"), "8|36");
    }
    let globals = name.replace("backup_", "globals_");
    assert!(gunzip(&vault.age(&vault.key_file("safe"), &vault.object(&globals))).contains("CREATE ROLE"));
    let stored = std::fs::read(vault.object(&name)).unwrap();
    assert!(stored.starts_with(b"age-encryption.org/v1\n"));
}

#[test]
fn a_slot_holds_an_identity_that_the_stock_program_reads_dumps_with() {
    let vault = Vault::new(&["ops"], "encryption = { recipients = [\"@ops\"] }");
    let name = vault.dump();
    let slots = vault.slots();
    assert_eq!(slots.len(), 1, "{slots:?}");
    let data_key = vault.age(&vault.key_file("ops"), &slots[0]);
    let file = vault.cluster.scratch.write_bytes("keys/data.txt", &data_key);
    assert!(gunzip(&vault.age(&file, &vault.object(&name))).contains("CREATE TABLE public.orders"));
}

#[test]
fn what_the_stock_program_encrypted_is_loaded_from_a_file() {
    let vault = Vault::new(&["ops"], "encryption = { recipients = [\"@ops\"] }");
    let name = vault.dump();
    let plain = vault.age(&vault.key_file("ops"), &vault.object(&name));
    let key = vault.cluster.scratch.join("keys/theirs.txt");
    assert!(Command::new("age-keygen").arg("-o").arg(&key).stderr(Stdio::null()).status().unwrap().success());
    crate::support::user::hand_over(&key);
    let recipient = Command::new("age-keygen").arg("-y").arg(&key).output().unwrap().stdout;
    let recipient = String::from_utf8(recipient).unwrap();
    let mut age = Command::new("age").args(["-r", recipient.trim()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    age.stdin.take().unwrap().write_all(&plain).unwrap();
    let theirs = age.wait_with_output().unwrap().stdout;
    vault.cluster.scratch.write_bytes("theirs.sql.gz.age", &theirs);
    vault.loads("{dir}/theirs.sql.gz.age", "theirs", &["--identity", "{dir}/keys/theirs.txt"]);
    vault
        .run(&["load", "{dir}/theirs.sql.gz.age", "-d", "again", "--identity", "{dir}/keys/ops.txt", "--quiet"])
        .refused(1, &["none of the keys at hand opens it", "--identity FILE"]);
    // From standard input, too.
    let mut load = vault.cluster.scratch.command();
    load.stdin(std::fs::File::open(vault.cluster.scratch.join("theirs.sql.gz.age")).unwrap());
    let run = vault.cluster.scratch.finish(load, &["load", "-", "-d", "piped", "--identity", "{dir}/keys/theirs.txt"], &[]);
    assert!(matches!(run.code, Some(0 | 3)), "{run:?}");
    assert_eq!(vault.cluster.sql("piped", "SELECT count(*) FROM orders"), "8");
}
