//! Whether a store is good for us: every promise of the contract is asked for on the store itself, below a key of its own, and
//! what it is like besides is found out by trying.

pub mod report;
pub mod run;
mod speed;
