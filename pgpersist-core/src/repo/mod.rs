#![doc = include_str!("FORMAT.md")]

pub mod entry;
pub mod fault;
pub mod frame;
pub mod identity;
pub mod layout;
pub mod leaf;
pub mod manifest;
pub mod names;
pub mod pack_builder;
pub mod trailer;
mod varint;
