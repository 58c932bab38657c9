//! Every byte counts: whatever is changed in a repository, `verify` names it.

use std::sync::Arc;

use pgpersist_core::error::ErrorKind;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::store::BackupStore;

use crate::golden::builder::Objects;
use crate::golden::{builder, golden, key, repository_folder, store, verified, with_rescue_files};

/// With this set all bytes are changed in turn, else a sample.
const EVERY_BYTE: &str = "PGPERSIST_TEST_EVERY_BYTE";
/// How many bytes of an object are a sample.
const SAMPLE: usize = 200;

/// What `verify` names; a repository that cannot be opened names its descriptor.
async fn named(store: &Arc<dyn BackupStore>) -> Vec<String> {
    match Repository::open(Arc::clone(store), repository_folder()).await {
        Ok(repository) => verified(&repository.unwrap()).await.damaged.into_iter().map(|damaged| damaged.name.to_string()).collect(),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid), "{error}");
            vec![key(layout::DESCRIPTOR).to_string(), error.to_string()]
        }
    }
}

async fn put(store: &Arc<dyn BackupStore>, name: &str, bytes: &[u8]) {
    store.put(&key(name), bytes.to_vec().into()).await.unwrap();
}

fn whole() -> Objects {
    with_rescue_files(golden())
}

#[tokio::test]
async fn a_changed_byte_of_any_object_is_named() {
    let objects = whole();
    let store = store(&objects).await;
    assert_eq!(named(&store).await, Vec::<String>::new());
    let every = std::env::var_os(EVERY_BYTE).is_some();
    let mut changed = 0;
    for (name, good) in &objects {
        let step = if every { 1 } else { good.len().div_ceil(SAMPLE) };
        // The ends always, since lengths and digests stand there.
        let ends = (0..good.len().min(16)).chain(good.len().saturating_sub(64)..good.len());
        for at in (0..good.len()).step_by(step).chain(ends) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            put(&store, name, &bad).await;
            let named = named(&store).await;
            assert!(named.contains(&key(name).to_string()), "byte {at} of {name}: {named:?}");
            changed += 1;
        }
        put(&store, name, good).await;
    }
    assert!(changed > 2_000, "{changed}");
    assert_eq!(named(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_object_that_is_cut_off_lengthened_or_gone_is_named() {
    let objects = whole();
    let store = store(&objects).await;
    for (name, good) in &objects {
        for length in [0, 1, 7, 8, 40, good.len() / 2, good.len() - 1] {
            put(&store, name, &good[..length.min(good.len() - 1)]).await;
            let named = named(&store).await;
            assert!(named.contains(&key(name).to_string()), "{length} bytes of {name}: {named:?}");
        }
        put(&store, name, &[good.as_slice(), &[0]].concat()).await;
        let longer = named(&store).await;
        assert!(longer.contains(&key(name).to_string()), "{name} with a byte behind it: {longer:?}");
        store.delete(&key(name)).await.unwrap();
        let gone = named(&store).await;
        // An intent goes when its run is over, and a backup whose manifest is gone is none, as after `prune`.
        let may_go = name.ends_with(".intent") || name.ends_with(".manifest");
        assert_eq!(gone.contains(&key(name).to_string()), !may_go, "{name} is gone: {gone:?}");
        put(&store, name, good).await;
    }
    assert_eq!(named(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn two_objects_that_changed_places_are_both_named() {
    let mut objects = whole();
    // A second interrupted run, so that there are two of each kind but of the descriptor.
    let [run, ..] = builder::runs();
    let began_at = run.began_at();
    let intent = pgpersist_core::repo::intent::Intent::of_backup(run, None, began_at);
    objects.insert(layout::intent(run), intent.encode().unwrap());
    let store = store(&objects).await;
    let kind = |name: &str| match name.rsplit_once('.') {
        // RESTORE.md and restore.py are for the same people.
        Some((_, "md" | "py")) => "rescue".to_owned(),
        Some((_, suffix)) => suffix.to_owned(),
        None => name.to_owned(),
    };
    let mut swapped = 0;
    for (first, one) in &objects {
        for (second, other) in objects.range(first.clone()..).skip(1).filter(|(name, _)| kind(name) == kind(first)) {
            put(&store, first, other).await;
            put(&store, second, one).await;
            let named = named(&store).await;
            let both = [first, second].iter().all(|name| named.contains(&key(name).to_string()));
            assert!(both, "{first} and {second}: {named:?}");
            put(&store, first, one).await;
            put(&store, second, other).await;
            swapped += 1;
        }
    }
    // 15 packs, 3 manifests, 2 intents, 2 files for people.
    assert_eq!(swapped, 15 * 14 / 2 + 3 + 1 + 1);
    assert_eq!(named(&store).await, Vec::<String>::new());
}
