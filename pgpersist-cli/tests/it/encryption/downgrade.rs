//! Where dumps are encrypted, one that is not is not taken for one of ours.

use crate::encryption::Vault;

const STORE: &str = "encryption = { recipients = [\"@ops\"], identity_file = \"{dir}/keys/ops.txt\" }";

#[test]
fn an_unencrypted_dump_is_refused_unless_somebody_says_so() {
    let vault = Vault::new(&["ops"], "");
    let old = vault.dump();
    assert!(old.ends_with(".sql.gz"), "{old}");
    vault.configure(STORE);
    vault.run(&["load", "latest", "-d", "copy", "--quiet"]).refused(5, &[&old, "is not encrypted", "--unencrypted"]);
    vault.run(&["drill", "restore", "--quiet"]).refused(5, &["is not encrypted", "--unencrypted"]);
    assert_eq!(vault.cluster.databases(), ["orders"]);
    vault.loads("latest", "copy", &["--unencrypted"]);
    vault.run(&["drill", "restore", "--unencrypted"]).done();
    // A file that somebody names is what he says it is.
    vault.loads(&format!("{{dir}}/volume/backups/{old}"), "from_file", &[]);

    std::thread::sleep(std::time::Duration::from_millis(1100));
    let new = vault.dump();
    vault.loads("latest", "encrypted", &[]);
    // The bytes of the old one, under the name of the new one.
    let bytes = std::fs::read(vault.object(&old)).unwrap();
    vault.write(&vault.object(&new), &bytes);
    std::fs::remove_file(vault.object(&format!("{new}.json"))).unwrap();
    vault.run(&["load", "latest", "-d", "again", "--quiet"]).refused(7, &[&new, "is not encrypted, though its name says so"]);
}

#[test]
fn roles_that_are_not_encrypted_make_nobody_a_superuser() {
    let vault = Vault::new(&["ops"], STORE);
    let name = vault.dump();
    let globals = name.replace("backup_", "globals_");
    // A later one, which would be the newest.
    let planted = "globals_20991231_235959.sql.gz";
    let mut gzip = std::process::Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut gzip.stdin.take().unwrap(), b"CREATE ROLE intruder;\nALTER ROLE intruder WITH SUPERUSER LOGIN;\n")
        .unwrap();
    vault.write(&vault.object(planted), &gzip.wait_with_output().unwrap().stdout);
    vault.run(&["stop"]).done();
    pgpersist_core::fs::durable::remove_tree(&vault.cluster.data()).unwrap();
    let restored = vault.run(&["init", "--allow-ephemeral", "--restore-latest"]);
    assert_eq!(restored.code, Some(3), "{restored:?}");
    vault.cluster.start();
    assert_eq!(vault.cluster.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'intruder'"), "0");
    assert_eq!(vault.cluster.sql("orders", "SELECT count(*) FROM orders"), "8");
    assert!(vault.object(&globals).exists());
}
