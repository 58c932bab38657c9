//! Keys as they are made, added, removed and rotated, in a store of memory.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::TryStreamExt;
use proptest::prelude::*;
use time::OffsetDateTime;
use time::macros::datetime;

use super::memory::KeyMemory;
use super::proof::KeyProof;
use super::ring::KeyRing;
use super::slot::Holder;
use crate::data_directory::own_folder::OwnFolder;
use crate::encryption::encryptor::Encryptor;
use crate::encryption::header::Header;
use crate::encryption::identity::{Identity, PrivateIdentity};
use crate::encryption::passphrase::Passphrase;
use crate::encryption::recipient::Recipient;
use crate::encryption::settings::EncryptionSettings;
use crate::error::ErrorKind;
use crate::fs::durable;
use crate::store::ObjectKey;
use crate::store::memory::MemoryBackupStore;

const NOW: OffsetDateTime = datetime!(2026-02-08 09:33:16 UTC);

fn key() -> PrivateIdentity {
    PrivateIdentity::generate().unwrap()
}

fn identity(key: &PrivateIdentity) -> [Identity; 1] {
    [Identity::Key(key.clone())]
}

fn ring() -> KeyRing {
    KeyRing::new(Arc::new(MemoryBackupStore::new()), ".pgpersist/main/keys".parse().unwrap())
}

fn for_keys(keys: &[&PrivateIdentity]) -> EncryptionSettings {
    EncryptionSettings { recipients: keys.iter().map(|key| key.recipient()).collect(), ..EncryptionSettings::default() }
}

/// The header of something encrypted to these alone.
fn header(recipients: &[Recipient]) -> Header {
    let mut bytes = Vec::new();
    Encryptor::begin(recipients, &mut bytes).unwrap();
    Header::read(&mut &bytes[..]).unwrap()
}

async fn objects(ring: &KeyRing) -> Vec<ObjectKey> {
    ring.store().list("").map_ok(|meta| meta.key).try_collect().await.unwrap()
}

fn memory(folder: &tempfile::TempDir) -> KeyMemory {
    KeyMemory::new(OwnFolder::locate(&folder.path().join("pgdata")).unwrap())
}

#[tokio::test]
async fn a_writer_with_public_keys_makes_a_data_key_once_and_cannot_open_it() {
    let (ring, alice, bob, folder) = (ring(), key(), key(), tempfile::tempdir().unwrap());
    let settings = for_keys(&[&alice, &bob]);
    let first = ring.write_key(&settings, Some(&memory(&folder)), NOW).await.unwrap();
    assert_eq!(first.recipients, settings.recipients);
    assert_eq!(ring.write_key(&settings, Some(&memory(&folder)), NOW).await.unwrap(), first);
    assert_eq!(objects(&ring).await.len(), 2, "a slot for each, and nothing else");
    let header = header(&[first.data_key]);
    for reader in [&alice, &bob] {
        assert!(ring.find(&header, Some(first.data_key), &identity(reader)).await.unwrap().is_some());
    }
    assert!(ring.find(&header, None, &identity(&key())).await.unwrap().is_none());
    assert!(ring.find(&header, None, &[]).await.unwrap().is_none());
}

#[tokio::test]
async fn a_data_key_that_nobody_here_made_is_not_written_to() {
    let (ring, alice, folder) = (ring(), key(), tempfile::tempdir().unwrap());
    let settings = for_keys(&[&alice]);
    // Whoever can write into the store wraps a key of his own for the recipient, whose public key is no secret.
    let planted = ring.write_key(&settings, None, NOW + time::Duration::DAY).await.unwrap();
    let made = ring.write_key(&settings, Some(&memory(&folder)), NOW).await.unwrap();
    assert_ne!(made.data_key, planted.data_key);
    assert_eq!(ring.write_key(&settings, Some(&memory(&folder)), NOW).await.unwrap(), made);
}

#[tokio::test]
async fn who_is_taken_out_of_the_configuration_opens_nothing_that_comes_later() {
    let (ring, alice, bob, folder) = (ring(), key(), key(), tempfile::tempdir().unwrap());
    let memory = memory(&folder);
    let before = ring.write_key(&for_keys(&[&alice, &bob]), Some(&memory), NOW).await.unwrap();
    let after = ring.write_key(&for_keys(&[&alice]), Some(&memory), NOW + time::Duration::SECOND).await.unwrap();
    assert_ne!(after.data_key, before.data_key);
    assert!(ring.find(&header(&after.all()), None, &identity(&bob)).await.unwrap().is_none());
    assert!(ring.find(&header(&[before.data_key]), None, &identity(&bob)).await.unwrap().is_some());
    let holder = Holder::Recipient(bob.recipient());
    let slots = ring.slots_of(&holder).await.unwrap();
    assert_eq!(slots.len(), 1);
    ring.remove(&slots).await.unwrap();
    assert!(ring.find(&header(&[before.data_key]), None, &identity(&bob)).await.unwrap().is_none());
    assert_eq!(ring.slots_of(&holder).await.unwrap_err().kind(), ErrorKind::NotFound);
    let last = ring.slots_of(&Holder::Recipient(alice.recipient())).await.unwrap_err();
    assert_eq!(last.kind(), ErrorKind::Unsafe, "{last}");
}

#[tokio::test]
async fn who_is_added_opens_what_was_written_before() {
    let (ring, alice, carol) = (ring(), key(), key());
    let settings = for_keys(&[&alice]);
    let (old, new) = (ring.write_key(&settings, None, NOW).await.unwrap(), ring.write_key(&settings, None, NOW).await.unwrap());
    assert_eq!(ring.add(&[carol.recipient()], None, &identity(&carol)).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(ring.add(&[carol.recipient()], None, &identity(&alice)).await.unwrap().len(), 2);
    assert_eq!(ring.add(&[carol.recipient()], None, &identity(&alice)).await.unwrap().len(), 0, "once is enough");
    for key in [old, new] {
        assert!(ring.find(&header(&[key.data_key]), None, &identity(&carol)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_passphrase_goes_together_with_keys_and_another_one_makes_a_new_data_key() {
    let (ring, alice, folder) = (ring(), key(), tempfile::tempdir().unwrap());
    let file = folder.path().join("passphrase");
    let write = |text: &str| durable::write(&file, text.as_bytes(), 0o600).unwrap();
    let settings = EncryptionSettings { passphrase_file: Some(file.clone()), ..for_keys(&[&alice]) };
    write("too short\n");
    assert_eq!(ring.write_key(&settings, None, NOW).await.unwrap_err().kind(), ErrorKind::Invalid);
    write("correct horse battery staple\n");
    let first = ring.write_key(&settings, None, NOW).await.unwrap();
    assert_eq!(ring.write_key(&settings, None, NOW).await.unwrap(), first, "the passphrase proves the key without a memory");
    let words = [Identity::Passphrase(Passphrase::new("correct horse battery staple").unwrap())];
    assert!(ring.find(&header(&[first.data_key]), None, &words).await.unwrap().is_some());
    write("other words than before\n");
    let second = ring.write_key(&settings, None, NOW + time::Duration::SECOND).await.unwrap();
    assert_ne!(second, first);
    assert!(
        KeyRing::new(ring.store().clone(), ".pgpersist/main/keys".parse().unwrap())
            .find(&header(&[second.data_key]), None, &words)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn an_old_data_key_under_a_new_name_is_no_new_one() {
    let (ring, alice) = (ring(), key());
    let old = ring.write_key(&for_keys(&[&alice]), None, NOW).await.unwrap();
    let slot = objects(&ring).await.remove(0);
    let renamed = slot.as_str().replace("20260208T093316Z", "20270208T093316Z").parse().unwrap();
    ring.store().put(&renamed, ring.store().get(&slot).await.unwrap()).await.unwrap();
    ring.store().delete(&slot).await.unwrap();
    let error = ring.find(&header(&[old.data_key]), None, &identity(&alice)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains("holds another key than its name says"), "{error}");
}

#[tokio::test]
async fn a_proof_is_of_who_is_configured_and_the_newest_counts() {
    let (ring, alice, bob) = (ring(), key(), key());
    ring.write_key(&for_keys(&[&alice, &bob]), None, NOW).await.unwrap();
    let [recipient] = identity(&alice);
    assert_eq!(ring.test(&recipient).await.unwrap().len(), 1);
    assert_eq!(ring.test(&Identity::Key(key())).await.unwrap_err().kind(), ErrorKind::Denied);
    let recipients = [alice.recipient(), bob.recipient()];
    assert_eq!(ring.newest_proof(&recipients, true).await.unwrap(), None);
    for at in [NOW + time::Duration::DAY, NOW] {
        ring.record_proof(&KeyProof::new(&recipient, at, 1)).await.unwrap();
    }
    ring.record_proof(&KeyProof::new(&Identity::Key(bob.clone()), NOW - time::Duration::DAY, 1)).await.unwrap();
    let newest = ring.newest_proof(&recipients, false).await.unwrap().unwrap();
    assert_eq!((newest.holder, newest.proven_at), (alice.recipient().to_string(), NOW));
    assert_eq!(ring.newest_proof(&recipients[1..], false).await.unwrap().unwrap().holder, bob.recipient().to_string());
    assert_eq!(ring.newest_proof(&[], true).await.unwrap(), None);
    assert_eq!(ring.data_keys().await.unwrap().len(), 1, "a proof is no key");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_flipped_bit_of_a_slot_is_found_and_named(bit in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (ring, alice) = (ring(), key());
            let written = ring.write_key(&for_keys(&[&alice]), None, NOW).await.unwrap();
            let slot = objects(&ring).await.remove(0);
            let mut bytes = ring.store().get(&slot).await.unwrap().to_vec();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            ring.store().put(&slot, Bytes::from(bytes)).await.unwrap();
            let error = ring.find(&header(&[written.data_key]), None, &identity(&alice)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
            assert!(error.to_string().contains(slot.as_str()), "{error}");
            let (count, damaged) = ring.damaged_slots().await.unwrap();
            assert_eq!((count, damaged.len(), &damaged[0].0), (1, 1, &slot));
        });
    }
}
