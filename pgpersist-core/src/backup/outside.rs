//! The configuration files that lie outside the data directory, as Debian's do: a cluster that is restored without them does not start.
//!
//! Sources: *File Locations*, *Managing Configuration File Contents* and *The pg_hba.conf File*, PostgreSQL 17. Certificates and keys are
//! secrets or a machine's own, and are left where they are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::migrate::access_rules;
use crate::migrate::configuration::Setting;
use crate::progress::{Event, ProgressSink};
use crate::repo::manifest::OutsideFile;
use crate::server::session::Session;
use crate::workers;

/// How much all of them may hold: a manifest is read more often than it is written.
const MOST_BYTES: usize = 1 << 20;
/// PostgreSQL's own limit on nested includes.
const DEEPEST: usize = 10;
/// What each of them is to the server.
const NAMED: [&str; 3] = ["config_file", "hba_file", "ident_file"];

/// Reads them, by the rights of the data directory's owner. What cannot be read, or is too much, is a warning: it is not part of the backup.
///
/// # Errors
/// `Sql`.
pub async fn gather(session: &Session, data_directory: &Path, progress: &dyn ProgressSink) -> Result<Vec<OutsideFile>> {
    let rows = session
        .client()
        .query(
            "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('config_file', 'hba_file', 'ident_file') ORDER BY name",
            &[],
        )
        .await
        .map_err(|error| Error::sql("ask where the configuration lies", error))?;
    let named: Vec<(String, PathBuf)> = rows.iter().map(|row| (row.get(0), PathBuf::from(row.get::<_, String>(1)))).collect();
    // The server tells these to those who may know alone.
    if named.len() < NAMED.len() {
        progress.event(Event::Warning(
            "the server does not tell this role where its configuration lies: what of it lies outside the data directory is not part of the backup (GRANT pg_read_all_settings to the role)"
                .to_owned(),
        ));
        return Ok(Vec::new());
    }
    let folder = data_directory.to_owned();
    let gathered = workers::run(move || {
        on_behalf::as_owner(&folder, || {
            let mut gathering = Gathering::new(&folder);
            for (setting, path) in &named {
                gathering.file(setting, path, setting == "config_file", 0);
            }
            Ok(gathering)
        })
    })
    .await?;
    for left in gathered.left {
        progress.event(Event::Warning(format!("{left}: it is not part of the backup")));
    }
    Ok(gathered.found)
}

/// What was found so far.
#[derive(Debug)]
struct Gathering {
    /// The data directory, without links: what lies below it is backed up with it.
    inside: PathBuf,
    seen: BTreeSet<PathBuf>,
    bytes: usize,
    found: Vec<OutsideFile>,
    /// What could not be taken, as clauses.
    left: Vec<String>,
}

impl Gathering {
    fn new(data_directory: &Path) -> Self {
        let inside = fs::canonicalize(data_directory).unwrap_or_else(|_| data_directory.to_owned());
        Self { inside, seen: BTreeSet::new(), bytes: 0, found: Vec::new(), left: Vec::new() }
    }

    /// Takes a file, and what it includes. `settings` tells its kind: settings, else access rules.
    fn file(&mut self, setting: &str, path: &Path, settings: bool, depth: usize) {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            // What may be absent is absent, and what must not be, the server has complained about.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.leave(path, &error.to_string()),
        };
        if depth > DEEPEST || !self.seen.insert(real.clone()) {
            return;
        }
        let is_inside = real.starts_with(&self.inside);
        let content = match read(&real, MOST_BYTES - self.bytes) {
            Ok(Some(content)) => content,
            // Whatever it is, it is backed up like all else in there.
            _ if is_inside => return,
            Ok(None) => return self.leave(path, "configuration outside the data directory has more than 1 MiB"),
            Err(error) => return self.leave(path, &error.to_string()),
        };
        if !is_inside {
            let (Some(location), Ok(text)) = (path.to_str(), String::from_utf8(content.clone())) else {
                return self.leave(path, "it is no UTF-8");
            };
            self.bytes += content.len();
            self.found.push(OutsideFile { setting: setting.to_owned(), location: location.to_owned(), content: text });
        }
        // As the server does: relative to the name by which the file was found.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let named = if settings { includes(&content) } else { access_rules::included(&String::from_utf8_lossy(&content)) };
        for name in named {
            for path in files(&folder.join(name)) {
                self.file("include", &path, settings, depth + 1);
            }
        }
    }

    fn leave(&mut self, path: &Path, why: &str) {
        self.left.push(format!("{} lies outside the data directory and cannot be taken ({why})", path.display()));
    }
}

/// What the active lines of a file of settings include.
fn includes(content: &[u8]) -> Vec<PathBuf> {
    let settings = content.split(|byte| *byte == b'\n').filter_map(Setting::parse);
    settings
        .filter(|setting| matches!(setting.name.as_str(), "include" | "include_if_exists" | "include_dir"))
        .map(|setting| PathBuf::from(setting.value))
        .collect()
}

/// The file itself, or of a folder what the server reads of it, in its order.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.retain(|name| name.to_str().is_some_and(|name| name.ends_with(".conf") && !name.starts_with('.')));
    names.sort();
    names.into_iter().map(|name| path.join(name)).collect()
}

/// A file's content, if it has no more than `most` bytes. Nothing is opened that could keep its reader waiting.
fn read(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut content)?;
    Ok((content.len() <= most).then_some(content))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn place(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        folder
    }

    fn gathered(root: &Path, named: &[(&str, &str)]) -> Gathering {
        let mut gathering = Gathering::new(&root.join("data"));
        for (setting, path) in named {
            gathering.file(setting, &root.join(path), *setting == "config_file", 0);
        }
        gathering
    }

    fn names(root: &Path, gathering: &Gathering) -> Vec<(String, String)> {
        let relative = |file: &OutsideFile| file.location.strip_prefix(&format!("{}/", root.display())).unwrap().to_owned();
        gathering.found.iter().map(|file| (file.setting.clone(), relative(file))).collect()
    }

    #[test]
    fn a_configuration_outside_is_taken_with_what_it_includes_and_what_lies_inside_is_not() {
        let place = place(&[
            ("data/PG_VERSION", "15\n"),
            ("data/inside.conf", "include '../etc/from-inside.conf'\n"),
            (
                "etc/postgresql.conf",
                "include_dir 'conf.d'\ninclude_if_exists = 'absent.conf'\ninclude '../data/inside.conf'\n# include 'no.conf'\n",
            ),
            ("etc/no.conf", ""),
            ("etc/conf.d/b.conf", "work_mem = 1MB\n"),
            ("etc/conf.d/a.conf", "include 'b.conf'\n"),
            ("etc/conf.d/.hidden.conf", ""),
            ("etc/conf.d/notes.txt", ""),
            ("etc/from-inside.conf", "port = 1\n"),
            ("etc/pg_hba.conf", "local all @admins peer\n"),
            ("etc/admins", "postgres\n"),
            ("etc/pg_ident.conf", ""),
        ]);
        let named = [("config_file", "etc/postgresql.conf"), ("hba_file", "etc/pg_hba.conf"), ("ident_file", "etc/pg_ident.conf")];
        let gathering = gathered(place.path(), &named);
        let expected = [
            ("config_file", "etc/postgresql.conf"),
            ("include", "etc/conf.d/a.conf"),
            ("include", "etc/conf.d/b.conf"),
            ("include", "etc/../data/../etc/from-inside.conf"),
            ("hba_file", "etc/pg_hba.conf"),
            ("include", "etc/admins"),
            ("ident_file", "etc/pg_ident.conf"),
        ];
        let expected: Vec<_> = expected.map(|(setting, path)| (setting.to_owned(), path.to_owned())).into();
        assert_eq!((names(place.path(), &gathering), gathering.left), (expected, Vec::new()));
        assert_eq!(gathering.found[2].content, "work_mem = 1MB\n");
    }

    #[test]
    fn what_includes_itself_is_taken_once() {
        let place = place(&[
            ("data/PG_VERSION", "15\n"),
            ("etc/postgresql.conf", "include 'postgresql.conf'\ninclude 'other.conf'\n"),
            ("etc/other.conf", "include 'postgresql.conf'\n"),
        ]);
        let gathering = gathered(place.path(), &[("config_file", "etc/postgresql.conf")]);
        assert_eq!((gathering.found.len(), gathering.left.len()), (2, 0));
    }

    #[test]
    fn what_is_too_much_or_no_text_is_left_and_told() {
        let place = place(&[
            ("data/PG_VERSION", "15\n"),
            ("etc/postgresql.conf", "include 'large.conf'\ninclude 'pipe.conf'\ninclude 'latin.conf'\n"),
        ]);
        File::create(place.path().join("etc/large.conf")).unwrap().set_len(MOST_BYTES as u64).unwrap();
        File::create(place.path().join("etc/latin.conf")).unwrap().write_all(b"# caf\xe9\n").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, place.path().join("etc/pipe.conf"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        let gathering = gathered(place.path(), &[("config_file", "etc/postgresql.conf")]);
        assert_eq!(gathering.found.len(), 1);
        let told = gathering.left.join("\n");
        assert!(["large.conf", "1 MiB", "pipe.conf", "no file", "latin.conf", "UTF-8"].iter().all(|part| told.contains(part)), "{told}");
        assert_eq!(gathering.left.len(), 3);
    }
}
