//! `[[store]]`: which stores are meant, and what each of them keeps.

use std::collections::BTreeMap;

use crate::config::keys::{self, Kind};
use crate::config::layer::{Layer, StoreValues};
use crate::config::load::{Merged, StoreConfig, encryption};
use crate::config::value::{self, Source, Sourced, Value};
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, Result};
use crate::retention::Retention;
use crate::store::url::StoreUrl;

const RULES: &str = "retention.";

impl Merged {
    /// Lays one source's stores over those of weaker ones: a stronger source replaces the list as a whole, since mixing two would
    /// write copies nobody asked for. One that names a configured store means that store, with all that is said of it.
    pub(super) fn lay_stores(&mut self, layer: &mut Layer) -> Result<()> {
        if layer.stores.is_empty() {
            return Ok(());
        }
        let by_name = layer.stores.iter().any(|store| matches!(store.url.source, Source::Variable(_) | Source::Flag(_)));
        let mut chosen = Vec::new();
        for store in std::mem::take(&mut layer.stores) {
            chosen.push(if by_name { named(store, &self.stores)? } else { store });
        }
        if !chosen.iter().any(|store| matches!(store.url.source, Source::Flag(_))) {
            self.configured_stores.clone_from(&chosen);
        }
        self.stores = chosen;
        Ok(())
    }

    /// The stores of this run, and those that are configured whether or not options choose others.
    pub(super) fn stores(&self, general: Retention) -> Result<(Vec<StoreConfig>, Vec<StoreConfig>)> {
        let all = |stores: &[StoreValues]| stores.iter().map(|store| self.store(store, general)).collect::<Result<Vec<_>>>();
        let (mut chosen, mut configured) = (all(&self.stores)?, all(&self.configured_stores)?);
        share_encryption(&mut chosen)?;
        share_encryption(&mut configured)?;
        check_apart(&chosen)?;
        check_apart(&configured)?;
        Ok((chosen, configured))
    }

    fn store(&self, store: &StoreValues, general: Retention) -> Result<StoreConfig> {
        let has_rules = store.values.iter().any(|(key, _)| rule(key.name).is_some());
        let retention = if has_rules { self.own_rules(store)? } else { general };
        let encryption = encryption::settings(store)?;
        Ok(StoreConfig { url: store.url.value.to_string().parse()?, source: store.url.source.clone(), retention, encryption })
    }

    /// What a store with rules of its own keeps: by these alone, except that options beat every rule that is configured.
    fn own_rules(&self, store: &StoreValues) -> Result<Retention> {
        let mut rules: BTreeMap<&str, u64> = BTreeMap::new();
        let given = self.values.iter().filter(|(_, sourced)| matches!(sourced.source, Source::Flag(_)));
        let given = given.filter_map(|(name, sourced)| Some((name.strip_prefix(RULES)?, sourced)));
        let own = store.values.iter().filter_map(|(key, sourced)| Some((rule(key.name)?, sourced)));
        for (name, sourced) in own.chain(given) {
            if let Value::Integer(number) = sourced.value {
                rules.insert(name, number);
            }
        }
        let count = |name: &str| {
            let convert = |number: &u64| {
                u32::try_from(*number).map_err(|_| Error::Bug(format!("`store.{name}` is {number}, which its check let pass")))
            };
            rules.get(name).map(convert).transpose()
        };
        Ok(Retention {
            keep_days: count("keep_days")?,
            keep_last: count("keep_last")?,
            keep_daily: count("keep_daily")?,
            keep_weekly: count("keep_weekly")?,
            keep_monthly: count("keep_monthly")?,
            max_bytes: rules.get("max_bytes").copied(),
        })
    }

    /// Every value of the stores, for `config show`. A store's address holds no secret: `StoreUrl` refuses one that does.
    pub(super) fn shown_stores(&self) -> Vec<(String, serde_json::Value, Source)> {
        let mut shown = Vec::new();
        for (place, store) in self.stores.iter().enumerate() {
            shown.push((format!("store.{place}.url"), store.url.value.to_json(), store.url.source.clone()));
            for key in keys::STORE_KEYS {
                let set = store.values.iter().filter(|(other, _)| other.name == key.name);
                let word = key.name.trim_start_matches("store.");
                shown.extend(set.map(|(_, sourced)| (format!("store.{place}.{word}"), sourced.value.to_json(), sourced.source.clone())));
            }
        }
        shown
    }

    /// What is said of copies where there are none.
    pub(super) fn unused_of_stores(&self) -> Vec<String> {
        let lonely = self.configured_stores.len() < 2;
        let set = self.values.iter().filter(|(name, sourced)| name.starts_with("sync.") && sourced.source != Source::Default);
        set.filter(|_| lonely)
            .map(|(name, sourced)| format!("`{name}` ({}) has no effect without a second `[[store]]`", sourced.source))
            .collect()
    }
}

/// Copies of what is encrypted are what it is, so they are encrypted as the first store is, and opened with the same keys unless they
/// name their own. Where that is not encrypted, a copy may be: on its way there.
fn share_encryption(stores: &mut [StoreConfig]) -> Result<()> {
    let Some((first, copies)) = stores.split_first_mut() else { return Ok(()) };
    for copy in copies {
        if copy.encryption == EncryptionSettings::default() {
            copy.encryption = first.encryption.clone();
        } else if first.encryption.encrypts() && copy.encryption.encrypts() && !copy.encryption.encrypts_as(&first.encryption) {
            return Err(value::wrong(
                &copy.source,
                keys::STORE_ENCRYPTION,
                "the first store is encrypted, so a copy is what that has, and cannot be encrypted otherwise",
                Some("write the same `encryption` at the first `[[store]]`: its copies follow it".to_owned()),
            ));
        }
    }
    Ok(())
}

/// Refuses stores that lie in each other: a copy there is none, and would be taken for a database's folder.
fn check_apart(stores: &[StoreConfig]) -> Result<()> {
    for (place, store) in stores.iter().enumerate() {
        let around = |other: &&StoreConfig| match (other.url.folder(), store.url.folder()) {
            (Some(other), Some(own)) => own.starts_with(other) || other.starts_with(own),
            _ => other.url == store.url,
        };
        if let Some(other) = stores[..place].iter().find(around) {
            let reason = if other.url == store.url {
                format!("the store {} is named twice", store.url)
            } else {
                format!("the stores {} and {} lie in each other", other.url, store.url)
            };
            return Err(value::wrong(
                &store.source,
                "store.url",
                &reason,
                Some("name stores that lie apart, best on different machines".to_owned()),
            ));
        }
    }
    Ok(())
}

/// The rule of retention that a key of a store is, if it is one.
fn rule(key: &str) -> Option<&str> {
    let word = key.strip_prefix("store.")?;
    keys::KEYS.iter().any(|key| key.name.strip_prefix(RULES) == Some(word)).then_some(word)
}

/// The configured store that is meant, where one is: by its place, counted from 1, or by its address.
fn named(store: StoreValues, configured: &[StoreValues]) -> Result<StoreValues> {
    let found = match store.place {
        Some(place) => Some(
            place
                .checked_sub(1)
                .and_then(|place| configured.get(place))
                .ok_or_else(|| no_such_place(place, &store.url, configured.len()))?,
        ),
        None => {
            let address: StoreUrl = store.url.value.to_string().parse()?;
            configured.iter().find(|other| other.url.value.to_string().parse().is_ok_and(|other: StoreUrl| other == address))
        }
    };
    Ok(match found {
        Some(found) => StoreValues {
            url: Sourced { value: found.url.value.clone(), source: store.url.source },
            values: found.values.clone(),
            place: None,
        },
        None => store,
    })
}

fn no_such_place(place: usize, named: &Sourced<Value>, configured: usize) -> Error {
    let there = match configured {
        0 => "no store is configured".to_owned(),
        1 => "one store is configured".to_owned(),
        number => format!("{number} stores are configured"),
    };
    let remedy = format!("`pgpersist config show` lists them; a folder of that name is `./{place}`");
    value::wrong(&named.source, "store.url", &format!("there is no store {place}: {there}"), Some(remedy))
}

/// Reads what an option says of a store: its address, or its place among the configured ones.
pub(super) fn read_option(layer: &mut Layer, key: &'static keys::Key, text: &str, source: Source) -> Result<()> {
    debug_assert!(key.kind == Kind::Store);
    match text.parse::<usize>() {
        Ok(place) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let url = Sourced { value: Value::Text(text.to_owned()), source };
            layer.stores.push(StoreValues { url, values: Vec::new(), place: Some(place) });
            Ok(())
        }
        _ => layer.store(key, value::Raw::Word(text.to_owned()), source),
    }
}
