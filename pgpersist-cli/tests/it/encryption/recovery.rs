//! Losing the key must be hard: nobody is left in peace until a recovery key was tested.

use crate::encryption::Vault;

#[test]
fn init_and_health_insist_until_a_recovery_key_was_tested() {
    let vault = Vault::new(&["safe", "stranger"], "encryption = { recipients = [\"@safe\"] }");
    let finding = || {
        let report = vault.run(&["health", "--json"]).json();
        report["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "encryption:1").unwrap().clone()
    };
    let before = finding();
    assert_eq!((&before["status"], before["remedy"].as_str().unwrap().contains("store key test")), (&"warn".into(), true), "{before}");
    let init = vault.run(&["init", "--allow-ephemeral"]);
    assert!(init.code == Some(3) && init.stderr.contains("no recovery key was ever tested"), "{init:?}");

    vault.run(&["store", "key", "test", "--identity", "{dir}/keys/stranger.txt", "--quiet"]).refused(1, &["to whom nothing is encrypted"]);
    vault.dump();
    let test = vault.run(&["store", "key", "test", "--identity", "{dir}/keys/safe.txt", "--json"]).done().json();
    assert_eq!((&test["holder"], &test["data_keys"]), (&vault.public("safe").into(), &1.into()));
    assert!(test["dump"].as_str().unwrap().ends_with(".sql.gz.age"), "{test}");
    let after = finding();
    assert_eq!((&after["status"], &after["observed"]["holder"]), (&"pass".into(), &vault.public("safe").into()), "{after}");
    assert_eq!(vault.run(&["init", "--allow-ephemeral"]).code, Some(0));

    // A key that opens the dumps and not the data keys is no recovery key.
    let slot = vault.slots().remove(0);
    std::fs::remove_file(&slot).unwrap();
    vault.make_other_slot();
    vault.run(&["store", "key", "test", "--identity", "{dir}/keys/safe.txt", "--quiet"]).refused(1, &["does not open the data key"]);
}

impl Vault {
    /// A data key that is wrapped for `stranger` alone.
    fn make_other_slot(&self) {
        self.configure("encryption = { recipients = [\"@stranger\"] }");
        self.run(&["store", "key", "rotate"]).done();
        self.configure("encryption = { recipients = [\"@safe\"] }");
    }
}
