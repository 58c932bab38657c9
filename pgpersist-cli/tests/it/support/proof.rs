//! What a test has proven, as a line that `script/proofs` turns into a row of `RELIABILITY.md`.

use std::fmt::Display;
use std::time::Instant;

/// Prints it. It is reached only when nothing failed; a test that fails is a row too, made from its name.
pub(crate) fn proven(what: impl Display, count: impl Display, seed: Option<u64>, began: Instant) {
    let seed = seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
    println!("proof: {what}|{count}|0|{seed}|{:.1}", began.elapsed().as_secs_f64());
}
