//! `encryption` of one `[[store]]`. It names files, and never holds a secret.

use std::path::PathBuf;

use crate::config::layer::StoreValues;
use crate::config::value::Value;
use crate::encryption::settings::EncryptionSettings;
use crate::error::Result;

const RECIPIENTS: &str = "store.encryption.recipients";
const PASSPHRASE_FILE: &str = "store.encryption.passphrase_file";
const IDENTITY_FILE: &str = "store.encryption.identity_file";

pub(super) fn settings(store: &StoreValues) -> Result<EncryptionSettings> {
    let value = |name: &str| store.values.iter().find(|(key, _)| key.name == name).map(|(_, sourced)| &sourced.value);
    let path = |name: &str| value(name).map(|value| PathBuf::from(value.to_string()));
    let recipients = match value(RECIPIENTS) {
        Some(Value::List(recipients)) => recipients.iter().map(|recipient| recipient.parse()).collect::<Result<_>>()?,
        _ => Vec::new(),
    };
    Ok(EncryptionSettings { recipients, passphrase_file: path(PASSPHRASE_FILE), identity_file: path(IDENTITY_FILE) })
}

/// What is set and encrypts nothing, as a warning.
pub(super) fn unused(store: &StoreValues) -> Option<String> {
    let is_set = |name: &str| store.values.iter().any(|(key, _)| key.name == name);
    let (_, identity) = store.values.iter().find(|(key, _)| key.name == IDENTITY_FILE)?;
    let encrypts = is_set(RECIPIENTS) || is_set(PASSPHRASE_FILE);
    (!encrypts).then(|| format!("`{IDENTITY_FILE}` ({}) encrypts nothing without `recipients` or `passphrase_file`", identity.source))
}
