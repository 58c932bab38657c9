//! The mark of a run that was given up, as it is and well sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::dropped::Dropped;
use pgpersist_core::repo::envelope::{self, ObjectKind};
use pgpersist_core::repo::layout;
use pgpersist_core::repo::names::RunName;

fuzz_target!(|bytes: &[u8]| {
    let name: RunName = "20260208T093316Z-0f8e7d6c".parse().expect("it is a name");
    let _ = Dropped::parse(name, bytes);
    let _ = Dropped::parse(name, &envelope::seal(ObjectKind::Dropped, &layout::dropped(name), bytes));
});
