#![doc = include_str!("FORMAT.md")]

pub mod backup_plan;
pub mod catalog;
pub mod collect;
pub mod contents;
pub mod descriptor;
pub mod dropped;
pub mod effort;
pub mod entry;
pub mod envelope;
#[cfg(test)]
pub(crate) mod example;
pub mod expiry;
pub mod fault;
pub mod frame;
pub mod identity;
pub mod intent;
pub mod inventory;
pub mod keys;
pub mod layout;
pub mod leaf;
pub mod live_intent;
pub mod live_runs;
pub mod manifest;
pub mod names;
pub mod pack_builder;
pub mod pack_reader;
pub mod pack_writer;
pub mod repository;
pub mod rescue;
pub mod roots;
pub mod run_key;
pub mod sealing;
pub mod tombstone;
pub mod trailer;
mod varint;
pub mod verify;
