//! Encrypted dumps, as commands make, read and lose them, and as the stock program `age` reads them.

mod backups;
mod copies;
mod damage;
mod downgrade;
mod public_only;
mod recipients;
mod recovery;
mod stock_age;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cluster::TestCluster;
use crate::support::scratch::Run;
use crate::support::user;

/// A cluster with the database `orders`, whose dumps are encrypted to keys of a name each, in `keys/NAME.txt`.
struct Vault {
    cluster: TestCluster,
    keys: Vec<(&'static str, String)>,
}

impl Vault {
    /// A cluster with eight orders, whose server runs; `store` says how its store is encrypted, with `@NAME` for a public key.
    fn new(names: &[&'static str], store: &str) -> Self {
        let cluster = TestCluster::planned("");
        cluster.scratch.folder("keys");
        let mut vault = Self { cluster, keys: Vec::new() };
        names.iter().for_each(|name| vault.make_key(name));
        vault.configure(store);
        // That no recovery key was tested yet is a warning.
        let warned = if store.is_empty() { 0 } else { 3 };
        let made = vault.run(&["init", "--allow-ephemeral"]);
        assert_eq!(made.code, Some(warned), "{made:?}");
        vault.cluster.start();
        vault.cluster.fill("orders");
        vault
    }

    fn make_key(&mut self, name: &'static str) {
        let made = self.run(&["store", "key", "new", &format!("{{dir}}/keys/{name}.txt"), "--json"]).done();
        user::hand_over(&self.key_file(name));
        self.keys.push((name, made.json()["public_key"].as_str().unwrap().to_owned()));
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.cluster.scratch.join(&format!("keys/{name}.txt"))
    }

    fn public(&self, name: &str) -> &str {
        &self.keys.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Says anew how the store is encrypted.
    fn configure(&self, store: &str) {
        let mut encryption = store.to_owned();
        for (name, public) in &self.keys {
            encryption = encryption.replace(&format!("@{name}"), public);
        }
        let text = format!("databases = [\"orders\"]\n[[store]]\nurl = \"{{dir}}/volume/backups\"\n{encryption}\n");
        let text = crate::support::cluster::CONFIGURATION.replacen("[[store]]\nurl = \"{dir}/volume/backups\"\n", "", 1) + &text;
        self.cluster.scratch.write("pgpersist.toml", &text);
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.cluster.run(arguments)
    }

    fn dump(&self) -> String {
        self.cluster.dump(&[])
    }

    fn object(&self, name: &str) -> PathBuf {
        self.cluster.store().join(name)
    }

    /// The slots of all data keys, in order.
    fn slots(&self) -> Vec<PathBuf> {
        let keys = self.object(".pgpersist/main/keys");
        let mut slots: Vec<_> = self
            .cluster
            .store_tree()
            .paths()
            .filter(|path| path.starts_with(&keys) && path.extension().is_some_and(|extension| extension == "age"))
            .map(Path::to_owned)
            .collect();
        slots.sort();
        slots
    }

    /// Loads into a database of this name and counts its orders, which are eight.
    #[track_caller]
    fn loads(&self, name: &str, database: &str, more: &[&str]) {
        let run = self.run(&[&["load", name, "-d", database, "--json"], more].concat());
        // What a file gives to a superuser goes to somebody else: a warning.
        assert!(matches!(run.code, Some(0 | 3)), "{run:?}");
        assert_eq!(run.json()["tables"]["public.orders"], 8);
        assert_eq!(self.cluster.sql(database, "SELECT count(*), sum(amount) FROM orders"), "8|36");
    }

    /// What is decrypted by the stock program.
    #[track_caller]
    fn age(&self, key: &Path, file: &Path) -> Vec<u8> {
        let output = Command::new("age").arg("-d").arg("-i").arg(key).arg(file).output().expect("script/setup --tests installs age");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Flips a bit in the middle of a file, and returns what it was before.
    fn flip(&self, file: &Path) -> Vec<u8> {
        let before = std::fs::read(file).unwrap();
        self.flip_bit(file, before.len() * 4);
        before
    }

    fn flip_bit(&self, file: &Path, bit: usize) {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.write(file, &bytes);
    }

    fn write(&self, file: &Path, bytes: &[u8]) {
        let name = file.strip_prefix(self.cluster.scratch.path()).unwrap().to_str().unwrap().to_owned();
        self.cluster.scratch.write_bytes(&name, bytes);
    }
}
