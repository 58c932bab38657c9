//! One 8 KiB page of a relation: its header and its checksum.
//!
//! Sources: `src/include/storage/bufpage.h` (header), `checksum_impl.h` (the checksum), `PageIsVerified` in `bufpage.c` (what
//! the server accepts), the same in PostgreSQL 14 to 18.

use crate::pg::lsn::Lsn;

/// Bytes of a page. PostgreSQL can be built with others; pgpersist checks pages of this size only.
pub const PAGE_SIZE: usize = 8192;

/// Parallel sums of the checksum; a fixed part of the algorithm, and it lets the compiler use vector instructions.
const LANES: usize = 32;
const FNV_PRIME: u32 = 16_777_619;
/// Where each lane begins: 32 numbers that PostgreSQL once drew at random.
const LANE_OFFSETS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C, //
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB, //
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4, //
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// A page's bytes, to be asked for what its header says.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a>(&'a [u8; PAGE_SIZE]);

/// What became of a page's check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCheck {
    /// The checksum is right.
    Good,
    /// All zero: added to the file and not used yet. Such a page has no checksum.
    New,
    /// It claims to be new and is not all zero; the server refuses such a page.
    NotZero,
    /// The checksum is wrong: damaged, torn, or of another block.
    WrongChecksum {
        /// The checksum on the page.
        stored: u16,
        /// The checksum of what is on the page.
        computed: u16,
    },
}

impl PageCheck {
    /// Whether the server would read this page.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Good | Self::New)
    }
}

impl<'a> Page<'a> {
    /// Takes the bytes of one page; `None` unless they are exactly [`PAGE_SIZE`].
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Where the log record of the last change to this page ends. A page whose position is behind a backup's start was
    /// written during it, and the log repairs it.
    pub fn lsn(self) -> Lsn {
        Lsn(u64::from(self.word(0)) << 32 | u64::from(self.word(4)))
    }

    /// The checksum on the page; zero where checksums are off.
    pub fn stored_checksum(self) -> u16 {
        self.short(8)
    }

    /// Where the free space begins (`pd_lower`).
    pub fn lower(self) -> u16 {
        self.short(12)
    }

    /// Where the free space ends (`pd_upper`); zero on a page that is not used yet.
    pub fn upper(self) -> u16 {
        self.short(14)
    }

    /// Where the index's own part begins (`pd_special`).
    pub fn special(self) -> u16 {
        self.short(16)
    }

    /// Whether the page says that it is not used yet. [`verify`](Self::verify) also looks whether that is true.
    pub fn is_new(self) -> bool {
        self.upper() == 0
    }

    /// The checksum that this page should carry as block `block` of its fork. The number counts from the first segment on.
    pub fn checksum(self, block: u32) -> u16 {
        let mut sums = LANE_OFFSETS;
        for (row, bytes) in self.0.chunks_exact(LANES * 4).enumerate() {
            let mut words = [0_u32; LANES];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            if row == 0 {
                // The checksum itself, bytes 8 and 9, counts as zero.
                words[2] &= 0xFFFF_0000;
            }
            mix(&mut sums, &words);
        }
        mix(&mut sums, &[0; LANES]);
        mix(&mut sums, &[0; LANES]);
        let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
        // Never zero, which would look like a page without checksum; at most 65535.
        (folded % 65_535 + 1) as u16
    }

    /// Checks this page as block `block` of its fork, in a cluster with data checksums, as strictly as the server does.
    pub fn verify(self, block: u32) -> PageCheck {
        if self.is_new() {
            return if self.0.iter().all(|byte| *byte == 0) { PageCheck::New } else { PageCheck::NotZero };
        }
        let (stored, computed) = (self.stored_checksum(), self.checksum(block));
        if stored == computed { PageCheck::Good } else { PageCheck::WrongChecksum { stored, computed } }
    }

    fn short(self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn word(self, at: usize) -> u32 {
        u32::from(self.short(at)) | u32::from(self.short(at + 2)) << 16
    }
}

/// One round of FNV-1a in each lane, with the high bits folded back in.
fn mix(sums: &mut [u32; LANES], words: &[u32; LANES]) {
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ word;
        *sum = mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), PAGE_SIZE)
    }

    fn seal(bytes: &mut [u8], block: u32) {
        bytes[14] |= 1;
        let checksum = Page::new(bytes).unwrap().checksum(block);
        bytes[8..10].copy_from_slice(&checksum.to_le_bytes());
    }

    #[test]
    fn the_header_is_read_where_postgresql_writes_it() {
        let mut bytes = vec![0; PAGE_SIZE];
        bytes[..18].copy_from_slice(&[0x16, 0, 0, 0, 0x48, 0xD8, 0x74, 0xB3, 0x34, 0x12, 0, 0, 24, 0, 0, 32, 0xF0, 0x1F]);
        let page = Page::new(&bytes).unwrap();
        assert_eq!(page.lsn().to_string(), "16/B374D848");
        assert_eq!((page.stored_checksum(), page.lower(), page.upper(), page.special()), (0x1234, 24, 8192, 0x1FF0));
        assert!(!page.is_new());
    }

    #[test]
    fn a_new_page_is_all_zero_or_wrong() {
        let mut bytes = vec![0; PAGE_SIZE];
        assert_eq!(Page::new(&bytes).unwrap().verify(7), PageCheck::New);
        bytes[5000] = 1;
        assert_eq!(Page::new(&bytes).unwrap().verify(7), PageCheck::NotZero);
        assert!(Page::new(&bytes[1..]).is_none());
    }

    proptest! {
        // One of 65535 damaged pages has the right checksum by chance: a fixed seed keeps the promise below a fact.
        #![proptest_config(ProptestConfig { cases: 64, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_it_panic(bytes in page(), block: u32) {
            let page = Page::new(&bytes).unwrap();
            let _ = (page.verify(block), page.lsn(), page.lower(), page.special());
            prop_assert_ne!(page.checksum(block), 0);
        }

        #[test]
        fn a_flipped_bit_changes_the_checksum(mut bytes in page(), block: u32, bit in 0..PAGE_SIZE * 8) {
            seal(&mut bytes, block);
            prop_assert_eq!(Page::new(&bytes).unwrap().verify(block), PageCheck::Good);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!Page::new(&bytes).unwrap().verify(block).is_fine());
        }

        #[test]
        fn a_page_in_the_wrong_place_is_seen(mut bytes in page(), block in 0..1_000_000_u32, other in 1..60_000_u32) {
            seal(&mut bytes, block);
            prop_assert!(!Page::new(&bytes).unwrap().verify(block ^ other).is_fine());
        }
    }
}
