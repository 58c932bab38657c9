//! Bech32 (BIP 173), the text form of age's keys, without its limit of length.

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
/// How many characters of checksum stand at the end.
const CHECKSUM: usize = 6;

/// Writes bytes behind a prefix, in lower case.
pub(super) fn encode(prefix: &str, bytes: &[u8]) -> String {
    let mut values = regroup(bytes, 8, 5, Padding::Added).unwrap_or_default();
    let sum = checksum(prefix, &values) ^ 1;
    values.extend((0..CHECKSUM).map(|place| ((sum >> (5 * (CHECKSUM - 1 - place))) & 31) as u8));
    let letters = values.iter().map(|value| char::from(ALPHABET[usize::from(*value)]));
    prefix.chars().chain(['1']).chain(letters).collect()
}

/// Reads the bytes behind `prefix`, which is given in lower case; `None` for whatever is not exactly that.
pub(super) fn decode(prefix: &str, text: &str) -> Option<Vec<u8>> {
    let lower = text.to_ascii_lowercase();
    // One case or the other, so that a key that somebody typed is not half of each.
    if text != lower && text != text.to_ascii_uppercase() {
        return None;
    }
    // The separator is the last `1`: the letters behind it have none.
    let (found, letters) = lower.rsplit_once('1')?;
    if found != prefix || letters.len() < CHECKSUM {
        return None;
    }
    let place = |letter: u8| ALPHABET.iter().position(|known| *known == letter).map(|place| place as u8);
    let values: Vec<u8> = letters.bytes().map(place).collect::<Option<_>>()?;
    if checksum_of(prefix, &values) != 1 {
        return None;
    }
    regroup(&values[..values.len() - CHECKSUM], 5, 8, Padding::Checked)
}

fn checksum(prefix: &str, values: &[u8]) -> u32 {
    checksum_of(prefix, &[values, &[0; CHECKSUM]].concat())
}

fn checksum_of(prefix: &str, values: &[u8]) -> u32 {
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    high.chain([0]).chain(low).chain(values.iter().copied()).fold(1, |sum, value| {
        let top = sum >> 25;
        let shifted = ((sum & 0x01ff_ffff) << 5) ^ u32::from(value);
        (0..5).filter(|bit| (top >> bit) & 1 == 1).fold(shifted, |sum, bit| sum ^ GENERATOR[bit])
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Padding {
    Added,
    /// It must be there, be as short as it can be, and consist of zeros.
    Checked,
}

fn regroup(values: &[u8], from: u32, to: u32, padding: Padding) -> Option<Vec<u8>> {
    let (mut bits, mut count) = (0_u32, 0);
    let mut out = Vec::with_capacity(values.len() * from as usize / to as usize + 1);
    for value in values {
        bits = (bits << from) | u32::from(*value);
        count += from;
        while count >= to {
            count -= to;
            out.push(((bits >> count) & ((1 << to) - 1)) as u8);
        }
        bits &= (1 << count) - 1;
    }
    match padding {
        Padding::Added if count > 0 => out.push(((bits << (to - count)) & ((1 << to) - 1)) as u8),
        Padding::Checked if count >= from || bits != 0 => return None,
        _ => {}
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        assert_eq!(decode("age-secret-key-", identity).unwrap(), [0x42; 32]);
        assert_eq!(encode("age-secret-key-", &[0x42; 32]).to_ascii_uppercase(), identity);
        assert_eq!(decode("age", "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj").unwrap().len(), 32);
    }

    #[test]
    fn what_is_not_exactly_that_is_refused() {
        let right = encode("age", &[7; 32]);
        let mixed = right.replacen('g', "G", 1);
        let cut = &right[..right.len() - 1];
        let long = format!("{right}q");
        for wrong in
            ["", "1", "age1", "age", "age1qqqqqq", &mixed, cut, &long, &right.replacen("age", "aga", 1), "age1bbbbbbbbbb", "é1qqqqqqqq"]
        {
            assert_eq!(decode("age", wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back_and_no_typing_error_passes(bytes in proptest::collection::vec(any::<u8>(), 0..50), place in any::<prop::sample::Index>(), letter in any::<prop::sample::Index>()) {
            let text = encode("age", &bytes);
            prop_assert_eq!(decode("age", &text), Some(bytes.clone()));
            prop_assert_eq!(decode("age", &text.to_ascii_uppercase()), Some(bytes));
            let mut wrong = text.clone().into_bytes();
            let place = 4 + place.index(wrong.len() - 4);
            wrong[place] = ALPHABET[letter.index(32)];
            let wrong = String::from_utf8(wrong).unwrap();
            prop_assert!(wrong == text || decode("age", &wrong).is_none());
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = decode("age", &text);
        }
    }
}
