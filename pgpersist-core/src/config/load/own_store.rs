//! A store that the program itself holds open. It stands in no file and has no address: what is said of the configured store whose
//! place it takes, is said of it.

use std::ptr;
use std::sync::Arc;

use crate::config::load::Config;
use crate::encryption::settings::EncryptionSettings;
use crate::retention::Retention;
use crate::store::BackupStore;

/// A store of the program's own, in the place of the configured ones.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OwnStore {
    /// The store.
    pub store: Arc<dyn BackupStore>,
    /// What it keeps.
    pub retention: Retention,
    /// To whom what lies there is encrypted, and what opens it.
    pub encryption: EncryptionSettings,
}

impl PartialEq for OwnStore {
    fn eq(&self, other: &Self) -> bool {
        ptr::addr_eq(Arc::as_ptr(&self.store), Arc::as_ptr(&other.store))
            && self.retention == other.retention
            && self.encryption == other.encryption
    }
}

impl Eq for OwnStore {}

impl Config {
    /// The same with the cluster's dumps in this store, in the place of the first `[[store]]`: encrypted as that one is, and kept by its
    /// rules; where there is none, unencrypted, and kept by `[retention]`. There are no copies: a configured store is neither written
    /// nor read.
    ///
    /// Everything in [`configured`](crate::configured) follows it: dumps, restores, health, and the jobs of an agent.
    #[must_use]
    pub fn with_own_store(mut self, store: Arc<dyn BackupStore>) -> Self {
        let (retention, encryption) = match (self.own_store.take(), self.stores.first()) {
            (Some(own), _) => (own.retention, own.encryption),
            (None, Some(first)) => (first.retention, first.encryption.clone()),
            (None, None) => (self.retention, EncryptionSettings::default()),
        };
        self.stores.clear();
        self.configured_stores.clear();
        self.schedule.sync = None;
        if retention.is_empty() {
            // It was another store's rule that asked for it.
            self.schedule.prune = None;
        }
        self.own_store = Some(OwnStore { store, retention, encryption });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::SourceFile;
    use crate::config::sources::Sources;
    use crate::store::memory::MemoryBackupStore;

    fn config(text: &str) -> Config {
        let text = format!("{text}\n[dump]\nschedule = '0 2 * * *'");
        let file = Some(SourceFile { path: "/etc/p.toml".into(), text });
        Config::load(&Sources { file, working_directory: "/".into(), ..Sources::default() }).unwrap()
    }

    fn with_own(text: &str) -> Config {
        config(text).with_own_store(Arc::new(MemoryBackupStore::new()))
    }

    fn jobs(config: &Config) -> Vec<String> {
        config.schedule.named().into_iter().map(|(job, _)| job).collect()
    }

    #[test]
    fn it_takes_the_place_of_the_first_store_with_what_is_said_of_that() {
        let text = "[[store]]\nurl = '/nowhere/first'\nkeep_last = 5\nencryption = { passphrase_file = '/nowhere/passphrase' }\n\
                    [[store]]\nurl = '/nowhere/second'\n[retention]\nkeep_last = 3";
        let config = with_own(text);
        let own = config.own_store.clone().unwrap();
        assert!(own.encryption.encrypts() && own.retention.keep_last == Some(5));
        assert!(config.stores.is_empty() && config.configured_stores.is_empty());
        // Without copies, none are brought up to date.
        assert_eq!(jobs(&config), ["dump", "prune"]);
        // Another one in its place has the same said of it.
        let again = config.clone().with_own_store(Arc::new(MemoryBackupStore::new()));
        assert_ne!(again, config);
        assert_eq!(again.own_store.unwrap().encryption, own.encryption);
    }

    #[test]
    fn where_none_is_configured_the_general_rules_are_its_own() {
        let own = with_own("[retention]\nkeep_last = 3").own_store.unwrap();
        assert!(!own.encryption.encrypts() && own.retention.keep_last == Some(3));
    }

    #[test]
    fn a_rule_of_a_store_that_is_not_used_drops_nothing() {
        let config = with_own("[[store]]\nurl = '/nowhere/first'\n[[store]]\nurl = '/nowhere/second'\nkeep_last = 2");
        assert!(config.own_store.as_ref().is_some_and(|own| own.retention.is_empty()));
        assert_eq!(jobs(&config), ["dump"]);
    }
}
