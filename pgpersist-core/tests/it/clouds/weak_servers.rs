//! Servers that silently ignore conditions: without a race nothing is overwritten all the same.

use pgpersist_core::error::ErrorKind;
use pgpersist_core::init::known::prove_writable;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::store::conditions;

use crate::clouds::{key, keys, one_of_each_with_moto, opened, pattern, upload};
use crate::support::stores::rclone::Rclone;
use crate::support::stores::{StoreServer, s3rver, s3s};

async fn nothing_is_overwritten(server: Option<StoreServer>, knows_ranges: bool) {
    let Some(server) = server else { return };
    let store = opened(&server.url("prefix"));
    let large = pattern(17 << 20);
    store.put_if_absent(&key("small"), "first".into()).await.unwrap();
    upload(&store, "large", &large).await.unwrap();
    for name in ["small", "large"] {
        assert_eq!(store.put_if_absent(&key(name), "second".into()).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(upload(&store, name, &pattern(100)).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(upload(&store, name, &pattern(9 << 20)).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    // One that came while an upload was under way, small and large.
    for (name, bytes) in [("meanwhile", pattern(10)), ("meanwhile, large", pattern(9 << 20))] {
        let mut late = store.upload(&key(name)).await.unwrap();
        late.write(bytes).await.unwrap();
        store.put_if_absent(&key(name), "first".into()).await.unwrap();
        if name == "meanwhile, large" {
            assert_eq!(late.finish().await.unwrap_err().kind(), ErrorKind::Conflict);
            assert_eq!(store.get(&key(name)).await.unwrap(), "first");
        }
    }
    assert_eq!(store.get(&key("small")).await.unwrap(), "first");
    if knows_ranges {
        assert!(store.get(&key("large")).await.unwrap() == large);
    } else {
        // Half of it is not taken for all of it.
        assert_eq!(store.get(&key("large")).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(store.head(&key("large")).await.unwrap().size_bytes, 17 << 20);
    }
    // And that they ignore conditions is found out, and told where such a store is used first.
    assert_eq!(store.honours_conditions(&key("small"), "written over".into()).await.unwrap(), Some(false));
    assert_eq!(store.get(&key("small")).await.unwrap(), "written over");
    let told = prove_writable(&Shelf::new(store.clone(), "main", Vec::new())).await.unwrap();
    assert!(told.is_some_and(|told| told.contains(conditions::WEAKER)));
    // Nor is their order that of the keys' bytes.
    let mut names = keys(&store).await.unwrap();
    names.sort_unstable();
    assert_eq!(names, ["large", "meanwhile", "meanwhile, large", "small"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rclone_overwrites_nothing_of_ours() {
    nothing_is_overwritten(Rclone::find().map(|rclone| rclone.serve_s3()), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3rver_overwrites_nothing_of_ours() {
    nothing_is_overwritten(s3rver::start(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_that_honour_conditions_are_not_taken_for_such() {
    for server in one_of_each_with_moto().into_iter().chain(s3s::start()) {
        let store = opened(&server.url("prefix"));
        store.put(&key("note"), "kept".into()).await.unwrap();
        assert_eq!(store.honours_conditions(&key("note"), "lost".into()).await.unwrap(), Some(true), "{:?}", server.protocol);
        assert_eq!(store.get(&key("note")).await.unwrap(), "kept");
        assert_eq!(prove_writable(&Shelf::new(store, "main", Vec::new())).await.unwrap(), None, "{:?}", server.protocol);
    }
}
