#![doc = include_str!("FORMAT.md")]

pub mod catalog;
pub mod contents;
pub mod descriptor;
pub mod entry;
pub mod envelope;
pub mod fault;
pub mod frame;
pub mod identity;
pub mod intent;
pub mod keys;
pub mod layout;
pub mod leaf;
pub mod manifest;
pub mod names;
pub mod pack_builder;
pub mod pack_reader;
pub mod pack_writer;
pub mod repository;
pub mod run_key;
pub mod sealing;
pub mod trailer;
mod varint;
pub mod verify;
