//! Asks a store for everything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, ProgressSink};
use crate::store::below::Below;
use crate::store::check::report::{CheckReport, Fitness, Latency};
use crate::store::check::speed;
use crate::store::conformance::{self, Promise, Violation};
use crate::store::observation::Observation;
use crate::store::{BackupStore, ObjectKey, conditions};

/// How long one promise may take to be asked for.
const ONE_PROMISE: Duration = Duration::from_secs(300);
/// What the key begins with below which everything happens.
const PLACE: &str = ".pgpersist/check";

/// What is wished for besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// The size of the object that measures the throughput, in bytes; none leaves that out.
    pub throughput_bytes: Option<u64>,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { throughput_bytes: Some(64 << 20) }
    }
}

/// What a group of promises is about.
struct Group {
    name: &'static str,
    /// What is true when all are kept.
    kept: &'static str,
    promises: &'static [&'static str],
    /// Whether a store that breaks one can still be used.
    may_be_weak: bool,
}

const GROUPS: &[Group] = &[
    Group {
        name: "objects",
        kept: "objects read back as they were written, whole at every moment",
        promises: &[
            "an_object_reads_back_as_it_was_put",
            "put_replaces",
            "a_reader_sees_the_old_or_the_new_object_whole",
            "what_does_not_exist_is_not_found",
            "empty_objects_are_objects",
            "odd_keys_are_kept_as_they_are",
            "a_backslash_is_kept_or_refused",
        ],
        may_be_weak: false,
    },
    Group { name: "ranges", kept: "parts of objects can be read", promises: &["ranges_are_clipped_to_the_object"], may_be_weak: false },
    Group {
        name: "listing",
        kept: "lists are complete at once, and in order",
        promises: &[
            "a_list_is_in_key_order_and_recursive",
            "a_prefix_counts_characters_not_folders",
            "a_prefix_that_is_no_key_matches_nothing",
            "folders_are_those_directly_below",
        ],
        may_be_weak: false,
    },
    Group {
        name: "uploads",
        kept: "large objects appear when they are complete, and what was given up never does",
        promises: &[
            "an_upload_is_seen_when_finished_and_not_before",
            "a_large_upload_is_whole",
            "a_dropped_upload_leaves_nothing",
            "an_upload_never_replaces",
        ],
        may_be_weak: false,
    },
    Group {
        name: "names",
        kept: "a name that is taken is not given again",
        promises: &["put_if_absent_never_replaces"],
        may_be_weak: false,
    },
    Group {
        name: "races",
        kept: "of several writers at the same moment one alone gets a name",
        promises: &["of_concurrent_put_if_absent_exactly_one_wins", "of_concurrent_uploads_exactly_one_wins"],
        may_be_weak: true,
    },
];

/// The promises that cannot be asked for by who may not delete, and those by who may not replace.
const DELETING: &[&str] = &["delete_may_be_repeated", "odd_keys_are_kept_as_they_are", "a_backslash_is_kept_or_refused"];
const REPLACING: &[&str] = &["put_replaces", "a_reader_sees_the_old_or_the_new_object_whole"];

/// Finds out what `store` really does, and whether that is good for us. Everything is written below `.pgpersist/check/` and a
/// random name there, and removed at the end; nothing else is touched. Needs tokio's runtime of several threads.
///
/// # Errors
/// Whatever keeps one small object from being written and read: a store that cannot be reached, credentials that do not fit.
pub fn check<'a>(
    store: &'a Arc<dyn BackupStore>,
    options: &'a CheckOptions,
    progress: &'a dyn ProgressSink,
) -> BoxFuture<'a, Result<CheckReport>> {
    Box::pin(async move {
        let place: ObjectKey = format!("{PLACE}/{:016x}", rand::random::<u64>()).parse()?;
        let found = find_out(store, &place, options, progress).await;
        let left = clear(store, &place).await;
        let (mut findings, latency_s, throughput) = found?;
        findings.push(left);
        Ok(CheckReport { store: store.to_string(), fitness: CheckReport::judge(&findings), findings, latency_s, throughput })
    })
}

type Found = (Vec<Observation>, Latency, Option<crate::store::check::report::Throughput>);

async fn find_out(store: &Arc<dyn BackupStore>, place: &ObjectKey, options: &CheckOptions, progress: &dyn ProgressSink) -> Result<Found> {
    let below = |name: &str| Ok::<_, Error>(Arc::new(Below::new(Arc::clone(store), place.join(name)?)) as Arc<dyn BackupStore>);
    progress.event(Event::Step("asking for one small object".to_owned()));
    let Rights { may_delete, may_replace } = first_contact(&below("first")?).await?;
    let mut findings = Vec::new();
    for group in GROUPS {
        let mut broken = Vec::new();
        for promise in conformance::promises().into_iter().filter(|promise| group.promises.contains(&promise.name)) {
            let cannot_be_asked =
                DELETING.contains(&promise.name) && may_delete.is_err() || REPLACING.contains(&promise.name) && !may_replace;
            if cannot_be_asked {
                continue;
            }
            progress.event(Event::Step(promise.name.replace('_', " ")));
            broken.extend(ask(&promise, below(&format!("promises/{}", promise.name))?).await);
        }
        findings.push(judge(group, &broken));
    }
    findings.push(match may_delete {
        Ok(()) => {
            let again = conformance::promises().into_iter().find(|promise| promise.name == "delete_may_be_repeated");
            let broken = match again {
                Some(promise) => ask(&promise, below("promises/delete")?).await,
                None => None,
            };
            match broken {
                None => Observation::pass("deletion", "objects can be deleted"),
                Some(broken) => Observation::fail("deletion", broken.seen, "use another store"),
            }
        }
        Err(error @ Error::Locked { .. }) => Observation::warn(
            "deletion",
            format!("the store keeps what is written: {error}"),
            "that protects what is there; `prune` drops what it may, and keeps the rest until its time has come",
        ),
        Err(error) => Observation::warn(
            "deletion",
            format!(
                "these credentials cannot {}: {}",
                if may_replace { "delete" } else { "delete, nor replace" },
                error.causes().into_iter().next().unwrap_or_else(|| error.to_string())
            ),
            "that protects what is there; give `prune` credentials that can",
        ),
    });
    progress.event(Event::Step("finding out what it is like".to_owned()));
    findings.extend(store.observe(&place.join("observed")?).await?);
    progress.event(Event::Step("measuring".to_owned()));
    let speed_of = below("speed")?;
    let latency = speed::latency(speed_of.as_ref()).await?;
    let throughput = match options.throughput_bytes {
        None => None,
        Some(bytes) => match speed::throughput(&speed_of, bytes).await {
            Ok(throughput) => Some(throughput),
            // That it is not to be used is known, and what is wrong about it.
            Err(_) if CheckReport::judge(&findings) == Fitness::Unfit => None,
            Err(error) => return Err(error),
        },
    };
    Ok((findings, latency, throughput))
}

/// What credentials may do besides reading and writing.
struct Rights {
    /// Or why not.
    may_delete: Result<()>,
    may_replace: bool,
}

/// Writes, reads, replaces and deletes one object; tells whether the last two of these are allowed.
async fn first_contact(store: &Arc<dyn BackupStore>) -> Result<Rights> {
    let key: ObjectKey = "object".parse()?;
    let bytes = Bytes::from_static(b"pgpersist store check");
    store.put(&key, bytes.clone()).await?;
    if store.get(&key).await? != bytes {
        return Err(Error::damaged(format!("what was read from {store} is not what was written"), "use another store"));
    }
    let may_replace = match store.put(&key, bytes).await {
        Ok(()) => true,
        // A store that keeps what is written by a rule of its own is asked all the same: it has to let notes of ours be replaced.
        Err(Error::Locked { .. }) => true,
        Err(error) if error.kind() == ErrorKind::Denied => false,
        Err(error) => return Err(error),
    };
    let may_delete = match store.delete(&key).await {
        Err(error) if error.kind() == ErrorKind::Denied => Err(error),
        Err(error) => return Err(error),
        Ok(()) => Ok(()),
    };
    Ok(Rights { may_delete, may_replace })
}

async fn ask(promise: &Promise, store: Arc<dyn BackupStore>) -> Option<Violation> {
    match tokio::time::timeout(ONE_PROMISE, promise.ask(store)).await {
        Ok(broken) => broken,
        Err(_) => Some(Violation { promise: promise.name, seen: format!("no end after {} s", ONE_PROMISE.as_secs()) }),
    }
}

fn judge(group: &Group, broken: &[Violation]) -> Observation {
    let Some(first) = broken.first() else { return Observation::pass(group.name, group.kept) };
    let told = format!("it does not hold that {}: {}", first.promise.replace('_', " "), first.seen);
    if group.may_be_weak {
        Observation::warn(group.name, told, conditions::REMEDY)
    } else {
        Observation::fail(group.name, told, "use another store")
    }
}

/// Removes what was written.
async fn clear(store: &Arc<dyn BackupStore>, place: &ObjectKey) -> Observation {
    let prefix = format!("{place}/");
    let cleared = async {
        let written: Vec<_> = store.list(&prefix).try_collect().await?;
        for object in &written {
            store.delete(&object.key).await?;
        }
        Ok::<_, Error>(())
    };
    let outcome = tokio::time::timeout(ONE_PROMISE, cleared).await;
    match outcome {
        Ok(Ok(())) => Observation::pass("leftovers", "nothing of this check is left"),
        Ok(Err(error)) => Observation::warn("leftovers", format!("objects of this check are left below {place}: {error}"), "remove them"),
        Err(_) => Observation::warn("leftovers", format!("objects of this check are left below {place}"), "remove them"),
    }
}
