//! A descriptor, as it is and well sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::descriptor::Descriptor;
use pgpersist_core::repo::envelope::{self, ObjectKind};
use pgpersist_core::repo::layout;

fuzz_target!(|bytes: &[u8]| {
    let _ = Descriptor::parse(bytes);
    let _ = Descriptor::parse(&envelope::seal(ObjectKind::Descriptor, layout::DESCRIPTOR, bytes));
});
