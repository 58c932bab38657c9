//! Every byte counts: whatever is changed in a repository, `verify` names it. All kinds of objects are there, and each test goes through a
//! repository that is encrypted as well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use pgpersist_core::encryption::key_file;
use pgpersist_core::encryption::settings::EncryptionSettings;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::key_ring::ring::KeyRing;
use pgpersist_core::repo::dropped::Dropped;
use pgpersist_core::repo::keys::RepositoryKeys;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::store::BackupStore;
use time::OffsetDateTime;

use crate::golden::builder::Objects;
use crate::golden::{builder, golden, key, repository_folder, store, verified, with_rescue_files};

/// With this set all bytes are changed in turn, else a sample.
const EVERY_BYTE: &str = "PGPERSIST_TEST_EVERY_BYTE";
/// How many bytes of an object are a sample.
const SAMPLE: usize = 50;
/// The kinds of objects, by the ends of their names.
const KINDS: [&[&str]; 9] =
    [&["repository"], &[".md", ".py"], &[".intent"], &[".beat"], &[".tombstone"], &[".dropped"], &[".key"], &[".pack"], &[".manifest"]];

/// A repository on trial.
struct Trial {
    name: &'static str,
    objects: Objects,
    store: Arc<dyn BackupStore>,
    /// What opens it, where it is encrypted.
    settings: Option<EncryptionSettings>,
}

impl Trial {
    async fn new(name: &'static str, objects: Objects, settings: Option<EncryptionSettings>) -> Self {
        let mut objects = with_rescue_files(objects);
        objects.extend(builder::passing());
        let store = store(&objects).await;
        let trial = Self { name, objects, store, settings };
        assert_eq!(trial.named().await, Vec::<String>::new(), "{name}");
        trial
    }

    /// What was written once, and the same encrypted to a key in this folder.
    async fn both(keys: &tempfile::TempDir) -> [Self; 2] {
        let file = keys.path().join("key");
        let reader = key_file::create(&file, OffsetDateTime::UNIX_EPOCH).unwrap();
        let settings = EncryptionSettings { recipients: vec![reader], identity_file: Some(file), ..EncryptionSettings::default() };
        [Self::new("plain", golden(), None).await, Self::new("encrypted", builder::encrypted(reader), Some(settings)).await]
    }

    /// What `verify` names; a repository that cannot be opened names its descriptor. Each time it is opened anew, keys and all.
    async fn named(&self) -> Vec<String> {
        let repository = match Repository::open(Arc::clone(&self.store), repository_folder()).await {
            Ok(repository) => repository.unwrap(),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid), "{error}");
                return vec![key(layout::DESCRIPTOR).to_string(), error.to_string()];
            }
        };
        let repository = match &self.settings {
            Some(settings) => {
                let ring = KeyRing::new(Arc::clone(&self.store), ".pgpersist/main/keys".parse().unwrap());
                repository.with_keys(Arc::new(RepositoryKeys::new(ring, settings.clone(), None)))
            }
            None => repository,
        };
        let report = verified(&repository).await;
        assert!(report.unopened.is_empty() || !report.damaged.is_empty(), "{}: {report:?}", self.name);
        report.damaged.into_iter().map(|damaged| damaged.name.to_string()).collect()
    }

    async fn put(&self, name: &str, bytes: &[u8]) {
        self.store.put(&key(name), bytes.to_vec().into()).await.unwrap();
    }

    /// After this was done to an object, it is named.
    async fn assert_named(&self, name: &str, what: impl std::fmt::Display) {
        let named = self.named().await;
        assert!(named.contains(&key(name).to_string()), "{}: {what} of {name}: {named:?}", self.name);
    }

    async fn end(self) {
        assert_eq!(self.named().await, Vec::<String>::new(), "{}: not as it was", self.name);
    }
}

/// A line that `script/proofs` makes a row of.
#[expect(clippy::print_stdout, reason = "it is read from there")]
fn proven(what: &str, count: &str, began: Instant) {
    println!("proof: {what}|{count}|0|-|{:.1}", began.elapsed().as_secs_f64());
}

#[tokio::test]
async fn a_changed_byte_of_any_object_is_named() {
    let began = Instant::now();
    let every = std::env::var_os(EVERY_BYTE).is_some();
    let keys = tempfile::tempdir().unwrap();
    let (mut changed, mut bytes) = (0, 0);
    for trial in Trial::both(&keys).await {
        for (name, good) in &trial.objects {
            bytes += good.len();
            let step = if every { 1 } else { good.len().div_ceil(SAMPLE) };
            // The ends always, since lengths and digests stand there.
            let ends = (0..good.len().min(16)).chain(good.len().saturating_sub(64)..good.len());
            let ends = ends.filter(|at| at % step != 0);
            for at in (0..good.len()).step_by(step).chain(ends) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                trial.put(name, &bad).await;
                trial.assert_named(name, format_args!("byte {at}")).await;
                changed += 1;
            }
            trial.put(name, good).await;
        }
        trial.end().await;
    }
    assert!(changed > 4_000 && (!every || changed == bytes), "{changed} of {bytes}");
    let count = format!("{changed} of {bytes} bytes of two repositories with three backups each, all named");
    proven("a changed byte of a repository", &count, began);
}

#[tokio::test]
async fn an_object_that_is_cut_off_lengthened_or_gone_is_named() {
    let began = Instant::now();
    let keys = tempfile::tempdir().unwrap();
    let (mut cut, mut gone, mut passed) = (0, 0, 0);
    for trial in Trial::both(&keys).await {
        for (name, good) in &trial.objects {
            for length in [0, 1, 7, 8, 40, good.len() / 2, good.len() - 1] {
                trial.put(name, &good[..length.min(good.len() - 1)]).await;
                trial.assert_named(name, format_args!("the first {length} bytes")).await;
            }
            trial.put(name, &[good.as_slice(), &[0]].concat()).await;
            trial.assert_named(name, "one byte more").await;
            cut += 8;
            trial.store.delete(&key(name)).await.unwrap();
            let named = trial.named().await;
            // What comes and goes goes. The runs that have these here have no packs that anybody would miss them for.
            let may_go = [".intent", ".beat", ".tombstone", ".dropped"].iter().any(|end| name.ends_with(end));
            assert_eq!(named.contains(&key(name).to_string()), !may_go, "{}: {name} is gone: {named:?}", trial.name);
            passed += usize::from(may_go);
            gone += 1;
            trial.put(name, good).await;
        }
        trial.end().await;
    }
    let count = format!("{cut} cut or lengthened, all named; {gone} removed, all named but {passed} that may go");
    proven("objects of a repository, cut or removed", &count, began);
}

#[tokio::test]
async fn a_pack_that_no_backup_needs_is_looked_at_and_a_run_that_was_given_up_is_not_missed() {
    let keys = tempfile::tempdir().unwrap();
    for trial in Trial::both(&keys).await {
        let [.., third, _] = builder::runs();
        trial.store.delete(&key(&layout::manifest(third))).await.unwrap();
        trial.assert_named(&layout::manifest(third), "the loss").await;
        trial.put(&layout::dropped(third), &Dropped { run: third }.encode().unwrap()).await;
        assert_eq!(trial.named().await, Vec::<String>::new(), "{}", trial.name);
        let own = |(name, _): &(&String, &Vec<u8>)| layout::parse_pack(name).is_some_and(|pack| pack.run == third);
        for (name, good) in trial.objects.iter().filter(own) {
            for at in [0, good.len() / 2, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                trial.put(name, &bad).await;
                trial.assert_named(name, format_args!("byte {at}")).await;
            }
            trial.put(name, good).await;
        }
        trial.end().await;
    }
}

#[tokio::test]
async fn two_objects_that_changed_places_are_both_named() {
    let began = Instant::now();
    let keys = tempfile::tempdir().unwrap();
    // Who restores by hand takes both of the files that are for people.
    let kind = |name: &str| KINDS.iter().position(|ends| ends.iter().any(|end| name.ends_with(end))).unwrap();
    let mut swapped = 0;
    for trial in Trial::both(&keys).await {
        let kinds: BTreeSet<usize> = trial.objects.keys().map(|name| kind(name)).collect();
        assert_eq!(kinds.len(), KINDS.len() - usize::from(trial.settings.is_none()), "a kind is missing");
        for (first, one) in &trial.objects {
            // There is one descriptor, which changes places with everything. Without it nobody knows of anything else.
            let of_all = |name: &str| name == layout::DESCRIPTOR;
            let others = trial.objects.range(first.clone()..).skip(1);
            for (second, other) in others.filter(|(name, _)| kind(name) == kind(first) || of_all(name) || of_all(first)) {
                trial.put(first, other).await;
                trial.put(second, one).await;
                let named = trial.named().await;
                let alone = of_all(first) || of_all(second);
                let mut wanted = [first, second].into_iter().filter(|name| !alone || of_all(name));
                assert!(wanted.all(|name| named.contains(&key(name).to_string())), "{}: {first} and {second}: {named:?}", trial.name);
                trial.put(first, one).await;
                trial.put(second, other).await;
                swapped += 1;
            }
        }
        trial.end().await;
    }
    proven("objects of a repository, swapped", &format!("{swapped} pairs, all named"), began);
}
