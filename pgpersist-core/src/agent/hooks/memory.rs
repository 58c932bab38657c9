//! What each hook was told last, kept on the volume, so that the next agent neither repeats a failure nor forgets a recovery.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::agent::hooks::condition::Known;
use crate::agent::log::{Told, with_causes};
use crate::error::{Error, Result};
use crate::fs::durable;
use crate::pg::log_line::Severity;
use crate::workers;

/// The name of the file in the folder of our own files.
const FILE_NAME: &str = "hooks.json";
/// The format that this version writes.
const FORMAT: u32 = 1;
/// A volume that hangs does not keep anybody from being told.
const PATIENCE: Duration = Duration::from_secs(10);

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    format: u32,
    hooks: BTreeMap<String, Known>,
}

/// What each hook was told.
#[derive(Debug)]
pub(crate) struct Memory {
    own: PathBuf,
    told: Told,
    read: OnceCell<()>,
    book: Arc<Mutex<Book>>,
    /// Held by whoever writes the file, also by a thread that a volume does not let go.
    pen: Arc<Mutex<()>>,
}

impl Memory {
    /// Reads nothing yet; `own` is the folder of our own files.
    pub(crate) fn new(own: PathBuf, told: Told) -> Self {
        Self { own, told, read: OnceCell::new(), book: Arc::default(), pen: Arc::default() }
    }

    /// What this hook was told.
    pub(crate) async fn of(&self, hook: &str) -> Known {
        self.ready().await;
        self.book().hooks.get(hook).cloned().unwrap_or_default()
    }

    /// What all of these hooks were told.
    pub(crate) async fn of_all(&self, hooks: &[String]) -> Vec<Known> {
        self.ready().await;
        hooks.iter().filter_map(|hook| self.book().hooks.get(hook).cloned()).collect()
    }

    /// Keeps what this hook was told, on the volume as soon as that takes it.
    pub(crate) async fn keep(&self, hook: &str, known: Known) {
        self.ready().await;
        self.book().hooks.insert(hook.to_owned(), known);
        let (own, book, pen) = (self.own.clone(), Arc::clone(&self.book), Arc::clone(&self.pen));
        let writing = workers::run(move || {
            // One that waits longer than its caller writes what is true by then. Without it there is one writer, and no queue.
            let Ok(_pen) = pen.try_lock() else { return Ok(false) };
            let content = book.lock().unwrap_or_else(PoisonError::into_inner).clone();
            write(&own, &Book { format: FORMAT, ..content }).map(|()| true)
        });
        let why = match tokio::time::timeout(PATIENCE, writing).await {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) | Err(_) => "the volume does not answer".to_owned(),
            Ok(Err(error)) => with_causes(&error),
        };
        self.told.say(Severity::Warning, &format!("what hooks were told is not remembered, so the next agent may tell it again: {why}"));
    }

    async fn ready(&self) {
        self.read.get_or_init(|| self.read()).await;
    }

    async fn read(&self) {
        let own = self.own.clone();
        let why = match tokio::time::timeout(PATIENCE, workers::run(move || read(&own))).await {
            Ok(Ok(book)) => {
                *self.book() = book.unwrap_or_default();
                return;
            }
            Ok(Err(error)) => with_causes(&error),
            Err(_) => "the volume does not answer".to_owned(),
        };
        self.told.say(Severity::Warning, &format!("what hooks were told is not known, so they may be told again: {why}"));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocking.
fn read(own: &Path) -> Result<Option<Book>> {
    let path = own.join(FILE_NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(Error::file("read", path, error)),
    };
    let unreadable = |why: String| Error::damaged(format!("{}: {why}", path.display()), "remove it: it is written anew");
    let book: Book = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if book.format != FORMAT {
        return Err(unreadable(format!("format {} is not known", book.format)));
    }
    Ok(Some(book))
}

/// Blocking. The folder is made by whoever makes the directory ready; where it is not, a volume is missing.
fn write(own: &Path, book: &Book) -> Result<()> {
    let path = own.join(FILE_NAME);
    let text = serde_json::to_string_pretty(book).map_err(|e| Error::Bug(format!("could not write {FILE_NAME}: {e}")))?;
    durable::write(&path, format!("{text}\n").as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::hooks::condition::Since;
    use crate::agent::log::Unheard;
    use time::macros::datetime;

    fn memory(own: &Path) -> Memory {
        Memory::new(own.to_owned(), Told(Arc::new(Unheard)))
    }

    #[tokio::test]
    async fn what_was_told_is_known_to_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let known = Known { failing: [("dumps".to_owned(), Since { since: datetime!(2026-02-08 10:00 UTC) })].into() };
        assert_eq!(memory(folder.path()).of("webhook").await, Known::default());
        memory(folder.path()).keep("webhook", known.clone()).await;
        memory(folder.path()).keep("command", Known::default()).await;
        let next = memory(folder.path());
        assert_eq!(next.of("webhook").await, known);
        let hooks = ["webhook".to_owned(), "command".to_owned(), "other".to_owned()];
        assert_eq!(next.of_all(&hooks).await, [known, Known::default()]);
        let text = fs::read_to_string(folder.path().join(FILE_NAME)).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["hooks"]["webhook"]["failing"]["dumps"]["since"], "2026-02-08T10:00:00Z");
    }

    #[tokio::test]
    async fn a_file_that_is_none_of_ours_is_nothing_and_a_folder_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "[]", r#"{"format": 2, "hooks": {}}"#] {
            durable::write(&folder.path().join(FILE_NAME), text.as_bytes(), 0o600).unwrap();
            assert!(read(folder.path()).is_err(), "{text}");
            assert_eq!(memory(folder.path()).of("webhook").await, Known::default());
        }
        let absent = folder.path().join("absent");
        memory(&absent).keep("webhook", Known::default()).await;
        assert!(!absent.exists());
    }
}
