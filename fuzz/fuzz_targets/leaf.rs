//! What is read as a leaf is written as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::leaf::Leaf;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(leaf) = Leaf::parse(bytes) {
        assert_eq!(leaf.encode(), bytes);
    }
});
