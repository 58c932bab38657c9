//! rclone reads what we write, and we read what it writes: names and bytes are where everybody looks for them.

use std::io::Write;

use crate::clouds::{Store, key, keys, opened, pattern, upload};
use crate::support::stores::rclone::Rclone;
use crate::support::stores::{StoreServer, azurite, gcs, moto, s3s};

/// Names with what has a meaning in addresses, in XML or in signatures.
const NAMES: &[&str] = &[
    "plain/name.sql.gz",
    "a name/with spaces, commas; and 'quotes' \"both\"",
    "100%/50%25/a+b&c=d?e#f",
    "<xml>&amp;/]]>",
    "ünïcødé/名前/🐘",
    "(brackets)/[square]/{curly}/~tilde!*@$^`|",
];

async fn read_each_other(server: Option<StoreServer>) {
    let (Some(server), Some(rclone)) = (server, Rclone::find()) else { return };
    let rclone = rclone.of(&server);
    let store: Store = opened(&server.url("ours"));
    let large = pattern(17 << 20);
    for name in NAMES {
        store.put_if_absent(&key(name), format!("the object {name}").into()).await.unwrap();
    }
    upload(&store, "large", &large).await.unwrap();
    let mut expected: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    expected.push("large".to_owned());
    expected.sort_unstable();
    assert_eq!(rclone.list("ours"), expected);
    assert_eq!(keys(&store).await.unwrap(), expected);
    for name in NAMES {
        assert_eq!(String::from_utf8(rclone.cat(&format!("ours/{name}"))).unwrap(), format!("the object {name}"));
        assert_eq!(store.get(&key(name)).await.unwrap(), format!("the object {name}"));
    }
    assert!(rclone.cat("ours/large") == large, "rclone reads something else");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&large).unwrap();
    rclone.run(&["copyto", file.path().to_str().unwrap(), &rclone.path("theirs/large")]);
    for name in NAMES {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "their {name}").unwrap();
        rclone.run(&["copyto", file.path().to_str().unwrap(), &rclone.path(&format!("theirs/{name}"))]);
    }
    let store: Store = opened(&server.url("theirs"));
    assert_eq!(keys(&store).await.unwrap(), expected);
    for name in NAMES {
        assert_eq!(store.get(&key(name)).await.unwrap(), format!("their {name}"));
        store.delete(&key(name)).await.unwrap();
    }
    assert!(store.get(&key("large")).await.unwrap() == large, "we read something else");
    assert_eq!(rclone.list("theirs"), ["large"]);
    // Nothing of ours is in its way, hidden or not.
    let everything = rclone.list("");
    assert!(everything.iter().all(|name| name.starts_with("ours/") || name == "theirs/large"), "{everything:?}");
    assert_eq!(rclone.unfinished_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rclone_and_we_read_each_other_on_moto() {
    read_each_other(moto::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rclone_and_we_read_each_other_on_s3s() {
    read_each_other(s3s::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rclone_and_we_read_each_other_on_google() {
    read_each_other(gcs::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rclone_and_we_read_each_other_on_azurite() {
    read_each_other(azurite::start()).await;
}
