//! [`ClusterCard`]: which cluster a store serves under a name: `.pgpersist/<cluster name>/cluster.json`.
//!
//! It keeps two clusters that happen to have one name from mixing their dumps, and an empty data directory from being
//! taken for a new cluster where the store remembers an old one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::logical::name::folder_of;
use crate::logical::system_identifier;
use crate::pg::version::ServerVersion;
use crate::store::{BackupStore, ObjectKey, conditions};

/// The format that this version writes.
pub const FORMAT: u32 = 1;
/// The folder in a store for all that is not a dump.
pub const FOLDER: &str = ".pgpersist";

/// What a store remembers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterCard {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The cluster's name in the stores.
    pub cluster: String,
    /// Its system identifier; text in the file.
    #[serde(with = "system_identifier")]
    pub system_identifier: u64,
    /// The server's version when the card was written.
    pub version: ServerVersion,
    /// When the card was written.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

impl ClusterCard {
    /// A card of the current format.
    pub fn new(cluster: impl Into<String>, system_identifier: u64, version: ServerVersion, created_at: OffsetDateTime) -> Self {
        Self { format: FORMAT, cluster: cluster.into(), system_identifier, version, created_at }
    }

    /// The card that a store has of the cluster named `cluster`, where it has one.
    ///
    /// # Errors
    /// `Damaged` when it cannot be understood; what the store says.
    pub async fn read(store: &dyn BackupStore, cluster: &str) -> Result<Option<Self>> {
        let key = card_key(cluster)?;
        match store.get(&key).await {
            Ok(bytes) => parse(store, &key, &bytes).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a store remembers that a cluster with this identifier had the name before.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn was(store: &dyn BackupStore, cluster: &str, system_identifier: u64) -> Result<bool> {
        match store.head(&history_key(cluster, system_identifier)?).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes this the store's card of its cluster, and returns the one that the store has now: this one, or an older one
    /// of the same cluster. May be repeated.
    ///
    /// # Errors
    /// `Unsafe` when the store serves another system identifier under this name; what the store says.
    pub async fn claim(&self, store: &dyn BackupStore) -> Result<Self> {
        match store.put_if_absent(&card_key(&self.cluster)?, self.to_bytes()?).await {
            Ok(()) => return Ok(self.clone()),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
        match Self::read(store, &self.cluster).await? {
            Some(card) if card.system_identifier == self.system_identifier => Ok(card),
            Some(card) => Err(Error::refused(
                format!(
                    "the store {store} serves another cluster named `{}`: its system identifier is {}, and this one's is {}",
                    self.cluster, card.system_identifier, self.system_identifier
                ),
                "give this cluster a name of its own (`[cluster] name`) or another store; `pgpersist init --new` lets it take over the name",
            )),
            None => Err(Error::unavailable(format!("the card of `{}` in {store} comes and goes", self.cluster), "run it again")),
        }
    }

    /// Does as [`claim`](Self::claim), and returns what is to be said of a store that is used for the first time.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub(super) async fn claim_and_look(&self, store: &dyn BackupStore) -> Result<Option<String>> {
        if self.claim(store).await? != *self {
            return Ok(None);
        }
        Ok(conditions::warning(store, &card_key(&self.cluster)?, self.to_bytes()?).await)
    }

    /// Makes this the store's card although the store serves another cluster under this name: for `init --new`. The old
    /// card, which is returned, stays in the store as `history/<system identifier>.json`. May be repeated.
    ///
    /// # Errors
    /// `Damaged` when the old card cannot be understood; what the store says. The old card is then still in force.
    pub async fn renew(&self, store: &dyn BackupStore) -> Result<Option<Self>> {
        let old = Self::read(store, &self.cluster).await?.filter(|card| card.system_identifier != self.system_identifier);
        if let Some(card) = &old {
            // First what must not be lost.
            store.put(&history_key(&self.cluster, card.system_identifier)?, card.to_bytes()?).await?;
        }
        if old.is_none() {
            self.claim(store).await?;
        } else {
            store.put(&card_key(&self.cluster)?, self.to_bytes()?).await?;
        }
        Ok(old)
    }

    /// Lets the store remember that another cluster had the name before this one. May be repeated.
    ///
    /// # Errors
    /// What the store says.
    pub async fn follow(&self, old: &Self, store: &dyn BackupStore) -> Result<()> {
        if old.system_identifier == self.system_identifier {
            return Ok(());
        }
        store.put(&history_key(&self.cluster, old.system_identifier)?, old.to_bytes()?).await
    }

    fn to_bytes(&self) -> Result<Bytes> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::Bug(format!("a cluster's card is no JSON: {e}")))?;
        bytes.push(b'\n');
        Ok(bytes.into())
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn parse(store: &dyn BackupStore, key: &ObjectKey, bytes: &[u8]) -> Result<ClusterCard> {
    let damaged = |error: serde_json::Error| {
        Error::damaged(
            format!("{key} in {store} is no card of a cluster: {error}"),
            "look at it, and move it out of the store if it is worth nothing",
        )
    };
    let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format != FORMAT {
        return Err(Error::damaged(
            format!("{key} in {store} has format {format}, and this version knows format {FORMAT}"),
            "use the version of pgpersist that wrote it, or a newer one",
        ));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

fn card_key(cluster: &str) -> Result<ObjectKey> {
    format!("{FOLDER}/{}/cluster.json", folder_of(cluster)).parse()
}

fn history_key(cluster: &str, system_identifier: u64) -> Result<ObjectKey> {
    format!("{FOLDER}/{}/history/{system_identifier}.json", folder_of(cluster)).parse()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::store::memory::MemoryBackupStore;

    fn card(system_identifier: u64) -> ClusterCard {
        ClusterCard::new("main", system_identifier, ServerVersion { major: 15, minor: 18 }, datetime!(2026-02-08 09:33:16 UTC))
    }

    #[tokio::test]
    async fn a_name_serves_one_cluster() {
        let store = MemoryBackupStore::new();
        assert_eq!(ClusterCard::read(&store, "main").await.unwrap(), None);
        let first = card(u64::MAX);
        assert_eq!(first.claim(&store).await.unwrap(), first);
        let later = ClusterCard { created_at: datetime!(2027-01-01 0:00 UTC), ..first.clone() };
        assert_eq!(later.claim(&store).await.unwrap(), first, "the first card stays");
        let error = card(2).claim(&store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsafe);
        assert!(error.to_string().contains(&u64::MAX.to_string()), "{error}");
        assert_eq!(ClusterCard::read(&store, "main").await.unwrap(), Some(first));
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn of_a_store_that_ignores_conditions_is_told_when_it_is_used_first() {
        use std::sync::Arc;

        use crate::store::faulty::{Calls, Effect, FaultPlan, FaultyStore, Operation};
        // The one that takes the name, and the one that finds it out.
        for (overwrites, is_told) in [(true, true), (false, false)] {
            let plan = FaultPlan::one(Operation::PutIfAbsent, Calls::Nth(2), Effect::Overwrite);
            let plan = if overwrites { plan } else { FaultPlan::default() };
            let store = FaultyStore::new(Arc::new(MemoryBackupStore::new()), plan);
            let told = card(1).claim_and_look(&store).await.unwrap();
            assert_eq!(told.is_some_and(|told| told.contains(conditions::WEAKER)), is_told);
            assert_eq!(ClusterCard::read(&store, "main").await.unwrap(), Some(card(1)));
            let later = ClusterCard { created_at: datetime!(2027-01-01 0:00 UTC), ..card(1) };
            assert_eq!(later.claim_and_look(&store).await.unwrap(), None, "it is known by now");
        }
    }

    #[tokio::test]
    async fn a_renewed_name_remembers_the_cluster_before() {
        let store = MemoryBackupStore::new();
        assert_eq!(card(1).renew(&store).await.unwrap(), None);
        assert_eq!(card(1).renew(&store).await.unwrap(), None);
        assert_eq!(card(2).renew(&store).await.unwrap(), Some(card(1)));
        assert_eq!(card(2).renew(&store).await.unwrap(), None);
        assert_eq!(ClusterCard::read(&store, "main").await.unwrap(), Some(card(2)));
        let kept = store.get(&".pgpersist/main/history/1.json".parse().unwrap()).await.unwrap();
        assert_eq!(serde_json::from_slice::<ClusterCard>(&kept).unwrap(), card(1));
    }

    #[tokio::test]
    async fn a_card_that_is_none_stops_everything() {
        let store = MemoryBackupStore::new();
        for text in ["", "{}", r#"{"format": 9}"#, r#"{"format": 1}"#, "\u{0}"] {
            store.put(&card_key("main").unwrap(), text.into()).await.unwrap();
            assert_eq!(ClusterCard::read(&store, "main").await.unwrap_err().kind(), ErrorKind::Damaged);
            assert_eq!(card(1).claim(&store).await.unwrap_err().kind(), ErrorKind::Damaged);
            assert_eq!(card(1).renew(&store).await.unwrap_err().kind(), ErrorKind::Damaged);
        }
    }

    #[test]
    fn names_of_clusters_stay_in_their_folder() {
        assert_eq!(card_key("../x").unwrap().as_str(), ".pgpersist/%2E%2E%2Fx/cluster.json");
        assert!(card_key("").is_err());
    }
}
