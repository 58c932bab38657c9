//! The format as a whole: what is written is read, by the right key alone, and no change of it passes.

use std::io::{BufReader, Read};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::decryptor::{Decryptor, open_small};
use super::encryptor::{CHUNK_BYTES, Encryptor, TAG_BYTES};
use super::fault::Fault;
use super::file_key::FileKey;
use super::header::Header;
use super::identity::{Identity, PrivateIdentity};
use super::passphrase::Passphrase;
use super::recipient::Recipient;
use super::stanza::Stanza;
use crate::error::ErrorKind;

static KEY: LazyLock<PrivateIdentity> = LazyLock::new(|| PrivateIdentity::generate().unwrap());
static OTHER: LazyLock<PrivateIdentity> = LazyLock::new(|| PrivateIdentity::generate().unwrap());

fn encrypted(recipients: &[Recipient], content: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encryptor = Encryptor::begin(recipients, &mut out).unwrap();
    content.chunks(piece.max(1)).for_each(|piece| encryptor.update(piece, &mut out).unwrap());
    encryptor.finish(&mut out).unwrap();
    out
}

fn decrypted(bytes: &[u8], key: &PrivateIdentity) -> Result<Vec<u8>, Fault> {
    open_small(bytes, &[Identity::Key(key.clone())]).map(|content| content.to_vec())
}

/// Reads a header that has only a passphrase's part, made as cheaply as it can be.
fn with_passphrase(passphrase: &Passphrase, log_n: u8) -> (FileKey, Vec<u8>) {
    let file_key = FileKey::generate().unwrap();
    let header = Header::new(vec![passphrase.wrap_with(&file_key, log_n).unwrap()], &file_key);
    (file_key, header.to_bytes())
}

fn read_header(bytes: &[u8]) -> Result<Header, Fault> {
    Header::read(&mut BufReader::new(bytes)).map_err(|error| Fault::of(&error).unwrap())
}

fn header_of(bytes: &[u8]) -> usize {
    bytes.len() - bytes.windows(5).position(|window| window == b"\n--- ").map_or(0, |place| bytes.len() - place)
}

#[test]
fn every_recipient_opens_it_and_nobody_else() {
    let bytes = encrypted(&[KEY.recipient(), OTHER.recipient()], b"hello", 3);
    assert_eq!(decrypted(&bytes, &KEY).unwrap(), b"hello");
    assert_eq!(decrypted(&bytes, &OTHER).unwrap(), b"hello");
    let stranger = PrivateIdentity::generate().unwrap();
    assert_eq!(decrypted(&bytes, &stranger), Err(Fault::NoKey));
    let words = Identity::Passphrase(Passphrase::new("nobody asked for these").unwrap());
    assert_eq!(open_small(&bytes, &[words, Identity::Key(KEY.clone())]).unwrap().as_slice(), b"hello");
    assert!(!String::from_utf8_lossy(&bytes).contains(&KEY.recipient().to_string()[4..20]), "whom it is for does not show");
}

#[test]
fn contents_of_every_length_come_back_whole() {
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 17] {
        let content: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
        for piece in [length.max(1), 1000, CHUNK_BYTES] {
            let bytes = encrypted(&[KEY.recipient()], &content, piece);
            assert!(decrypted(&bytes, &KEY).unwrap() == content, "{length} by {piece}");
        }
    }
}

#[test]
fn chunks_that_are_cut_moved_or_doubled_are_found() {
    let content = vec![7; 3 * CHUNK_BYTES + 5];
    let bytes = encrypted(&[KEY.recipient()], &content, 1 << 20);
    let sealed = CHUNK_BYTES + TAG_BYTES;
    let start = bytes.len() - 3 * sealed - 5 - TAG_BYTES;
    let chunk = |number: usize| &bytes[start + number * sealed..(start + (number + 1) * sealed).min(bytes.len())];
    let made = |chunks: &[usize]| [&bytes[..start], &chunks.iter().flat_map(|number| chunk(*number).to_vec()).collect::<Vec<_>>()].concat();
    assert!(decrypted(&made(&[0, 1, 2, 3]), &KEY).unwrap() == content);
    let chunk_bytes = CHUNK_BYTES as u64;
    for (chunks, fault) in [
        (&[0, 1, 2][..], Fault::CutOff { at: 3 * chunk_bytes }),
        (&[0], Fault::CutOff { at: chunk_bytes }),
        (&[], Fault::CutOff { at: 0 }),
        (&[0, 2, 1, 3], Fault::Changed { at: chunk_bytes }),
        (&[0, 0, 1, 2, 3], Fault::Changed { at: chunk_bytes }),
        (&[0, 3], Fault::Changed { at: chunk_bytes }),
        (&[0, 1, 2, 3, 3], Fault::Changed { at: 3 * chunk_bytes }),
    ] {
        assert_eq!(decrypted(&made(chunks), &KEY), Err(fault), "{chunks:?}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(decrypted(&longer, &KEY), Err(Fault::Changed { at: 3 * chunk_bytes }));
}

#[test]
fn what_was_proven_is_handed_out_before_the_damage_is_told() {
    let mut bytes = encrypted(&[KEY.recipient()], &vec![7; 2 * CHUNK_BYTES], 1 << 20);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut source = Decryptor::open(&bytes[..], &[Identity::Key(KEY.clone())]).unwrap();
    let mut content = vec![0; CHUNK_BYTES];
    source.read_exact(&mut content).unwrap();
    let error = source.read(&mut content).unwrap_err();
    assert_eq!(Fault::of(&error), Some(Fault::Changed { at: CHUNK_BYTES as u64 }));
}

#[test]
fn a_passphrase_opens_what_it_wrapped_and_another_does_not() {
    let right = Passphrase::new("correct horse battery staple").unwrap();
    let (file_key, bytes) = with_passphrase(&right, 4);
    let header = read_header(&bytes).unwrap();
    assert!(header.is_for_a_passphrase());
    assert!(header.open(&[Identity::Passphrase(right)]).is_ok_and(|found| found == file_key));
    let wrong = Identity::Passphrase(Passphrase::new("correct horse battery stapler").unwrap());
    assert!(header.open(&[wrong, Identity::Key(KEY.clone())]).is_err_and(|fault| fault == Fault::NoKey));
    assert_eq!(Passphrase::new("").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(
        Encryptor::begin_with_passphrase(&Passphrase::new("too short").unwrap(), &mut Vec::new()).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn a_passphrase_that_asks_for_too_much_or_stands_beside_others_is_refused() {
    let passphrase = Passphrase::new("correct horse battery staple").unwrap();
    let opened = |stanzas: Vec<Stanza>, file_key: &FileKey| {
        let header = Header::new(stanzas, file_key);
        read_header(&header.to_bytes()).unwrap().open(&[Identity::Passphrase(passphrase.clone())]).err()
    };
    let file_key = FileKey::generate().unwrap();
    let cheap = passphrase.wrap_with(&file_key, 2).unwrap();
    for (cost, fault) in [
        ("21", Fault::TooDear(2048)),
        ("255", Fault::TooDear(1 << 60)),
        ("02", Fault::Header("the cost of a passphrase")),
        ("+2", Fault::Header("the cost of a passphrase")),
        ("0", Fault::Header("the cost of a passphrase")),
        ("300", Fault::Header("the cost of a passphrase")),
        ("3", Fault::NoKey),
    ] {
        let mut stanza = cheap.clone();
        stanza.arguments[2] = cost.to_owned();
        assert_eq!(opened(vec![stanza], &file_key), Some(fault), "{cost}");
    }
    let beside = vec![cheap.clone(), KEY.recipient().wrap(&file_key).unwrap()];
    assert_eq!(opened(beside, &file_key), Some(Fault::Header("a passphrase stands beside other recipients")));
    assert_eq!(opened(vec![cheap.clone(), cheap], &file_key), Some(Fault::Header("a passphrase stands beside other recipients")));
}

#[test]
fn headers_are_read_only_exactly_as_they_are_written() {
    let bytes = encrypted(&[KEY.recipient()], b"", 1);
    let end = header_of(&bytes) + 5 + 43 + 1;
    let header = String::from_utf8(bytes[..end].to_vec()).unwrap();
    assert!(read_header(header.as_bytes()).is_ok());
    for (from, to) in [
        ("v1\n", "v2\n"),
        ("v1\n", "v1\r\n"),
        ("v1\n", "v1 \n"),
        ("-> X25519 ", "->  X25519 "),
        ("-> X25519 ", "->X25519 "),
        ("-> X25519 ", "->\tX25519 "),
        ("-> X25519 ", "-> "),
        ("-> X25519 ", "-> X25519  "),
        ("\n--- ", "\n---"),
        ("\n--- ", "\n---  "),
        ("\n--- ", "=\n--- "),
        ("\n--- ", "\n\n--- "),
        ("\n--- ", "\n-- "),
    ] {
        let changed = header.replacen(from, to, 1);
        assert_ne!(changed, header);
        let read = read_header(changed.as_bytes()).and_then(|header| header.open(&[Identity::Key(KEY.clone())]));
        assert!(read.is_err(), "{to:?}");
    }
    for cut in 0..header.len() {
        assert!(read_header(&header.as_bytes()[..cut]).is_err());
    }
    let nobody = "age-encryption.org/v1\n--- 43C1EO64HYJmbZiVWX3SLuDEKwI2Xo4QdJTb0jMbJc0\n";
    assert_eq!(read_header(nobody.as_bytes()), Err(Fault::Header("its last line")));
    let endless = format!("age-encryption.org/v1\n-> X {}\n", "x".repeat(1 << 20));
    assert!(read_header(endless.as_bytes()).is_err());
}

#[test]
fn parts_for_kinds_of_recipients_to_come_are_passed_over() {
    let file_key = FileKey::generate().unwrap();
    let unknown = Stanza { arguments: vec!["grease".into(), "a".into(), "b".into()], body: vec![1; 100] };
    let empty = Stanza { arguments: vec!["x-grease".into()], body: vec![7; 48] };
    let header = Header::new(vec![unknown, empty, KEY.recipient().wrap(&file_key).unwrap()], &file_key);
    let read = read_header(&header.to_bytes()).unwrap();
    assert_eq!(read, header);
    assert!(read.is_for(&Identity::Key(KEY.clone())) && !read.is_for(&Identity::Key(OTHER.clone())));
}

#[test]
fn keys_that_protect_nothing_are_refused() {
    let zero = Recipient::from_bytes([0; 32]);
    assert_eq!(Encryptor::begin(&[zero], &mut Vec::new()).unwrap_err().kind(), ErrorKind::Invalid);
    let file_key = FileKey::generate().unwrap();
    let mut stanza = KEY.recipient().wrap(&file_key).unwrap();
    stanza.arguments[1] = super::stanza::encode64(&[0; 32]);
    let header = Header::new(vec![stanza], &file_key);
    assert!(header.open(&[Identity::Key(KEY.clone())]).is_err());
}

#[test]
fn keys_are_read_as_text_and_never_shown() {
    let text = KEY.to_text().expose().to_string();
    assert!(text.starts_with("AGE-SECRET-KEY-1") && text.len() == 74);
    assert_eq!(text.parse::<PrivateIdentity>().unwrap().recipient(), KEY.recipient());
    assert_eq!(KEY.recipient().to_string().parse::<Recipient>().unwrap(), KEY.recipient());
    let words = Passphrase::new("correct horse battery staple").unwrap();
    let shown = format!("{:?} {:?} {:?}", *KEY, Identity::Key(KEY.clone()), words);
    assert!(!shown.contains(&text[20..]) && !shown.contains("horse"), "{shown}");
    for wrong in ["", "AGE-SECRET-KEY-1", &text.to_ascii_lowercase(), &text[..73], "age1x"] {
        let error = wrong.parse::<PrivateIdentity>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(wrong.is_empty() || !error.to_string().contains(wrong));
    }
    for wrong in [text.as_str(), "age1x", "AGE1", "ssh-ed25519 AAAA", "age1pq1qqq", &KEY.recipient().to_string().to_ascii_uppercase()] {
        let error = wrong.parse::<Recipient>().unwrap_err();
        assert!(!error.to_string().contains(&text[20..]), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_flipped_bit_passes(content in proptest::collection::vec(any::<u8>(), 0..300), repeat in 1_usize..600, bit in any::<prop::sample::Index>()) {
        let content = content.repeat(repeat);
        let mut bytes = encrypted(&[KEY.recipient(), OTHER.recipient()], &content, 10_000);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A flipped bit in the part of one recipient leaves the other one's whole, and the MAC tells.
        prop_assert!(decrypted(&bytes, &KEY).is_err());
        prop_assert!(decrypted(&bytes, &OTHER).is_err());
    }

    #[test]
    fn no_cut_passes(content in proptest::collection::vec(any::<u8>(), 0..300), repeat in 1_usize..600, cut in any::<prop::sample::Index>()) {
        let bytes = encrypted(&[KEY.recipient()], &content.repeat(repeat), 10_000);
        prop_assert!(decrypted(&bytes[..cut.index(bytes.len())], &KEY).is_err());
    }

    #[test]
    fn no_bytes_panic(start in 0_usize..300, noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = encrypted(&[KEY.recipient()], b"content", 10);
        let _ = decrypted(&[&bytes[..start.min(bytes.len())], &noise].concat(), &KEY);
    }
}
