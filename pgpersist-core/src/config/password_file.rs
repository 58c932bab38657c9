//! `~/.pgpass`, as libpq reads it; see *The Password File*, PostgreSQL 17, and `passwordFromFile` in `fe-connect.c`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::secret::Secret;

/// Longer files are cut: nobody has so many servers.
const MAX_BYTES: u64 = 1 << 20;

/// The place of the database among the fields.
const DATABASE: usize = 2;

/// Entries of a password file, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PasswordFile {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Host, port, database, user: `None` fits all.
    fields: [Option<String>; 4],
    password: Secret<String>,
}

/// What became of a password file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is none.
    Absent,
    /// It was read.
    Read(PasswordFile),
    /// libpq would not use it, so we don't either: the reason, for a warning.
    Ignored(String),
}

impl PasswordFile {
    /// Reads a file, unless others can read it too.
    ///
    /// # Errors
    /// [`Error::File`] when it exists and cannot be read.
    pub fn read(path: &Path) -> Result<Outcome> {
        let absent = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        // A pipe would block at open, so the kind is looked at first, as libpq does.
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if absent(&error) => return Ok(Outcome::Absent),
            Err(error) => return Err(Error::file("read the password file", path, error)),
        };
        if !metadata.is_file() {
            return Ok(Outcome::Ignored(format!("the password file {} is not a plain file and is ignored", path.display())));
        }
        if metadata.mode() & 0o077 != 0 {
            let path = path.display();
            return Ok(Outcome::Ignored(format!("the password file {path} is open to others and is ignored; `chmod 0600 {path}` helps")));
        }
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text))
            .map_err(|e| Error::file("read the password file", path, e))?;
        Ok(Outcome::Read(Self::parse(&String::from_utf8_lossy(&text))))
    }

    /// Reads lines of `host:port:database:user:password`; what does not fit is skipped, as libpq does.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { entries: lines.filter_map(entry).collect() }
    }

    /// The first password that fits; where none does, the first one of that role for another database, since a role has one
    /// password in all of them, and a command goes through several. A socket in a default directory is known as `localhost`,
    /// any other by its directory.
    pub fn find(&self, host: &str, port: u16, database: &str, user: &str) -> Option<&Secret<String>> {
        let host = match host.trim_end_matches('/') {
            "" | "/tmp" | "/run/postgresql" | "/var/run/postgresql" => "localhost",
            _ => host,
        };
        let port = port.to_string();
        let wanted = [host, &port, database, user];
        let fits = |entry: &&Entry, but: Option<usize>| {
            let mut fields = entry.fields.iter().zip(wanted).enumerate();
            fields.all(|(place, (field, wanted))| Some(place) == but || field.as_deref().is_none_or(|f| f == wanted))
        };
        let found = self.entries.iter().find(|entry| fits(entry, None));
        found.or_else(|| self.entries.iter().find(|entry| fits(entry, Some(DATABASE)))).map(|entry| &entry.password)
    }
}

fn entry(line: &str) -> Option<Entry> {
    let mut parts = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => parts.last_mut()?.extend(characters.next()),
            // What stands behind the fourth colon is the password; one more colon ends it.
            ':' => parts.push(String::new()),
            _ => parts.last_mut()?.push(character),
        }
    }
    let mut parts = parts.into_iter();
    let mut field = || parts.next().map(|text| (text != "*").then_some(text));
    let fields = [field()?, field()?, field()?, field()?];
    Some(Entry { fields, password: Secret::new(parts.next()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_line_that_fits_wins() {
        let file =
            PasswordFile::parse("# comment\n*:5433:*:*:other port\nlocalhost:*:orders:app:se\\:cr\\\\et\n*:*:*:*:rest\nbroken:line\n");
        let find = |host, port, database, user| file.find(host, port, database, user).map(|p| p.expose().as_str());
        assert_eq!(find("/run/postgresql", 5432, "orders", "app"), Some("se:cr\\et"));
        assert_eq!(find("db.example", 5432, "orders", "app"), Some("rest"));
        assert_eq!(find("db.example", 5433, "orders", "app"), Some("other port"));
        assert_eq!(PasswordFile::default().find("x", 1, "y", "z"), None);
    }

    #[test]
    fn a_line_for_one_database_opens_the_others_too() {
        let file = PasswordFile::parse("localhost:*:shop:app:of shop\nlocalhost:*:*:other:others\nlocalhost:*:postgres:boss:of boss\n");
        let find = |host, database, user| file.find(host, 5432, database, user).map(|p| p.expose().as_str());
        // Every command begins in `postgres`.
        assert_eq!(find("localhost", "postgres", "app"), Some("of shop"));
        assert_eq!(find("localhost", "shop", "app"), Some("of shop"));
        assert_eq!((find("elsewhere", "postgres", "app"), find("localhost", "shop", "nobody")), (None, None));
    }

    #[test]
    fn a_file_that_others_can_read_is_ignored_with_a_reason() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"*:*:*:*:hunter2").unwrap();
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o640)).unwrap();
        let Outcome::Ignored(why) = PasswordFile::read(file.path()).unwrap() else { panic!("it was used") };
        assert!(why.contains("chmod 0600") && !why.contains("hunter2"));
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(PasswordFile::read(file.path()).unwrap(), Outcome::Read(_)));
        assert_eq!(PasswordFile::read(Path::new("/nonexistent/.pgpass")).unwrap(), Outcome::Absent);
    }
}
