//! [`Place`]: where a dump belongs, as the dump itself says it in the comment of its gzip header.
//!
//! An encrypted dump cannot be changed by whoever keeps it, but it could be put in another one's place, with its side file. What is
//! sealed inside tells. The name is that without `.age`, so that a copy that is encrypted later says the same.

use std::fmt;

use crate::logical::name::plain;
use crate::store::ObjectKey;

/// How the comment begins, with the version of what follows.
const MARK: &str = "pgpersist/1";

/// Where a dump belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name in the store, without `.age`.
    name: String,
    /// The cluster; `None` where that is not known.
    system_identifier: Option<u64>,
}

impl Place {
    /// The place of an object, and the cluster that it is said to be of.
    pub fn new(key: &ObjectKey, system_identifier: Option<u64>) -> Self {
        Self { name: plain(key).to_owned(), system_identifier }
    }

    /// Reads what a dump says of itself; `None` where that is nothing of ours.
    pub(super) fn parse(comment: &str) -> Option<Self> {
        let mut words = comment.strip_prefix(MARK)?.strip_prefix(' ')?.splitn(2, ' ');
        let system_identifier = words.next()?.parse().ok()?;
        Some(Self { name: words.next()?.to_owned(), system_identifier: Some(system_identifier) })
    }

    /// What is wrong with a dump that says `said` and lies here.
    pub(super) fn contradicts(&self, said: &Self) -> Option<String> {
        if self.name != said.name {
            return Some(format!("it is {said}, and somebody has put it here"));
        }
        let differs =
            self.system_identifier.is_some() && said.system_identifier.is_some() && self.system_identifier != said.system_identifier;
        differs.then(|| format!("it is {said}, and its side file tells another cluster"))
    }

    /// The comment to write.
    pub(super) fn comment(&self) -> String {
        format!("{MARK} {} {}", self.system_identifier.unwrap_or_default(), self.name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the dump {}", self.name.escape_debug())?;
        self.system_identifier.map_or(Ok(()), |identifier| write!(formatter, " of the cluster {identifier}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, system_identifier: Option<u64>) -> Place {
        Place::new(&name.parse().unwrap(), system_identifier)
    }

    #[test]
    fn what_is_written_is_read_and_another_place_or_cluster_is_told() {
        let here = place("shop/backup_20260208_093316.sql.gz.age", Some(7));
        assert_eq!(here.comment(), "pgpersist/1 7 shop/backup_20260208_093316.sql.gz");
        assert_eq!(Place::parse(&here.comment()), Some(here.clone()));
        assert_eq!(place("shop/backup_20260208_093316.sql.gz", Some(7)), here);
        assert_eq!(here.contradicts(&here), None);
        assert_eq!(place("shop/backup_20260208_093316.sql.gz", None).contradicts(&here), None);
        let told = place("shop/backup_20260209_093316.sql.gz", None).contradicts(&here).unwrap();
        assert!(told.contains("the dump shop/backup_20260208_093316.sql.gz of the cluster 7"), "{told}");
        assert!(place("shop/backup_20260208_093316.sql.gz", Some(8)).contradicts(&here).unwrap().contains("another cluster"));
        for other in ["", "pgpersist/1", "pgpersist/1 x y", "pgpersist/1 7", "pgpersist/2 7 y", "made by hand"] {
            assert_eq!(Place::parse(other), None, "{other}");
        }
    }
}
