//! A tombstone, as it is and well sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::envelope::{self, ObjectKind};
use pgpersist_core::repo::layout;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::repo::tombstone::Tombstone;

fuzz_target!(|bytes: &[u8]| {
    let name: RunName = "20260208T093316Z-0f8e7d6c".parse().expect("it is a name");
    let _ = Tombstone::parse(name, bytes);
    let _ = Tombstone::parse(name, &envelope::seal(ObjectKind::Tombstone, &layout::tombstone(name), bytes));
});
