//! What one source gives: checked values, ready to be laid over those of weaker sources.

use std::path::PathBuf;

use crate::config::keys::{self, Key, Kind, Support};
use crate::config::value::{self, Raw, Source, Sourced, Value};
use crate::error::Result;

/// One source's values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    /// What relative paths count from.
    base: PathBuf,
    /// Plain keys.
    pub(crate) values: Vec<(&'static Key, Sourced<Value>)>,
    /// `[cluster.settings]`.
    pub(crate) settings: Vec<(String, Sourced<String>)>,
    /// The stores; an empty list says nothing.
    pub(crate) stores: Vec<StoreValues>,
    /// `[[health.probe]]`, each with its keys in the order of [`keys::PROBE_KEYS`].
    pub(crate) probes: Vec<Sourced<[String; 3]>>,
    /// `[[drill.check]]`, likewise in the order of [`keys::CHECK_KEYS`].
    pub(crate) checks: Vec<Sourced<[String; 3]>>,
}

/// What one source says of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreValues {
    /// Its address.
    pub(crate) url: Sourced<Value>,
    /// All else.
    pub(crate) values: Vec<(&'static Key, Sourced<Value>)>,
    /// Instead of an address, the place of a configured one, counted from 1.
    pub(crate) place: Option<usize>,
}

impl Layer {
    pub(crate) fn new(base: PathBuf) -> Self {
        Self { base, ..Self::default() }
    }

    /// Takes a value for a plain key.
    pub(crate) fn set(&mut self, key: &'static Key, raw: Raw, source: Source) -> Result<()> {
        let value = value::check(key, raw, &source, &self.base)?;
        self.values.push((key, Sourced { value, source }));
        Ok(())
    }

    /// Takes a store of which only the address is said.
    pub(crate) fn store(&mut self, key: &'static Key, raw: Raw, source: Source) -> Result<()> {
        self.store_with(vec![(key, raw, source)])
    }

    /// Takes the keys of one `[[store]]`.
    pub(crate) fn store_with(&mut self, keys: Vec<(&'static Key, Raw, Source)>) -> Result<()> {
        let (mut address, mut values) = (None, Vec::new());
        for (key, raw, source) in keys {
            let value = value::check(key, raw, &source, &self.base)?;
            match key.kind {
                _ if key.support != Support::Used => {}
                Kind::Store => address = Some(Sourced { value, source }),
                _ => values.push((key, Sourced { value, source })),
            }
        }
        self.stores.extend(address.map(|url| StoreValues { url, values, place: None }));
        Ok(())
    }

    /// Takes a setting of PostgreSQL.
    pub(crate) fn setting(&mut self, name: &str, raw: Raw, source: Source) -> Result<()> {
        let key = format!("{}.{name}", keys::SETTINGS);
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$'));
        if !named {
            return Err(value::wrong(
                &source,
                &key,
                "no setting of PostgreSQL has such a name",
                Some("names have letters, digits, `_`, and a `.` behind an extension's name".to_owned()),
            ));
        }
        let text = raw.into_setting().filter(|text| crate::pg::quote::setting(text).is_some());
        let Some(value) = text else {
            return Err(value::wrong(
                &source,
                &key,
                "expected a text without line breaks, a number, true or false",
                Some("write it as `postgresql.conf` would have it, as in `\"4MB\"`".to_owned()),
            ));
        };
        self.settings.push((name.to_owned(), Sourced { value, source }));
        Ok(())
    }
}
