//! The stores keep the promises of `BackupStore`, the suite notices one that does not, and a folder is a careful store.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::store::conformance::violations;
use pgpersist_core::store::faulty::{Calls, Effect, FaultPlan, FaultyStore, Operation};
use pgpersist_core::store::local::LocalBackupStore;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey, ObjectMeta, Upload, open};

use crate::support::skip::skip;

type Store = Arc<dyn BackupStore>;

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

async fn keys(store: &dyn BackupStore) -> Vec<String> {
    store.list("").map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_keeps_the_contract() {
    assert_eq!(violations(|| async { Arc::new(MemoryBackupStore::new()) as Store }).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_keeps_the_contract() {
    let scratch = tempfile::tempdir().unwrap();
    let folders = std::sync::atomic::AtomicU32::new(0);
    let make = || {
        let number = folders.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let url = format!("file://{}/not/yet/{number}", scratch.path().display()).parse().unwrap();
        async move { open::open(&url).unwrap() }
    };
    assert_eq!(violations(make).await, []);
}

/// A service may refuse it; a folder and memory have no reason to.
#[tokio::test]
async fn a_folder_and_memory_keep_a_backslash() {
    let scratch = tempfile::tempdir().unwrap();
    let stores = [Arc::new(LocalBackupStore::open(scratch.path()).unwrap()) as Store, Arc::new(MemoryBackupStore::new())];
    for store in stores {
        store.put(&key("back\\slash"), "kept".into()).await.unwrap();
        assert_eq!(
            (keys(store.as_ref()).await, store.get(&key("back\\slash")).await.unwrap()),
            (vec!["back\\slash".to_owned()], "kept".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_faulty_store_without_faults_keeps_the_contract() {
    let make = || async { Arc::new(FaultyStore::new(Arc::new(MemoryBackupStore::new()), FaultPlan::default())) as Store };
    assert_eq!(violations(make).await, []);
}

/// The ways in which a store can be wrong that the suite must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    PutIfAbsentReplaces,
    PutIfAbsentLooksAndThenPuts,
    UploadReplaces,
    UploadIsSeenAtOnce,
    DroppedUploadIsPublished,
    ListsBackwards,
    ListsOneLevel,
    PrefixIsAFolder,
    RangeIgnoresItsStart,
    RangePastTheEndFails,
    SecondDeleteFails,
    LosesEmptyObjects,
    FoldsCase,
    DecodesPercent,
    TakesABackslashForASlash,
    MissingIsEmpty,
    LosesTheLastBytesOfAnUpload,
}

#[derive(Debug)]
struct Flawed {
    inner: MemoryBackupStore,
    flaw: Flaw,
}

impl fmt::Display for Flawed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.flaw)
    }
}

impl Flawed {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn key(&self, key: &ObjectKey) -> ObjectKey {
        match self.flaw {
            Flaw::FoldsCase => key.as_str().to_lowercase().parse().unwrap(),
            Flaw::DecodesPercent => key.as_str().replace("%25", "%").parse().unwrap(),
            Flaw::TakesABackslashForASlash => key.as_str().replace('\\', "/").parse().unwrap(),
            _ => key.clone(),
        }
    }
}

#[async_trait]
impl BackupStore for Flawed {
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        if self.has(Flaw::LosesEmptyObjects) && bytes.is_empty() {
            return Ok(());
        }
        self.inner.put(&self.key(key), bytes).await
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let key = &self.key(key);
        if self.has(Flaw::PutIfAbsentReplaces) {
            return self.inner.put(key, bytes).await;
        }
        if self.has(Flaw::PutIfAbsentLooksAndThenPuts) {
            if self.inner.head(key).await.is_ok() {
                return Err(Error::conflict("there", ""));
            }
            tokio::task::yield_now().await;
            return self.inner.put(key, bytes).await;
        }
        self.inner.put_if_absent(key, bytes).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        match self.inner.get(&self.key(key)).await {
            Err(_) if self.has(Flaw::MissingIsEmpty) => Ok(Bytes::new()),
            result => result,
        }
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        if self.has(Flaw::RangeIgnoresItsStart) {
            return self.inner.get_range(key, 0..range.end).await;
        }
        if self.has(Flaw::RangePastTheEndFails) && range.end > self.inner.head(key).await?.size_bytes {
            return Err(Error::invalid("past the end", ""));
        }
        self.inner.get_range(&self.key(key), range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        Ok(ObjectMeta { key: key.clone(), ..self.inner.head(&self.key(key)).await? })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        let flaw = self.flaw;
        match flaw {
            Flaw::ListsBackwards => stream::once(async move {
                let mut all: Vec<_> = listed.collect().await;
                all.reverse();
                stream::iter(all)
            })
            .flatten()
            .boxed(),
            Flaw::ListsOneLevel => listed.try_filter(|meta| std::future::ready(!meta.key.as_str().contains('/'))).boxed(),
            Flaw::PrefixIsAFolder => listed
                .try_filter(move |meta| {
                    let rest = &meta.key.as_str()[prefix.len()..];
                    std::future::ready(prefix.is_empty() || prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
                })
                .boxed(),
            _ => listed,
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        if self.has(Flaw::SecondDeleteFails) {
            self.inner.head(key).await?;
        }
        self.inner.delete(&self.key(key)).await
    }

    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let parts = Vec::new();
        Ok(Box::new(FlawedUpload { store: self.inner.clone(), key: self.key(key), asked: key.clone(), parts, flaw: self.flaw }))
    }
}

struct FlawedUpload {
    store: MemoryBackupStore,
    key: ObjectKey,
    asked: ObjectKey,
    parts: Vec<Bytes>,
    flaw: Flaw,
}

#[async_trait]
impl Upload for FlawedUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.parts.push(bytes);
        if self.flaw == Flaw::UploadIsSeenAtOnce {
            self.store.put(&self.key, self.parts.concat().into()).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectMeta> {
        if self.flaw == Flaw::LosesTheLastBytesOfAnUpload && self.parts.len() > 10 {
            self.parts.pop();
        }
        let bytes = Bytes::from(self.parts.concat());
        self.parts.clear();
        if matches!(self.flaw, Flaw::UploadReplaces | Flaw::UploadIsSeenAtOnce) {
            self.store.put(&self.key, bytes).await?;
        } else {
            self.store.put_if_absent(&self.key, bytes).await?;
        }
        Ok(ObjectMeta { key: self.asked.clone(), ..self.store.head(&self.key).await? })
    }
}

impl Drop for FlawedUpload {
    fn drop(&mut self) {
        if self.flaw == Flaw::DroppedUploadIsPublished && !self.parts.is_empty() {
            let (store, key, bytes) = (self.store.clone(), self.key.clone(), Bytes::from(self.parts.concat()));
            futures_util::FutureExt::now_or_never(async move { store.put(&key, bytes).await });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_notices_every_flaw() {
    for (flaw, promise) in [
        (Flaw::PutIfAbsentReplaces, "put_if_absent_never_replaces"),
        (Flaw::PutIfAbsentLooksAndThenPuts, "of_concurrent_put_if_absent_exactly_one_wins"),
        (Flaw::UploadReplaces, "an_upload_never_replaces"),
        (Flaw::UploadIsSeenAtOnce, "an_upload_is_seen_when_finished_and_not_before"),
        (Flaw::DroppedUploadIsPublished, "a_dropped_upload_leaves_nothing"),
        (Flaw::ListsBackwards, "a_list_is_in_key_order_and_recursive"),
        (Flaw::ListsOneLevel, "a_list_is_in_key_order_and_recursive"),
        (Flaw::PrefixIsAFolder, "a_prefix_counts_characters_not_folders"),
        (Flaw::RangeIgnoresItsStart, "ranges_are_clipped_to_the_object"),
        (Flaw::RangePastTheEndFails, "ranges_are_clipped_to_the_object"),
        (Flaw::SecondDeleteFails, "delete_may_be_repeated"),
        (Flaw::LosesEmptyObjects, "empty_objects_are_objects"),
        (Flaw::FoldsCase, "a_list_is_in_key_order_and_recursive"),
        (Flaw::DecodesPercent, "odd_keys_are_kept_as_they_are"),
        (Flaw::TakesABackslashForASlash, "a_backslash_is_kept_or_refused"),
        (Flaw::MissingIsEmpty, "what_does_not_exist_is_not_found"),
        (Flaw::LosesTheLastBytesOfAnUpload, "a_large_upload_is_whole"),
    ] {
        let broken = violations(|| async { Arc::new(Flawed { inner: MemoryBackupStore::new(), flaw }) as Store }).await;
        assert!(broken.iter().any(|violation| violation.promise == promise), "{flaw:?}: {broken:#?}");
    }
}

#[tokio::test]
async fn faults_happen_as_planned() {
    let memory = MemoryBackupStore::new();
    let faulty = |operation, calls, effect| FaultyStore::new(Arc::new(memory.clone()), FaultPlan::one(operation, calls, effect));

    let store = faulty(Operation::Put, Calls::Nth(2), Effect::Fail(ErrorKind::Unavailable));
    store.put(&key("a"), "one".into()).await.unwrap();
    assert_eq!(store.put(&key("a"), "two".into()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(memory.get(&key("a")).await.unwrap(), "one");
    store.put(&key("a"), "three".into()).await.unwrap();
    assert_eq!(store.calls(Operation::Put), 3);

    let store = faulty(Operation::PutIfAbsent, Calls::From(1), Effect::LoseAnswer(ErrorKind::Unavailable));
    assert_eq!(store.put_if_absent(&key("b"), "kept".into()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(memory.get(&key("b")).await.unwrap(), "kept");
    assert_eq!(store.put_if_absent(&key("b"), "kept".into()).await.unwrap_err().kind(), ErrorKind::Conflict);

    let store = faulty(Operation::Get, Calls::Nth(1), Effect::Corrupt);
    let corrupted = store.get(&key("b")).await.unwrap();
    let flipped: u32 = corrupted.iter().zip("kept".bytes()).map(|(&found, put)| (found ^ put).count_ones()).sum();
    assert_eq!((corrupted.len(), flipped), (4, 1));
    assert_eq!(store.get(&key("b")).await.unwrap(), "kept");

    let store = faulty(Operation::Upload, Calls::Nth(1), Effect::Tear(5));
    let mut upload = store.upload(&key("c")).await.unwrap();
    upload.write("1234".into()).await.unwrap();
    assert_eq!(upload.write("5678".into()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(upload.finish().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(memory.get(&key("c")).await.unwrap_err().kind(), ErrorKind::NotFound);

    let store = faulty(Operation::List, Calls::Nth(1), Effect::Fail(ErrorKind::Denied));
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(keys(&store).await, ["a", "b"]);
}

#[tokio::test]
async fn chance_is_decided_by_the_seed() {
    let run = async |seed| {
        let fault = FaultPlan::one(Operation::Head, Calls::Percent(30), Effect::Fail(ErrorKind::Unavailable));
        let store = FaultyStore::new(Arc::new(MemoryBackupStore::new()), FaultPlan { seed, ..fault });
        let mut hit = Vec::new();
        for call in 0..200 {
            if store.head(&key("x")).await.unwrap_err().kind() == ErrorKind::Unavailable {
                hit.push(call);
            }
        }
        hit
    };
    let first = run(1).await;
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
    assert!((30..90).contains(&first.len()), "{}", first.len());
}

fn write(path: &Path, text: &str) {
    File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn nothing_is_created_before_the_first_write_and_nobody_else_may_read() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("new/store");
    let store = LocalBackupStore::open(&root).unwrap();
    assert_eq!(keys(&store).await, [""; 0]);
    store.delete(&key("a")).await.unwrap();
    assert!(!scratch.path().join("new").exists());

    store.put(&key("folder/object"), "x".into()).await.unwrap();
    let mut upload = store.upload(&key("other/object")).await.unwrap();
    upload.write("y".into()).await.unwrap();
    upload.finish().await.unwrap();
    let mode = |path: &str| fs::metadata(scratch.path().join(path)).unwrap().permissions().mode() & 0o7777;
    for folder in ["new", "new/store", "new/store/folder", "new/store/other"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    assert_eq!((mode("new/store/folder/object"), mode("new/store/other/object")), (0o600, 0o600));
}

#[tokio::test]
async fn links_are_neither_listed_nor_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    write(&outside.join("secret"), "secret");
    let root = scratch.path().join("store");
    let store = LocalBackupStore::open(&root).unwrap();
    store.put(&key("real"), "x".into()).await.unwrap();
    symlink(&outside, root.join("folder")).unwrap();
    symlink(outside.join("secret"), root.join("latest")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();

    assert_eq!(keys(&store).await, ["real"]);
    assert!(store.list("folder/").try_collect::<Vec<_>>().await.unwrap().is_empty());
    for name in ["folder/secret", "latest", "folder/new", "dangling"] {
        let key = key(name);
        assert_eq!(store.get(&key).await.unwrap_err().kind(), ErrorKind::Denied, "{name}");
        assert_eq!(store.put(&key, "y".into()).await.unwrap_err().kind(), ErrorKind::Denied, "{name}");
        assert_eq!(store.put_if_absent(&key, "y".into()).await.unwrap_err().kind(), ErrorKind::Denied, "{name}");
        assert_eq!(store.delete(&key).await.unwrap_err().kind(), ErrorKind::Denied, "{name}");
        assert_eq!(store.upload(&key).await.err().unwrap().kind(), ErrorKind::Denied, "{name}");
    }
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);

    // The root itself may be a link: the user named it.
    symlink(&root, scratch.path().join("link")).unwrap();
    assert_eq!(keys(&LocalBackupStore::open(scratch.path().join("link")).unwrap()).await, ["real"]);
}

#[tokio::test]
async fn what_is_no_object_is_ignored() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = tempfile::tempdir().unwrap();
    let store = LocalBackupStore::open(scratch.path()).unwrap();
    store.put(&key("a"), "x".into()).await.unwrap();
    write(&scratch.path().join(".a.1234.pgpersist-tmp"), "half");
    write(&scratch.path().join("new\nline"), "foreign");
    write(&scratch.path().join(std::ffi::OsStr::from_bytes(b"not\xffutf8")), "foreign");
    fs::create_dir(scratch.path().join("lost+found")).unwrap();
    write(&scratch.path().join("lost+found/x"), "foreign");
    assert!(Command::new("mkfifo").arg(scratch.path().join("fifo")).status().unwrap().success());
    assert_eq!(keys(&store).await, ["a"]);
    assert_eq!(store.get(&key("fifo")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.put(&key("fifo"), "x".into()).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn an_upload_sweeps_what_a_killed_one_left() {
    let scratch = tempfile::tempdir().unwrap();
    let store = LocalBackupStore::open(scratch.path()).unwrap();
    let left = scratch.path().join(".backup.00000000.pgpersist-tmp");
    File::create(&left).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let living = store.upload(&key("first")).await.unwrap();
    assert!(!left.exists());
    let second = store.upload(&key("second")).await.unwrap();
    living.finish().await.unwrap();
    drop(second);
    let names: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["first"]);
}

#[tokio::test]
async fn a_file_in_the_way_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    write(&scratch.path().join("file"), "x");
    for path in ["file", "file/below", "file/far/below"] {
        let error = LocalBackupStore::open(scratch.path().join(path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{path}: {error}");
        assert!(error.remedy().is_some(), "{path}");
    }
    let store = LocalBackupStore::open(scratch.path()).unwrap();
    let error = store.put(&key("file/below"), "y".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    fs::create_dir(scratch.path().join("folder")).unwrap();
    let error = store.put(&key("folder"), "y".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");

    // The folder became a file after it was opened.
    let root = scratch.path().join("root");
    let store = LocalBackupStore::open(&root).unwrap();
    write(&root, "x");
    assert_eq!(store.put(&key("a"), "y".into()).await.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Where the test below runs itself again: on a file system of its own, or as another user.
const CHILD: &str = "PGPERSIST_TEST_STORE_CHILD";

#[tokio::test]
async fn a_full_a_read_only_and_a_forbidden_folder_are_told_apart() {
    let name = "store_contract::a_full_a_read_only_and_a_forbidden_folder_are_told_apart";
    if let Ok(folder) = std::env::var(CHILD) {
        return write_where_it_cannot_work(Path::new(&folder)).await;
    }
    // Root may mount; everybody else is root of a namespace first, which not every container allows.
    let namespaces: &[&str] = if rustix::process::geteuid().is_root() { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let allowed = Command::new("unshare").args(namespaces).arg("true").output().unwrap().status.success();
    if !allowed {
        return skip("namespaces", "no namespace of mounts can be had here");
    }
    let scratch = tempfile::tempdir().unwrap();
    let run = |script: &str, case: &str| {
        let folder = scratch.path().join(case);
        fs::create_dir(&folder).unwrap();
        let output = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-ec", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, &folder)
            .output()
            .unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && told.contains("1 passed"), "{case}: {told}");
    };
    run(&format!("mount -t tmpfs -o size=256k tmpfs \"${CHILD}\"; exec \"$@\""), "full");
    run(&format!("mount -t tmpfs -o ro tmpfs \"${CHILD}\"; exec \"$@\""), "read_only");
    // Root that has dropped its capabilities is an ordinary user.
    run(&format!("chmod 500 \"${CHILD}\"; exec setpriv --bounding-set=-all --inh-caps=-all \"$@\""), "forbidden");
    assert_eq!(fs::metadata(scratch.path().join("full")).unwrap().nlink(), 2, "the mounts went with their namespace");
}

async fn write_where_it_cannot_work(folder: &Path) {
    let store = LocalBackupStore::open(folder).unwrap();
    let large = Bytes::from(vec![1; 1 << 20]);
    let (kind, remedy) = match folder.file_name().unwrap().to_str().unwrap() {
        "full" => (ErrorKind::Unavailable, "free some space"),
        "read_only" => (ErrorKind::Unavailable, "remount"),
        _ => (ErrorKind::Denied, "run as the user"),
    };
    let uploaded = match store.upload(&key("a")).await {
        Ok(mut upload) => upload.write(large.clone()).await,
        Err(error) => Err(error),
    };
    for result in [store.put(&key("a"), large.clone()).await, store.put_if_absent(&key("b/c"), large).await, uploaded] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind, "{error} {:?}", error.causes());
        assert!(error.remedy().unwrap().contains(remedy), "{:?}", error.remedy());
    }
    assert_eq!(keys(&store).await, [""; 0], "no half of an object is left");
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).filter(|name| name != "b").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_folder_forgets_what_killed_writers_left_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalBackupStore::open(folder.path()).unwrap();
    store.put(&"packs/run/000000.pack".parse().unwrap(), "whole".into()).await.unwrap();
    let place = |name: &str| folder.path().join("packs/run").join(name);
    let now = std::time::SystemTime::from(SystemClock.now());
    let old = now - std::time::Duration::from_secs(90);
    // Somebody who lives may be slow.
    let mut slow = store.upload(&"packs/run/000005.pack".parse().unwrap()).await.unwrap();
    slow.write("half".into()).await.unwrap();
    let held = std::fs::read_dir(folder.path().join("packs/run")).unwrap().map(|entry| entry.unwrap().path());
    let held = { held }.find(|path| path.extension().is_some_and(|end| end == "pgpersist-tmp")).unwrap();
    std::fs::File::open(held).unwrap().set_modified(old).unwrap();
    for (name, modified) in [
        (".000001.pack.01234567.pgpersist-tmp", old),
        (".000002.pack.01234567.pgpersist-tmp", now),
        (".movie.mkv.01234567.pgpersist-tmp", old),
        (".000003.pack.pgpersist-tmp", old),
        ("000004.pack", old),
    ] {
        std::fs::File::create(place(name)).unwrap().set_modified(modified).unwrap();
    }
    let is_ours = |key: &ObjectKey| key.as_str().starts_with("packs/run/") && key.as_str().ends_with(".pack");
    let day = std::time::Duration::from_secs(86_400);
    assert_eq!(store.remove_unfinished(day, &is_ours).await.unwrap(), 1);
    assert_eq!(store.remove_unfinished(day, &is_ours).await.unwrap(), 0);
    let left = std::fs::read_dir(folder.path().join("packs/run")).unwrap().count();
    assert!(left == 6 && !place(".000001.pack.01234567.pgpersist-tmp").exists(), "{left}");
    slow.finish().await.unwrap();
}
