//! A list of entries: no path leads anywhere but below, and what is read is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::entry;

fuzz_target!(|bytes: &[u8]| {
    let Ok(entries) = entry::parse(bytes) else { return };
    let mut list = Vec::new();
    for one in &entries {
        assert!(one.path.as_bytes().split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
        entry::append(&mut list, one).expect("it was read");
    }
    assert_eq!(entry::parse(&list).expect("it was written"), entries);
});
