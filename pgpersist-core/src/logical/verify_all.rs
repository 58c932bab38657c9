//! Verifying a cluster's dumps in all of its stores: damage in one of them is told with the stores where the same dump is
//! whole.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use crate::error::Result;
use crate::logical::all_stores::AllStores;
use crate::logical::name::plain;
use crate::logical::shelf::{DumpEntry, Shelf};
use crate::logical::verify::{Depth, Subject, VerifyReport, verify};
use crate::progress::ProgressSink;
use crate::store::ObjectKey;

/// Verifies the dump of this name, or `latest`, else all of them and those of roles; `database` narrows the choice. A store
/// that does not answer is a warning, as long as another one does.
///
/// # Errors
/// As [`AllStores::look`] and [`AllStores::find`].
pub fn verify_all<'a>(
    shelf: &'a Shelf,
    name: Option<&'a str>,
    database: Option<&'a str>,
    depth: Depth,
    progress: &'a dyn ProgressSink,
) -> BoxFuture<'a, Result<VerifyReport>> {
    Box::pin(async move {
        let all = AllStores::look(shelf, progress).await?;
        let chosen = name.map(|name| all.find(name, database)).transpose()?.map(|entry| entry.name.clone());
        let is_meant = |entry: &&DumpEntry| match &chosen {
            Some(name) => plain(&entry.name) == plain(name),
            None => database.is_none() || entry.database.as_deref() == database,
        };
        let with_roles = chosen.is_none() && database.is_none();
        let several = !shelf.copies().is_empty();
        let (mut report, mut whole) = (VerifyReport::default(), BTreeMap::<String, Vec<String>>::new());
        for (shelf, dumps, roles) in all.contents(chosen.is_some()) {
            let store = shelf.store();
            let dumps = dumps.filter(is_meant).map(Subject::from);
            let mut subjects: Vec<Subject> = dumps.chain(roles.filter(|_| with_roles).cloned().map(Subject::new)).collect();
            if depth == Depth::Full {
                shelf.open_subjects(&mut subjects).await?;
            }
            let mut of_this = verify(store.as_ref(), &subjects, depth, progress).await?;
            if with_roles {
                shelf.verify_keys(&mut of_this).await?;
            }
            let bad = |name: &ObjectKey| {
                of_this.damaged.iter().any(|damaged| damaged.name == *name) || of_this.unreadable.iter().any(|unread| unread.name == *name)
            };
            for subject in subjects.iter().filter(|subject| !bad(&subject.name)) {
                whole.entry(plain(&subject.name).to_owned()).or_default().push(store.to_string());
            }
            report.take(of_this, several.then(|| store.to_string()));
        }
        for damaged in &mut report.damaged {
            damaged.whole_in = whole.get(plain(&damaged.name)).cloned().unwrap_or_default();
        }
        Ok(report)
    })
}
