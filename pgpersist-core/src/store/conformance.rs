//! The suite that every [`BackupStore`] must pass. It asks for each promise of the trait, on a store of its own.
//!
//! ```
//! # use std::sync::Arc;
//! # use pgpersist_core::store::{BackupStore, memory::MemoryBackupStore, conformance};
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let broken = conformance::violations(|| async { Arc::new(MemoryBackupStore::new()) as Arc<dyn BackupStore> }).await;
//! assert!(broken.is_empty(), "{broken:?}");
//! # });
//! ```
//!
//! Durability is not asked for here: that takes a power cut.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::TryStreamExt;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{BackupStore, ObjectKey, ObjectMeta};

/// A promise that a store did not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise, such as `empty_objects_are_objects`.
    pub promise: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// Asks a kind of store for every promise, each on an empty store that `make` returns, and returns what was not kept.
/// Needs tokio's runtime of several threads, since some promises are about concurrency.
pub async fn violations<F, Fut>(make: F) -> Vec<Violation>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn BackupStore>>,
{
    let mut violations = Vec::new();
    for promise in promises() {
        violations.extend(promise.ask(make().await).await);
    }
    violations
}

/// One promise of the contract, to be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// Its name, such as `empty_objects_are_objects`.
    pub name: &'static str,
    ask: Ask,
}

impl Promise {
    /// Asks an empty store for it.
    pub async fn ask(&self, store: Arc<dyn BackupStore>) -> Option<Violation> {
        // A task of its own: a store that panics breaks its promise, not the suite.
        let seen = match tokio::spawn((self.ask)(store)).await {
            Ok(Ok(())) => return None,
            Ok(Err(Broken(seen))) => seen,
            Err(panic) => panic.to_string(),
        };
        Some(Violation { promise: self.name, seen })
    }
}

/// How long after an upload was dropped its store is looked at once more.
const GIVING_UP: Duration = Duration::from_millis(300);

type Store = Arc<dyn BackupStore>;
type Kept = Result<(), Broken>;
type Ask = fn(Store) -> BoxFuture<'static, Kept>;

macro_rules! promises {
    ($($name:ident,)*) => {
        /// Every promise of the contract.
        pub fn promises() -> Vec<Promise> {
            vec![$(Promise { name: stringify!($name), ask: |store| Box::pin($name(store)) }),*]
        }
    };
}

promises! {
    an_object_reads_back_as_it_was_put,
    put_replaces,
    put_if_absent_never_replaces,
    of_concurrent_put_if_absent_exactly_one_wins,
    a_reader_sees_the_old_or_the_new_object_whole,
    what_does_not_exist_is_not_found,
    empty_objects_are_objects,
    ranges_are_clipped_to_the_object,
    a_list_is_in_key_order_and_recursive,
    a_prefix_counts_characters_not_folders,
    a_prefix_that_is_no_key_matches_nothing,
    folders_are_those_directly_below,
    odd_keys_are_kept_as_they_are,
    a_backslash_is_kept_or_refused,
    long_keys_are_kept_as_they_are,
    delete_may_be_repeated,
    an_upload_is_seen_when_finished_and_not_before,
    a_large_upload_is_whole,
    a_dropped_upload_leaves_nothing,
    an_upload_never_replaces,
    of_concurrent_uploads_exactly_one_wins,
}

struct Broken(String);

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self(format!("{error} ({}) {:?}", error.kind().as_str(), error.causes()))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Kept {
    if found == expected { Ok(()) } else { Err(Broken(format!("{what}: found {found:?}, expected {expected:?}"))) }
}

fn fails<T>(what: &str, result: Result<T>, kind: ErrorKind) -> Kept {
    match result {
        Ok(_) => Err(Broken(format!("{what} succeeded, expected {}", kind.as_str()))),
        Err(error) => same(what, &error.kind(), &kind),
    }
}

fn key(text: &str) -> Result<ObjectKey, Broken> {
    Ok(text.parse::<ObjectKey>()?)
}

async fn keys(store: &Store, prefix: &str) -> Result<Vec<String>, Broken> {
    let metas: Vec<ObjectMeta> = store.list(prefix).try_collect().await?;
    Ok(metas.into_iter().map(|meta| meta.key.to_string()).collect())
}

/// Bytes that differ from place to place, so that a mix-up shows.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|place| (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]).collect()
}

async fn an_object_reads_back_as_it_was_put(store: Store) -> Kept {
    let key = key("folder/object")?;
    let bytes = pattern(300_000);
    store.put(&key, bytes.clone()).await?;
    same("get", &(store.get(&key).await? == bytes), &true)?;
    let head = store.head(&key).await?;
    same("key in head", &head.key, &key)?;
    same("size in head", &head.size_bytes, &300_000)?;
    let listed: Vec<ObjectMeta> = store.list("").try_collect().await?;
    same("list", &listed, &vec![head])
}

async fn put_replaces(store: Store) -> Kept {
    let key = key("object")?;
    for text in ["a long first text", "second", "second"] {
        store.put(&key, text.into()).await?;
        same("get after put", &store.get(&key).await?, &Bytes::from(text))?;
    }
    same("list", &keys(&store, "").await?, &vec!["object".to_owned()])
}

async fn put_if_absent_never_replaces(store: Store) -> Kept {
    let key = key("folder/object")?;
    store.put_if_absent(&key, "first".into()).await?;
    fails("the second put_if_absent", store.put_if_absent(&key, "second".into()).await, ErrorKind::Conflict)?;
    fails("put_if_absent of the same bytes", store.put_if_absent(&key, "first".into()).await, ErrorKind::Conflict)?;
    same("get", &store.get(&key).await?, &Bytes::from("first"))
}

async fn of_concurrent_put_if_absent_exactly_one_wins(store: Store) -> Kept {
    for round in 0..12 {
        let key = key(&format!("race/{round}"))?;
        let start = Arc::new(tokio::sync::Barrier::new(8));
        let racers = (0..8).map(|racer| {
            let (store, key, start) = (Arc::clone(&store), key.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                store.put_if_absent(&key, format!("racer {racer}").into()).await
            })
        });
        one_wins(&store, &key, join_all(racers).await).await?;
    }
    Ok(())
}

async fn one_wins(store: &Store, key: &ObjectKey, ends: Vec<Result<Result<()>, tokio::task::JoinError>>) -> Kept {
    let mut winners = Vec::new();
    for (racer, end) in ends.into_iter().enumerate() {
        match end.map_err(|panic| Broken(panic.to_string()))? {
            Ok(()) => winners.push(racer),
            Err(error) => same("the loser's error", &error.kind(), &ErrorKind::Conflict)?,
        }
    }
    same("winners", &winners.len(), &1)?;
    same("the object", &store.get(key).await?, &Bytes::from(format!("racer {}", winners[0])))
}

async fn a_reader_sees_the_old_or_the_new_object_whole(store: Store) -> Kept {
    let key = key("object")?;
    let content = |round: u8| Bytes::from(vec![round; 200_000 + usize::from(round)]);
    store.put(&key, content(0)).await?;
    let writer = {
        let (store, key) = (Arc::clone(&store), key.clone());
        tokio::spawn(async move {
            for round in 1..=20 {
                store.put(&key, content(round)).await?;
            }
            Ok::<_, Error>(())
        })
    };
    let mut last = 0;
    while last < 20 {
        let done = writer.is_finished();
        let bytes = store.get(&key).await?;
        let round = bytes.first().copied().unwrap_or(u8::MAX);
        same("one object at a time", &(bytes == content(round)), &true)?;
        same("a round seen again after a later one", &(round < last), &false)?;
        last = round;
        if done {
            break;
        }
        // A store that never waits would keep the writer from this thread.
        tokio::task::yield_now().await;
    }
    writer.await.map_err(|panic| Broken(panic.to_string()))??;
    same("the last object", &(store.get(&key).await? == content(20)), &true)
}

async fn what_does_not_exist_is_not_found(store: Store) -> Kept {
    store.put(&key("folder/object")?, "x".into()).await?;
    for missing in ["other", "folder/other", "folder", "other/object", "folder/object/below"] {
        let missing = key(missing)?;
        fails("get", store.get(&missing).await, ErrorKind::NotFound)?;
        fails("get_range", store.get_range(&missing, 0..1).await, ErrorKind::NotFound)?;
        fails("get_range of nothing", store.get_range(&missing, 0..0).await, ErrorKind::NotFound)?;
        fails("head", store.head(&missing).await, ErrorKind::NotFound)?;
    }
    Ok(())
}

async fn empty_objects_are_objects(store: Store) -> Kept {
    store.put(&key("a/put")?, Bytes::new()).await?;
    store.put_if_absent(&key("a/put_if_absent")?, Bytes::new()).await?;
    let meta = store.upload(&key("a/upload")?).await?.finish().await?;
    same("size of an empty upload", &meta.size_bytes, &0)?;
    let found = keys(&store, "a/").await?;
    same("list", &found, &["a/put", "a/put_if_absent", "a/upload"].map(str::to_owned).to_vec())?;
    for name in found {
        let key = key(&name)?;
        same("get", &store.get(&key).await?, &Bytes::new())?;
        same("get_range", &store.get_range(&key, 0..10).await?, &Bytes::new())?;
        same("head", &store.head(&key).await?.size_bytes, &0)?;
        fails("put_if_absent of an empty one", store.put_if_absent(&key, "x".into()).await, ErrorKind::Conflict)?;
    }
    Ok(())
}

async fn ranges_are_clipped_to_the_object(store: Store) -> Kept {
    let key = key("object")?;
    store.put(&key, "0123456789".into()).await?;
    for (range, expected) in [
        (0..10, "0123456789"),
        (0..1, "0"),
        (9..10, "9"),
        (3..7, "3456"),
        (0..0, ""),
        (5..5, ""),
        (8..12, "89"),
        (0..u64::MAX, "0123456789"),
        (10..11, ""),
        (10..10, ""),
        (11..12, ""),
        (u64::MAX - 1..u64::MAX, ""),
    ] {
        let what = format!("range {range:?}");
        same(&what, &store.get_range(&key, range).await?, &Bytes::from(expected))?;
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is the question")]
    let reversed = 7..3;
    fails("a range that ends before it starts", store.get_range(&key, reversed).await, ErrorKind::Invalid)
}

/// Their order by bytes; folders and files mixed, so that an order by folders shows.
const ORDERED: [&str; 9] = ["A", "a-b", "a.gz", "a/x", "a/y/z", "a0", "b/c.e", "b/c/d", "ü"];

async fn fill(store: &Store) -> Kept {
    // Neither in order nor in reverse.
    for place in [4, 0, 8, 2, 6, 1, 7, 3, 5] {
        store.put(&key(ORDERED[place])?, ORDERED[place].into()).await?;
    }
    Ok(())
}

async fn a_list_is_in_key_order_and_recursive(store: Store) -> Kept {
    same("the list of an empty store", &keys(&store, "").await?, &Vec::new())?;
    fill(&store).await?;
    same("list", &keys(&store, "").await?, &ORDERED.map(str::to_owned).to_vec())
}

async fn a_prefix_counts_characters_not_folders(store: Store) -> Kept {
    fill(&store).await?;
    for prefix in ["a", "a/", "a/x", "a/y", "a/y/", "a/y/z", "b", "b/c", "b/c/", "b/c.", "ü", "c", "a/xx", "a.gz/", "A/", "a/y/z/"] {
        let expected: Vec<_> = ORDERED.iter().filter(|key| key.starts_with(prefix)).map(|&key| key.to_owned()).collect();
        same(&format!("list of `{prefix}`"), &keys(&store, prefix).await?, &expected)?;
    }
    Ok(())
}

async fn a_prefix_that_is_no_key_matches_nothing(store: Store) -> Kept {
    fill(&store).await?;
    for prefix in ["/", "//", "/a", "a//", "../", "..", "./", ".", "a/../", "a/./x", "\0", "a/\0/", "/etc/"] {
        same(&format!("list of {prefix:?}"), &keys(&store, prefix).await?, &Vec::new())?;
    }
    Ok(())
}

async fn folders_are_those_directly_below(store: Store) -> Kept {
    same("the folders of an empty store", &store.folders("").await?, &Vec::new())?;
    fill(&store).await?;
    for (prefix, expected) in
        [("", vec!["a", "b"]), ("a/", vec!["y"]), ("a/y/", vec![]), ("b/", vec!["c"]), ("c/", vec![]), ("../", vec![])]
    {
        same(&format!("the folders of `{prefix}`"), &store.folders(prefix).await?, &expected.into_iter().map(str::to_owned).collect())?;
    }
    Ok(())
}

async fn odd_keys_are_kept_as_they_are(store: Store) -> Kept {
    let odd = [
        " ",
        "with space/and more .gz",
        "ünïcödé/ключ/鍵",
        "100%25/%2e%2e/%00",
        "%",
        "quote'\"`$;&|*?<>#.gz",
        "-leading-dash",
        ".hidden/.file",
        "...",
        "a:b",
        "file:",
        "tmp.pgpersist",
    ];
    kept(&store, &odd).await
}

async fn long_keys_are_kept_as_they_are(store: Store) -> Kept {
    kept(&store, &[&"l".repeat(230), &format!("{}end", "deep/".repeat(200))]).await
}

/// A service may take it for a slash: then such a key is refused, and is not another one's in silence.
async fn a_backslash_is_kept_or_refused(store: Store) -> Kept {
    let name = "back\\slash";
    match store.head(&key(name)?).await {
        Err(error) if error.kind() == ErrorKind::Invalid => {
            fails("put", store.put(&key(name)?, Bytes::new()).await, ErrorKind::Invalid)?;
            fails("put_if_absent", store.put_if_absent(&key(name)?, Bytes::new()).await, ErrorKind::Invalid)?;
            fails("upload", store.upload(&key(name)?).await, ErrorKind::Invalid)
        }
        _ => kept(&store, &[name]).await,
    }
}

/// Writes, lists, reads and deletes an object under each of these names.
async fn kept(store: &Store, names: &[&str]) -> Kept {
    let mut names = names.to_vec();
    for name in &names {
        store.put_if_absent(&key(name)?, Bytes::from((*name).to_owned())).await?;
    }
    names.sort_unstable();
    same("list", &keys(store, "").await?, &names.iter().map(|&name| name.to_owned()).collect())?;
    for name in &names {
        same("get", &store.get(&key(name)?).await?, &Bytes::from((*name).to_owned()))?;
        store.delete(&key(name)?).await?;
    }
    same("the list after all were deleted", &keys(store, "").await?, &Vec::new())
}

async fn delete_may_be_repeated(store: Store) -> Kept {
    let (gone, stays) = (key("folder/gone")?, key("folder/stays")?);
    store.put(&gone, "x".into()).await?;
    store.put(&stays, "y".into()).await?;
    store.delete(&gone).await?;
    store.delete(&gone).await?;
    for never in ["never", "folder", "no/such/folder", "folder/stays/below"] {
        store.delete(&key(never)?).await?;
    }
    fails("get after delete", store.get(&gone).await, ErrorKind::NotFound)?;
    same("what stays", &keys(&store, "").await?, &vec!["folder/stays".to_owned()])?;
    store.put_if_absent(&gone, "again".into()).await?;
    same("the name again", &store.get(&gone).await?, &Bytes::from("again"))
}

async fn an_upload_is_seen_when_finished_and_not_before(store: Store) -> Kept {
    let key = key("folder/object")?;
    let mut upload = store.upload(&key).await?;
    for part in ["one ", "", "two ", "three"] {
        upload.write(part.into()).await?;
        fails("get of an unfinished upload", store.get(&key).await, ErrorKind::NotFound)?;
        fails("head of an unfinished upload", store.head(&key).await, ErrorKind::NotFound)?;
        same("the list during an upload", &keys(&store, "").await?, &Vec::new())?;
    }
    let meta = upload.finish().await?;
    same("get", &store.get(&key).await?, &Bytes::from("one two three"))?;
    same("what finish returns", &(meta.key, meta.size_bytes), &(key.clone(), 13))?;
    same("head", &store.head(&key).await?.size_bytes, &13)?;
    same("list", &keys(&store, "").await?, &vec![key.to_string()])
}

async fn a_large_upload_is_whole(store: Store) -> Kept {
    let key = key("large")?;
    let bytes = pattern(20 << 20);
    let mut upload = store.upload(&key).await?;
    // Pieces of many sizes, small and large, that no buffer divides.
    let (mut rest, mut size) = (bytes.clone(), 1);
    while !rest.is_empty() {
        upload.write(rest.split_to(size.min(rest.len()))).await?;
        size = (size * 3 + 1) % 3_000_017;
    }
    let meta = upload.finish().await?;
    same("size", &meta.size_bytes, &(bytes.len() as u64))?;
    let mut place = 0;
    while place < bytes.len() {
        let end = (place + (4 << 20)).min(bytes.len());
        let part = store.get_range(&key, place as u64..end as u64).await?;
        same(&format!("the bytes {place}..{end}"), &(part == bytes.slice(place..end)), &true)?;
        place = end;
    }
    Ok(())
}

async fn a_dropped_upload_leaves_nothing(store: Store) -> Kept {
    let key = key("folder/object")?;
    for pieces in [0, 1, 5] {
        let mut upload = store.upload(&key).await?;
        for _ in 0..pieces {
            upload.write(pattern(100_000)).await?;
        }
        drop(upload);
        fails("get", store.get(&key).await, ErrorKind::NotFound)?;
        same("list", &keys(&store, "").await?, &Vec::new())?;
    }
    // A store that publishes what it has when it is told to give up does so a moment later.
    tokio::time::sleep(GIVING_UP).await;
    same("the list a moment later", &keys(&store, "").await?, &Vec::new())?;
    store.put_if_absent(&key, "x".into()).await?;
    same("get", &store.get(&key).await?, &Bytes::from("x"))
}

async fn an_upload_never_replaces(store: Store) -> Kept {
    let key = key("object")?;
    let mut upload = store.upload(&key).await?;
    upload.write("late".into()).await?;
    store.put_if_absent(&key, "first".into()).await?;
    fails("finish", upload.finish().await, ErrorKind::Conflict)?;
    let second = match store.upload(&key).await {
        Ok(upload) => upload.finish().await,
        Err(error) => Err(error),
    };
    fails("an upload over an object", second, ErrorKind::Conflict)?;
    same("get", &store.get(&key).await?, &Bytes::from("first"))?;
    same("list", &keys(&store, "").await?, &vec!["object".to_owned()])
}

async fn of_concurrent_uploads_exactly_one_wins(store: Store) -> Kept {
    for round in 0..6 {
        let key = key(&format!("race/{round}"))?;
        let start = Arc::new(tokio::sync::Barrier::new(6));
        let racers = (0..6).map(|racer| {
            let (store, key, start) = (Arc::clone(&store), key.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                let upload = store.upload(&key).await;
                start.wait().await;
                let mut upload = upload?;
                upload.write(format!("racer {racer}").into()).await?;
                upload.finish().await.map(|_| ())
            })
        });
        one_wins(&store, &key, join_all(racers).await).await?;
    }
    Ok(())
}
