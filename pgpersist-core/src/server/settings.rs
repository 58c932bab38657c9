//! Our settings: one included file beside the user's, and the server's command line for what durability hangs on.
//!
//! PostgreSQL reads `postgresql.auto.conf` last, so a file of ours would lose against `ALTER SYSTEM`; the command line
//! beats every file (*Setting Parameters*, PostgreSQL 17).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::pg::quote;

/// The file that the user's `postgresql.conf` includes.
pub const FILE_NAME: &str = "pgpersist.conf";

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
        let path = directory.join(FILE_NAME);
        let text = self.render()?;
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            durable::write(&path, text.as_bytes(), 0o600)?;
        }
        let main = directory.join("postgresql.conf");
        let bytes = match fs::read(&main) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(no_configuration(&main)),
            Err(error) => return Err(Error::file("read", main, error)),
        };
        // The file may hold any encoding in its comments, so it is handled as bytes.
        let includes = String::from_utf8_lossy(&bytes).lines().any(is_our_include);
        if !includes {
            let mut with_include = bytes;
            if !with_include.ends_with(b"\n") && !with_include.is_empty() {
                with_include.push(b'\n');
            }
            with_include
                .extend_from_slice(format!("\ninclude_if_exists = '{FILE_NAME}'\t# settings from pgpersist's configuration\n").as_bytes());
            durable::write(&main, &with_include, 0o600)?;
        }
        Ok(())
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
