//! Our settings: one included file beside the user's, and the server's command line for what durability hangs on.
//!
//! PostgreSQL reads `postgresql.auto.conf` last, so a file of ours would lose against `ALTER SYSTEM`; the command line
//! beats every file (*Setting Parameters*, PostgreSQL 17).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::on_behalf::as_owner;
use crate::pg::quote;

/// The file that the user's `postgresql.conf` includes.
pub const FILE_NAME: &str = "pgpersist.conf";

/// The line that does so.
const INCLUDE: &str = "include_if_exists = 'pgpersist.conf'";

/// How `postgres` is told which directory is meant. `-D` alone says only where `postgresql.conf` lies: a line
/// `data_directory = …` in it, as in Debian's, then names another one, unless the command line names it, too.
pub(crate) fn directory_arguments(directory: &Path) -> [OsString; 4] {
    let mut setting = OsString::from("data_directory=");
    setting.push(directory);
    ["-D".into(), directory.as_os_str().to_owned(), "-c".into(), setting]
}

/// The settings that would make the server another cluster's, and what to set instead.
const NOT_A_SETTING: [(&str, &str); 2] = [
    ("data_directory", "set `[cluster] data_directory`: pgpersist locks and watches that one"),
    ("config_file", "the server reads the `postgresql.conf` of its data directory: put an `include` into that"),
];

/// What a cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Nothing acknowledged may be lost: `fsync` and `full_page_writes` are on, whatever the files say.
    #[default]
    Durable,
    /// For throw-away clusters only: speed before durability.
    Ephemeral,
}

impl Profile {
    /// The settings that go on the server's command line.
    pub fn command_line(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Durable => &[("fsync", "on"), ("full_page_writes", "on")],
            Self::Ephemeral => &[("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "off")],
        }
    }
}

/// What `pgpersist.conf` is to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The port.
    pub port: u16,
    /// Any other settings, by name.
    pub others: BTreeMap<String, String>,
}

impl Settings {
    /// The text of `pgpersist.conf`.
    ///
    /// # Errors
    /// [`Error::Config`] for a name or value that no configuration file can hold.
    pub fn render(&self) -> Result<String> {
        let mut text = String::from("# Written by pgpersist from its own configuration at every start; changes here are lost.\n");
        text.push_str(&format!("port = {}\n", self.port));
        for (name, value) in &self.others {
            let key = || format!("[cluster.settings] {name}");
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
                return Err(Error::Config { place: key(), reason: "is no name of a setting".into(), remedy: Some("remove it".into()) });
            }
            if let Some((_, remedy)) = NOT_A_SETTING.iter().find(|(forbidden, _)| forbidden.eq_ignore_ascii_case(name)) {
                let reason = "cannot be set here, since it would name another cluster".into();
                return Err(Error::Config { place: key(), reason, remedy: Some((*remedy).to_owned()) });
            }
            let value = quote::setting(value).ok_or_else(|| Error::Config {
                place: key(),
                reason: "holds a line break".into(),
                remedy: Some("write it on one line".into()),
            })?;
            text.push_str(&format!("{name} = {value}\n"));
        }
        Ok(text)
    }

    /// The next step where the server names one of our settings: its message points to a line of `pgpersist.conf`, which is
    /// written anew at each start, so mending that line would help only until then.
    pub(crate) fn remedy_for(&self, said: &str) -> Option<String> {
        let name = self.others.keys().find(|name| said.contains(&format!("\"{name}\"")))?;
        Some(format!(
            "mend the key `{name}` of `[cluster.settings]` (or PGPERSIST_CLUSTER_SETTINGS_{}), from which pgpersist.conf is written at each start",
            name.to_ascii_uppercase()
        ))
    }

    /// Writes `pgpersist.conf` into a data directory and makes its `postgresql.conf` include it. What is already as it
    /// should be is not touched.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::NotFound`] when there is no `postgresql.conf`.
    pub fn install(&self, directory: &Path) -> Result<()> {
        // As a whole: where a link leads, root would write into files that are none of the directory's owner.
        as_owner(directory, || self.install_as_owner(directory))
    }

    fn install_as_owner(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        let text = self.render()?;
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            durable::write(&path, text.as_bytes(), 0o600)?;
        }
        let main = directory.join("postgresql.conf");
        let (bytes, mode) = match read_with_mode(&main) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_configuration(&main)),
            Err(error) => return Err(Error::file("read", main, error)),
        };
        // The file may hold any encoding in its comments, so it is handled as bytes.
        let includes = String::from_utf8_lossy(&bytes).lines().any(is_our_include);
        if !includes {
            let mut with_include = bytes;
            if !with_include.ends_with(b"\n") && !with_include.is_empty() {
                with_include.push(b'\n');
            }
            with_include.extend_from_slice(format!("\n{INCLUDE}\t# settings from pgpersist's configuration\n").as_bytes());
            // Through a link to the file itself: who keeps it elsewhere goes on editing it there.
            let file = main.canonicalize().map_err(|e| Error::file("resolve", &main, e))?;
            durable::write(&file, &with_include, mode).map_err(|error| cannot_include(&file, error))?;
        }
        Ok(())
    }
}

fn read_with_mode(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    Ok((fs::read(path)?, fs::metadata(path)?.mode() & 0o777))
}

/// A `postgresql.conf` that cannot be replaced, as one that a container mounts by itself: its owner can add the line.
fn cannot_include(file: &Path, error: Error) -> Error {
    let Error::File { source, .. } = &error else { return error };
    let what = || format!("{} needs the line `{INCLUDE}`, and cannot be replaced from here: {source}", file.display());
    let remedy = "add that line to the file where it comes from: pgpersist's settings reach the server through it";
    match source.kind() {
        io::ErrorKind::ResourceBusy | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::CrossesDevices => Error::conflict(what(), remedy),
        io::ErrorKind::PermissionDenied => Error::denied(what(), remedy),
        _ => error,
    }
}

fn is_our_include(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("include") && line.split('#').next().is_some_and(|setting| setting.contains(FILE_NAME))
}

fn no_configuration(path: &Path) -> Error {
    Error::not_found(
        format!("there is no {}", path.display()),
        "Debian keeps the configuration in /etc/postgresql, outside the volume: `pgpersist migrate` brings it along; else copy postgresql.conf and pg_hba.conf into the data directory",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { port: 5433, others: BTreeMap::from([("log_line_prefix".to_owned(), "it's %m".to_owned())]) }
    }

    #[test]
    fn includes_our_file_once() {
        let directory = tempfile::tempdir().unwrap();
        let main = directory.path().join("postgresql.conf");
        durable::write(&main, b"port = 5432", 0o600).unwrap();
        settings().install(directory.path()).unwrap();
        let once = fs::read_to_string(&main).unwrap();
        settings().install(directory.path()).unwrap();
        assert_eq!(fs::read_to_string(&main).unwrap(), once);
        assert!(once.starts_with("port = 5432\n") && once.contains("include_if_exists = 'pgpersist.conf'"));
        assert!(fs::read_to_string(directory.path().join(FILE_NAME)).unwrap().contains("log_line_prefix = 'it''s %m'"));
    }

    #[test]
    fn writes_through_a_link_and_keeps_the_permissions() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (main, real) = (directory.path().join("postgresql.conf"), elsewhere.path().join("real.conf"));
        durable::write(&real, b"port = 5432\n", 0o644).unwrap();
        std::os::unix::fs::symlink(&real, &main).unwrap();
        settings().install(directory.path()).unwrap();
        assert_eq!(fs::read_link(&main).unwrap(), real);
        assert!(fs::read_to_string(&real).unwrap().contains(INCLUDE));
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o644);
    }

    #[test]
    fn refuses_what_would_name_another_cluster() {
        for name in ["data_directory", "Config_File"] {
            let settings = Settings { port: 1, others: BTreeMap::from([(name.to_owned(), "/b".to_owned())]) };
            let error = settings.render().unwrap_err();
            assert!(matches!(&error, Error::Config { place, remedy: Some(_), .. } if place.ends_with(name)), "{error}");
        }
    }

    #[test]
    fn a_mistake_is_sent_to_the_key_and_not_to_the_file_that_is_written_anew() {
        let remedy = settings().remedy_for("FATAL: unrecognized configuration parameter \"log_line_prefix\" in file \"/x\" line 2");
        assert!(remedy.unwrap().starts_with("mend the key `log_line_prefix` of `[cluster.settings]`"));
        assert_eq!(settings().remedy_for("FATAL: invalid value for parameter \"work_mem\": \"lots\""), None);
    }

    #[test]
    fn refuses_what_would_inject_a_line() {
        let settings = Settings { port: 1, others: BTreeMap::from([("x".to_owned(), "a\nfsync = off".to_owned())]) };
        assert!(settings.render().is_err());
        let settings = Settings { port: 1, others: BTreeMap::from([("x = 1\nfsync".to_owned(), "off".to_owned())]) };
        assert!(settings.render().is_err());
    }
}
