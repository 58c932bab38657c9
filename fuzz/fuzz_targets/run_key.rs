//! The wrapped keys of a run, as they are and well sealed: what is read is written as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::envelope::{self, ObjectKind};
use pgpersist_core::repo::layout;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::repo::run_key::WrappedRunKeys;

fuzz_target!(|bytes: &[u8]| {
    let run: RunName = "20260208T093316Z-0f8e7d6c".parse().expect("it is a name");
    let _ = WrappedRunKeys::parse(run, bytes);
    let object = envelope::seal(ObjectKind::RunKey, &layout::run_key(run), bytes);
    if let Ok(keys) = WrappedRunKeys::parse(run, &object) {
        assert_eq!(keys.encode(run), object);
    }
});
