//! The suite that every [`DataDirectory`] must pass. It asks for each promise of the trait, on a directory of its own.
//!
//! That a claim ends with its process, and is seen across namespaces, takes processes to kill and is not asked for here.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::data_directory::DataDirectory;
use crate::data_directory::state::State;
use crate::error::{ErrorKind, Result};

/// A promise that a data directory did not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise, such as `of_two_claims_one_is_refused`.
    pub promise: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// Asks a kind of data directory for every promise, each on one that `make` returns: absent or empty, on a local path, and
/// used by nobody. Returns what was not kept. Needs tokio's runtime of several threads.
pub async fn violations<F, Fut>(make: F) -> Vec<Violation>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn DataDirectory>>,
{
    let mut violations = Vec::new();
    for (promise, ask) in promises() {
        // A task of its own: a directory that panics breaks its promise, not the suite.
        let seen = match tokio::spawn(ask(make().await)).await {
            Ok(Ok(())) => continue,
            Ok(Err(Broken(seen))) => seen,
            Err(panic) => panic.to_string(),
        };
        violations.push(Violation { promise, seen });
    }
    violations
}

struct Broken(String);
type Kept = std::result::Result<(), Broken>;
type Directory = Arc<dyn DataDirectory>;
type Ask = fn(Directory) -> BoxFuture<'static, Kept>;

macro_rules! promises {
    ($($name:ident,)*) => {
        fn promises() -> Vec<(&'static str, Ask)> {
            vec![$((stringify!($name), |directory| Box::pin($name(directory)))),*]
        }
    };
}

promises! {
    its_path_is_absolute_and_its_own_folder_is_not_the_data,
    a_fresh_one_is_absent_or_empty,
    asking_for_the_state_changes_nothing,
    of_two_claims_one_is_refused,
    a_dropped_claim_frees_it,
    the_state_can_be_asked_while_it_is_claimed,
    preparing_may_be_repeated_and_keeps_what_is_there,
    somebody_elses_files_are_foreign_and_survive,
    a_placement_comes_with_its_evidence,
}

fn told<T>(result: Result<T>, doing: &str) -> std::result::Result<T, Broken> {
    result.map_err(|error| Broken(format!("could not {doing}: {error}: {}", error.causes().join(": "))))
}

fn ensure(kept: bool, seen: impl FnOnce() -> String) -> Kept {
    if kept { Ok(()) } else { Err(Broken(seen())) }
}

fn is_fresh(state: &State) -> bool {
    matches!(state, State::Absent | State::Empty)
}

async fn its_path_is_absolute_and_its_own_folder_is_not_the_data(directory: Directory) -> Kept {
    ensure(directory.path().is_absolute(), || format!("{} is relative", directory.path().display()))?;
    let own = directory.own_folder().path();
    ensure(own != directory.path(), || format!("{} is both", own.display()))
}

async fn a_fresh_one_is_absent_or_empty(directory: Directory) -> Kept {
    let state = told(directory.state().await, "ask for the state")?;
    ensure(is_fresh(&state), || format!("it is {state:?}"))
}

async fn asking_for_the_state_changes_nothing(directory: Directory) -> Kept {
    let (existed, before) = (directory.path().exists(), told(directory.state().await, "ask for the state")?);
    let after = told(directory.state().await, "ask for the state again")?;
    ensure(before == after && existed == directory.path().exists(), || format!("{before:?} became {after:?}"))
}

async fn of_two_claims_one_is_refused(directory: Directory) -> Kept {
    let _claim = told(directory.claim().await, "claim it")?;
    match directory.claim().await {
        Ok(_) => Err(Broken("two claims at once".to_owned())),
        Err(error) => {
            ensure(error.kind() == ErrorKind::Conflict && error.remedy().is_some(), || format!("refused as {:?}: {error}", error.kind()))
        }
    }
}

async fn a_dropped_claim_frees_it(directory: Directory) -> Kept {
    drop(told(directory.claim().await, "claim it")?);
    told(directory.claim().await, "claim it again").map(|_| ())
}

async fn the_state_can_be_asked_while_it_is_claimed(directory: Directory) -> Kept {
    let _claim = told(directory.claim().await, "claim it")?;
    let state = told(directory.state().await, "ask for the state")?;
    ensure(is_fresh(&state), || format!("a claim made it {state:?}"))
}

async fn preparing_may_be_repeated_and_keeps_what_is_there(directory: Directory) -> Kept {
    let claim = told(directory.claim().await, "claim it")?;
    let first = told(directory.prepare(&claim).await, "prepare it")?;
    let second = told(directory.prepare(&claim).await, "prepare it again")?;
    ensure(first == second && is_fresh(&first), || format!("{first:?}, then {second:?}"))
}

async fn somebody_elses_files_are_foreign_and_survive(directory: Directory) -> Kept {
    let path = directory.path().join("thesis.tex");
    let written = std::fs::create_dir_all(directory.path()).and_then(|()| std::fs::File::create(&path).map(drop));
    written.map_err(|e| Broken(format!("could not put a file into {}: {e}", directory.path().display())))?;
    let state = told(directory.state().await, "ask for the state")?;
    ensure(matches!(state, State::Foreign { .. }), || format!("with a stranger's file it is {state:?}"))?;
    let claim = told(directory.claim().await, "claim it")?;
    let _ = directory.prepare(&claim).await;
    ensure(path.exists(), || "the stranger's file is gone".to_owned())
}

async fn a_placement_comes_with_its_evidence(directory: Directory) -> Kept {
    let placement = told(directory.placement().await, "judge its place")?;
    ensure(!placement.evidence.is_empty(), || "a verdict without evidence".to_owned())
}
