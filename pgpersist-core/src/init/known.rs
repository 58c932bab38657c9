//! What a store knows of a cluster, and what it is told.

use crate::clock::Clock;
use crate::error::Result;
use crate::init::plan::Knowledge;
use crate::logical::cluster_card::ClusterCard;
use crate::logical::shelf::Shelf;
use crate::pg::version::ServerVersion;

/// Asks the store for the cluster's card and the newest good dump of each database.
///
/// # Errors
/// What the store says.
pub async fn ask(shelf: &Shelf) -> Result<Knowledge> {
    let card = ClusterCard::read(shelf.store().as_ref(), shelf.cluster()).await?;
    let mut newest_dumps = Vec::new();
    let mut seen: Vec<Option<String>> = Vec::new();
    // The list is newest first.
    for entry in shelf.list().await?.iter().filter(|entry| entry.is_good()) {
        if !seen.contains(&entry.database) {
            seen.push(entry.database.clone());
            newest_dumps.push(entry.name.to_string());
        }
    }
    Ok(Knowledge { card: None, store_identifier: card.map(|card| card.system_identifier), newest_dumps })
}

/// Tells the store which cluster it serves under this name. A new beginning takes the name over and keeps the old card.
///
/// # Errors
/// `Unsafe` when the store serves another cluster under this name; what the store says.
pub async fn tell(shelf: &Shelf, system_identifier: u64, version: ServerVersion, takes_over: bool, clock: &dyn Clock) -> Result<()> {
    let card = ClusterCard::new(shelf.cluster(), system_identifier, version, clock.now());
    if takes_over { card.renew(shelf.store().as_ref()).await.map(|_| ()) } else { card.claim(shelf.store().as_ref()).await.map(|_| ()) }
}
