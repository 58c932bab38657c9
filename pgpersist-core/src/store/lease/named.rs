//! [`Named`]: the names of holders' objects: `<token>.json`, and `<token>.<number>.json` for what came behind it.

use futures_util::stream::TryStreamExt;

use crate::error::Result;
use crate::store::{BackupStore, ObjectKey};

/// An object of a holder, by its name. The greatest is what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// Whose it is.
    pub(super) token: u64,
    /// Which of those of the same holder; 0 is the one that took the token.
    pub(super) number: u64,
}

impl Named {
    pub(super) fn first(token: u64) -> Self {
        Self { token, number: 0 }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        let hexadecimal = |digits: &str| u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16);
        let name = name.strip_suffix(".json")?;
        match name.split_once('.') {
            None => hexadecimal(name).map(Self::first),
            Some((token, number)) => Some(Self { token: hexadecimal(token)?, number: hexadecimal(number).filter(|number| *number > 0)? }),
        }
    }

    pub(super) fn key(self, folder: &ObjectKey) -> Result<ObjectKey> {
        let Self { token, number } = self;
        folder.join(&if number == 0 { format!("{token:016x}.json") } else { format!("{token:016x}.{number:016x}.json") })
    }
}

/// Those of all holders, in no order.
pub(super) async fn objects(store: &dyn BackupStore, folder: &ObjectKey) -> Result<Vec<Named>> {
    let prefix = format!("{folder}/");
    let (mut listed, mut objects) = (store.list(&prefix), Vec::new());
    while let Some(meta) = listed.try_next().await? {
        objects.extend(meta.key.as_str().get(prefix.len()..).and_then(Named::of));
    }
    Ok(objects)
}

/// What the newest holder has said last.
pub(super) async fn newest(store: &dyn BackupStore, folder: &ObjectKey) -> Result<Option<Named>> {
    Ok(objects(store, folder).await?.into_iter().max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_token_and_which_object_it_is() {
        let folder: ObjectKey = ".pgpersist/main/leases/maintenance".parse().unwrap();
        for named in [Named::first(1), Named::first(u64::MAX), Named { token: 0xab, number: 1 }, Named { token: 1, number: u64::MAX }] {
            assert_eq!(Named::of(named.key(&folder).unwrap().file_name()), Some(named));
        }
        for none in ["", ".json", "1.json", "note.txt", "000000000000000g.json", "0000000000000001.0000000000000000.json"] {
            assert_eq!(Named::of(none), None, "{none}");
        }
        assert!(Named { token: 1, number: 9 } < Named::first(2) && Named::first(1) < Named { token: 1, number: 1 });
    }
}
