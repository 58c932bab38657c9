//! Numbers in groups of seven bits, and a reader that takes bytes from the front.

use crate::repo::fault::Fault;

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What is left of some bytes.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::CutOff)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next bytes, as an array.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Fault::CutOff)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// The next number.
    pub(super) fn number(&mut self) -> Result<u64, Fault> {
        let mut number = 0_u64;
        for at in 0..10 {
            let [byte] = self.array()?;
            let group = u64::from(byte & 0x7F);
            // The tenth group has room for one bit.
            if at == 9 && group > 1 {
                return Err(Fault::Number);
            }
            number |= group << (7 * at);
            if byte & 0x80 == 0 {
                // A last group of zero says nothing: the number needs fewer bytes.
                return if group == 0 && at > 0 { Err(Fault::Number) } else { Ok(number) };
            }
        }
        Err(Fault::Number)
    }

    /// The next number, which is at most `bound`.
    pub(super) fn at_most(&mut self, bound: u64, what: &'static str) -> Result<u64, Fault> {
        let number = self.number()?;
        if number > bound { Err(Fault::Bound { what }) } else { Ok(number) }
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::TooLong) }
    }

    /// How many bytes are left, which bounds how many of anything can still come.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_takes_as_many_bytes_as_it_needs() {
        for (number, bytes) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put(&mut out, number);
            assert_eq!(out.len(), bytes, "{number}");
        }
        let padded = [0x80, 0x00];
        assert_eq!(Reader::new(&padded).number(), Err(Fault::Number));
        assert_eq!(Reader::new(&[0x80]).number(), Err(Fault::CutOff));
        assert_eq!(Reader::new(&[0xFF; 11]).number(), Err(Fault::Number));
    }

    proptest! {
        #[test]
        fn numbers_survive_a_round_trip(numbers in proptest::collection::vec(any::<u64>(), 0..20)) {
            let mut out = Vec::new();
            for number in &numbers {
                put(&mut out, *number);
            }
            let mut reader = Reader::new(&out);
            for number in &numbers {
                prop_assert_eq!(reader.number(), Ok(*number));
            }
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn what_is_read_is_the_only_way_to_write_it(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(number) = reader.number() {
                let mut out = Vec::new();
                put(&mut out, number);
                prop_assert_eq!(&out, &bytes[..bytes.len() - reader.left()]);
            }
        }
    }
}
