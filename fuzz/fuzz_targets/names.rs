//! Names and keys: what is read is written as the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::names::{PackName, RunName};

fuzz_target!(|text: &str| {
    if let Ok(run) = text.parse::<RunName>() {
        assert_eq!(run.to_string(), text);
    }
    if let Ok(pack) = text.parse::<PackName>() {
        assert_eq!(pack.to_string(), text);
    }
    if let Some(pack) = layout::parse_pack(text) {
        assert_eq!(layout::pack(pack), text);
    }
    if let Some(run) = layout::parse_manifest(text) {
        assert_eq!(layout::manifest(run), text);
    }
});
