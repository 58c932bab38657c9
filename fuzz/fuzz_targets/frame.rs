//! A frame never decompresses to another length than was said.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpersist_core::repo::frame::decompress;
use pgpersist_core::repo::trailer::Codec;

fuzz_target!(|input: (u32, &[u8])| {
    let (length, stored) = input;
    for codec in [Codec::Plain, Codec::Zstd, Codec::Lz4] {
        if let Ok(content) = decompress(codec, stored, length) {
            assert_eq!(content.len(), length as usize);
        }
    }
});
