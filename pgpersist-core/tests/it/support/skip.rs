//! The one door through which a test leaves that cannot be made here. The tests of both crates use this file, so that a
//! skip has one meaning and is seen.
//!
//! Root can do all that the tests need. So as root a test fails instead of skipping, unless `PGPERSIST_TEST_SKIP` names what
//! is missing (`mount,namespaces`: as in a container without these rights). With `PGPERSIST_TEST_REQUIRE_ALL=1`, as
//! `script/proofs` sets it, it fails in any case: a proof that was not made is none.

use std::fmt::Display;
use std::io::Write;

/// Says what a test misses, and lets it end. `what` is the word for `PGPERSIST_TEST_SKIP`.
#[track_caller]
pub(crate) fn skip(what: &str, why: impl Display) {
    let named = std::env::var("PGPERSIST_TEST_SKIP").is_ok_and(|names| names.split(',').any(|name| name.trim() == what));
    let root = rustix::process::geteuid().is_root();
    assert!(named || !root, "{what}: {why}; where root cannot have it, say so: PGPERSIST_TEST_SKIP={what}");
    absent(what, why);
}

/// The same for a program that a machine need not have, root or not, such as a browser: it is told, and fails only where nothing
/// may be skipped.
#[track_caller]
pub(crate) fn absent(what: &str, why: impl Display) {
    let required = std::env::var("PGPERSIST_TEST_REQUIRE_ALL").is_ok_and(|value| !value.is_empty() && value != "0");
    assert!(!required, "{what}: {why}; nothing may be skipped in this run");
    // Past the capture of a test's output: a skip that nobody sees is one that lasts.
    let _ = writeln!(std::io::stderr(), "skipped ({what}): {why}");
}
