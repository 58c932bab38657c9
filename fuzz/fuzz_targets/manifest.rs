//! A manifest, as it is, well sealed, and well compressed in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::envelope::{self, ObjectKind};
use pgpersist_core::repo::frame::{Compression, Compressor};
use pgpersist_core::repo::manifest::Manifest;

const KEY: &str = "backups/20260208T093316Z-0f8e7d6c.manifest";

fuzz_target!(|bytes: &[u8]| {
    let _ = Manifest::parse(KEY, bytes);
    let _ = Manifest::parse(KEY, &envelope::seal(ObjectKind::Manifest, KEY, bytes));
    let mut body = Vec::new();
    let compressed = Compressor::new(Compression::Zstd(1)).and_then(|mut compressor| compressor.compress(bytes, &mut body));
    if compressed.is_ok() {
        let _ = Manifest::parse(KEY, &envelope::seal(ObjectKind::Manifest, KEY, &body));
    }
});
