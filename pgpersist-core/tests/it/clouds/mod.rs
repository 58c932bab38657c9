//! Stores in a cloud, against servers that speak as the clouds do, and through a proxy that does harm.

mod bad_input;
mod check;
mod conformance;
mod deadlines;
mod faults;
mod leases;
mod left_behind;
mod locked;
mod lost_answers;
mod options;
mod other_clients;
mod pages;
mod ranges;
mod renewal;
mod service_account;
mod tls;
mod unfinished;
mod weak_servers;
mod writers;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::store::{BackupStore, ObjectKey, open};

use crate::support::stores::proxy::Proxy;
use crate::support::stores::{ACCESS_KEY, ACCOUNT_KEY, PRIVATE_KEY, SECRET_KEY, StoreServer, azurite, gcs, moto, s3s};

type Store = Arc<dyn BackupStore>;

/// One server of each protocol, as many as are installed. That of S3 holds requests against their signatures and checksums.
#[track_caller]
fn one_of_each() -> Vec<StoreServer> {
    [s3s::start(), gcs::start(), azurite::start()].into_iter().flatten().collect()
}

/// The same, where that of S3 knows conditions and buckets as Amazon does.
#[track_caller]
fn one_of_each_with_moto() -> Vec<StoreServer> {
    [moto::start(), gcs::start(), azurite::start()].into_iter().flatten().collect()
}

#[track_caller]
fn opened(url: &str) -> Store {
    open::open(&url.parse().unwrap_or_else(|error: Error| panic!("{url}: {}", everything(&error)))).unwrap()
}

/// A store through a proxy that stands before its server.
fn through(server: &StoreServer, prefix: &str, options: &str) -> (Store, Proxy) {
    let proxy = Proxy::before(server.port(), 0);
    let store = opened(&format!("{}{options}", server.url_at(&proxy.endpoint(), prefix)));
    (store, proxy)
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

async fn keys(store: &Store) -> Result<Vec<String>> {
    store.list("").map_ok(|meta| meta.key.to_string()).try_collect().await
}

/// Bytes that differ from place to place, so that a mix-up shows.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|place| (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]).collect()
}

/// Uploads in pieces, as a dump does.
async fn upload(store: &Store, name: &str, bytes: &Bytes) -> Result<()> {
    let mut upload = store.upload(&key(name)).await?;
    for start in (0..bytes.len()).step_by(1_000_000) {
        upload.write(bytes.slice(start..bytes.len().min(start + 1_000_000))).await?;
    }
    upload.finish().await.map(|_| ())
}

/// All that an error tells anybody.
fn everything(error: &Error) -> String {
    format!("{error}; {:?}; {:?}; {error:?}", error.causes(), error.remedy())
}

/// Fails when an error tells what opens a store.
#[track_caller]
fn keeps_secrets(error: &Error) {
    let told = everything(error);
    for secret in [ACCESS_KEY, SECRET_KEY, ACCOUNT_KEY, PRIVATE_KEY, "AWS4-HMAC", "Signature=", "SharedKey "] {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}
