//! A trailer, a header and a footer: what is read of them is in bounds, and is written as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::trailer::{Footer, MOST_FRAME_BYTES, PackKind, Trailer};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(trailer) = Trailer::parse(bytes) {
        assert_eq!(trailer.encode(), bytes);
        for place in trailer.places() {
            let lengths = &trailer.lengths[place.items.start as usize..place.items.end as usize];
            assert!(lengths.iter().sum::<u32>() <= MOST_FRAME_BYTES);
        }
    }
    if let Some(header) = bytes.first_chunk() {
        let _ = PackKind::parse(*header);
    }
    if let Some(footer) = bytes.last_chunk()
        && let Ok(read) = Footer::parse(*footer)
    {
        assert_eq!(&read.encode(), footer);
    }
});
