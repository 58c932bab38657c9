//! Which dumps a restore drill loads: the newest good one of each database.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::logical::all_stores::{AllStores, Placed};
use crate::logical::shelf::{DumpEntry, DumpState, Shelf};

/// What is to be proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subjects {
    /// All of a cluster: the newest good dump of each of these databases, or, where none is named, of each that has dumps.
    Cluster(Vec<String>),
    /// Some of it: the newest good dump of each of these databases.
    Databases(Vec<String>),
    /// One dump, by its name or `latest`.
    Dump {
        /// Its name.
        name: String,
        /// The database, where the name fits dumps of several or nothing tells what it was made of.
        database: Option<String>,
    },
}

/// One database, and the dump that it is to come back from.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The database.
    pub database: String,
    /// The dump; `None` where there is no good one.
    pub dump: Option<DumpEntry>,
    /// Where it is, in the order in which it is to be read.
    pub places: Vec<Placed>,
    /// What stands in the way of proving it, before anything is loaded: a newer dump is damaged, or there is none.
    pub obstacle: Option<String>,
}

impl Subject {
    /// `dumps` are those of this database, newest first. A newest one that is damaged is never passed over in silence: a
    /// restore of the cluster would not take the older one in its place.
    fn newest<'a>(database: &str, dumps: impl Iterator<Item = &'a DumpEntry>) -> Self {
        let dumps: Vec<&DumpEntry> = dumps.collect();
        let good = dumps.iter().find(|dump| dump.is_good()).map(|dump| (*dump).clone());
        let obstacle = match dumps.first() {
            None => Some("there is no dump of it".to_owned()),
            Some(DumpEntry { name, state: DumpState::Damaged { reason }, .. }) => {
                let instead = good.as_ref().map_or_else(String::new, |good| format!("; {} was loaded instead", good.name));
                Some(format!("the newest dump, {name}, is damaged: {reason}{instead}"))
            }
            Some(_) => None,
        };
        Self { database: database.to_owned(), dump: good, places: Vec::new(), obstacle }
    }

    fn placed(self, all: &AllStores) -> Self {
        Self { places: self.dump.as_ref().map(|dump| all.places(&dump.name)).unwrap_or_default(), ..self }
    }
}

/// Finds the dumps among what the store of a shelf and its copies have.
///
/// # Errors
/// `NotFound` when there is none at all, or none of that name; `Invalid` when a name fits several, or nothing tells which
/// database a dump was made of; what the store says.
pub async fn choose(shelf: &Shelf, all: &AllStores, subjects: &Subjects) -> Result<Vec<Subject>> {
    let named = match subjects {
        Subjects::Cluster(databases) | Subjects::Databases(databases) => databases,
        Subjects::Dump { name, database } => return Ok(vec![one(all, name, database.as_deref())?.placed(all)]),
    };
    let dumps = all.list_current().await?;
    let with_dumps: BTreeSet<&str> = dumps.iter().filter_map(|dump| dump.database.as_deref()).collect();
    if !with_dumps.iter().any(|database| named.is_empty() || named.iter().any(|name| name == database)) {
        return Err(none(shelf, all, named));
    }
    let databases: Vec<&str> = if named.is_empty() { with_dumps.into_iter().collect() } else { named.iter().map(String::as_str).collect() };
    let mut seen = BTreeSet::new();
    let of = |database: &str| Subject::newest(database, dumps.iter().filter(|dump| dump.database.as_deref() == Some(database)));
    Ok(databases.into_iter().filter(|database| seen.insert(*database)).map(of).map(|subject| subject.placed(all)).collect())
}

fn one(all: &AllStores, name: &str, database: Option<&str>) -> Result<Subject> {
    let entry = all.find(name, database)?.clone();
    let database = entry.database.clone().or_else(|| database.map(str::to_owned)).ok_or_else(|| {
        Error::invalid(
            format!("nothing tells which database the dump {} was made of", entry.name),
            "say with `-d DATABASE` which database it becomes",
        )
    })?;
    Ok(match &entry.state {
        DumpState::Damaged { reason } => {
            Subject { obstacle: Some(format!("{} is damaged: {reason}", entry.name)), dump: None, places: Vec::new(), database }
        }
        _ => Subject { database, dump: Some(entry), places: Vec::new(), obstacle: None },
    })
}

/// Why there is nothing to load.
fn none(shelf: &Shelf, all: &AllStores, named: &[String]) -> Error {
    let of = match named {
        [] => String::new(),
        named => format!(" of {}", named.iter().map(|name| format!("`{}`", name.escape_debug())).collect::<Vec<_>>().join(", ")),
    };
    let (store, remedy) = (shelf.store(), "make one with `pgpersist dump`, or check `--store`");
    let is_of_another = all.list().iter().any(|dump| dump.database.as_ref().is_some_and(|name| named.is_empty() || named.contains(name)));
    if is_of_another {
        Error::not_found(
            format!("there is no dump{of} of this cluster in {store} yet, only of the one that had the name `{}` before", shelf.cluster()),
            "make one with `pgpersist dump`; an older one is drilled by its name, with `--dump NAME`",
        )
    } else {
        Error::not_found(format!("there is no dump{of} in {store}"), remedy)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::ErrorKind;
    use crate::progress::Silent;
    use crate::store::BackupStore;
    use crate::store::memory::MemoryBackupStore;

    async fn shelf(names: &[(&str, usize)], configured: &[&str]) -> Shelf {
        let store = MemoryBackupStore::new();
        for (name, size) in names {
            store.put(&name.parse().unwrap(), vec![b'x'; *size].into()).await.unwrap();
        }
        Shelf::new(Arc::new(store), "main", configured.iter().map(|name| (*name).to_owned()).collect())
    }

    fn named(subject: &Subject) -> Option<&str> {
        subject.dump.as_ref().map(|dump| dump.name.as_str())
    }

    async fn chosen(shelf: &Shelf, subjects: &Subjects) -> Result<Vec<Subject>> {
        choose(shelf, &AllStores::look(shelf, &Silent).await?, subjects).await
    }

    #[tokio::test]
    async fn the_newest_good_dump_of_each_database_is_taken_and_a_damaged_one_told() {
        let names = [
            ("a/backup_20260101_000000.sql.gz", 99),
            ("a/backup_20260102_000000.sql.gz", 99),
            ("b/backup_20260101_000000.sql.gz", 99),
            ("b/backup_20260102_000000.sql.gz", 0),
        ];
        let shelf = shelf(&names, &[]).await;
        let subjects = chosen(&shelf, &Subjects::Cluster(Vec::new())).await.unwrap();
        assert_eq!(subjects.iter().map(named).collect::<Vec<_>>(), [Some(names[1].0), Some(names[2].0)]);
        assert_eq!(subjects[0].obstacle, None);
        let told = subjects[1].obstacle.as_deref().unwrap();
        assert!(told.contains("b/backup_20260102_000000.sql.gz, is damaged: it holds nothing; b/backup_20260101"), "{told}");
        let subjects = chosen(&shelf, &Subjects::Databases(vec!["a".into(), "c".into(), "a".into()])).await.unwrap();
        assert_eq!((subjects.len(), named(&subjects[1]), subjects[1].obstacle.as_deref()), (2, None, Some("there is no dump of it")));
        let dump = |name: &str| Subjects::Dump { name: name.into(), database: None };
        assert_eq!(named(&chosen(&shelf, &dump(names[0].0)).await.unwrap()[0]), Some(names[0].0));
        assert_eq!(named(&chosen(&shelf, &dump(names[3].0)).await.unwrap()[0]), None);
    }

    #[tokio::test]
    async fn without_any_dump_there_is_nothing_to_drill() {
        let empty = shelf(&[], &["a"]).await;
        for subjects in [Subjects::Cluster(vec!["a".into()]), Subjects::Cluster(Vec::new()), Subjects::Databases(vec!["a".into()])] {
            assert_eq!(chosen(&empty, &subjects).await.unwrap_err().kind(), ErrorKind::NotFound);
        }
        let unclear = shelf(&[("backup_20260101_000000.sql.gz", 99)], &["a", "b"]).await;
        let dump = Subjects::Dump { name: "latest".into(), database: None };
        assert_eq!(chosen(&unclear, &dump).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}
