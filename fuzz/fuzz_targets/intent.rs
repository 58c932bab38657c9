//! An intent, as it is and well sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::envelope::{self, ObjectKind};
use pgpersist_core::repo::intent::Intent;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::names::RunName;

fuzz_target!(|bytes: &[u8]| {
    let run: RunName = "20260208T093316Z-0f8e7d6c".parse().expect("it is a name");
    let _ = Intent::parse(run, bytes);
    let _ = Intent::parse(run, &envelope::seal(ObjectKind::Intent, &layout::intent(run), bytes));
});
