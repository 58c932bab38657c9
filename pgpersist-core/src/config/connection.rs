//! How sessions reach the server, as far as libpq's environment says so: it has no section in the file.

use std::collections::BTreeMap;

use crate::config::password_file::PasswordFile;
use crate::config::value::{Source, Sourced};
use crate::secret::Secret;

/// What `PGHOST`, `PGUSER`, `PGDATABASE`, `PGPASSWORD` and the password file say. An empty variable says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// A host name or a socket directory.
    pub host: Option<Sourced<String>>,
    /// The role.
    pub user: Option<Sourced<String>>,
    /// The database that commands take which name none and are configured for none.
    pub database: Option<Sourced<String>>,
    password: Option<Secret<String>>,
    password_file: PasswordFile,
}

impl ConnectionSettings {
    pub(crate) fn read(environment: &BTreeMap<String, String>, password_file: PasswordFile) -> Self {
        let text = |name: &str| environment.get(name).filter(|text| !text.is_empty()).cloned();
        let sourced = |name: &str| text(name).map(|value| Sourced { value, source: Source::Variable(name.to_owned()) });
        Self {
            host: sourced("PGHOST"),
            user: sourced("PGUSER"),
            database: sourced("PGDATABASE"),
            password: text("PGPASSWORD").map(Secret::new),
            password_file,
        }
    }

    /// The password for a session: `PGPASSWORD`, else the first entry of the password file that fits.
    pub fn password(&self, host: &str, port: u16, database: &str, user: &str) -> Option<&Secret<String>> {
        self.password.as_ref().or_else(|| self.password_file.find(host, port, database, user))
    }

    /// What was set, for `config show`: the password only as `***`.
    pub(crate) fn shown(&self) -> Vec<(&'static str, String, Source)> {
        let mut shown: Vec<(&'static str, String, Source)> =
            [("environment.PGHOST", &self.host), ("environment.PGUSER", &self.user), ("environment.PGDATABASE", &self.database)]
                .into_iter()
                .filter_map(|(key, sourced)| sourced.as_ref().map(|s| (key, s.value.clone(), s.source.clone())))
                .collect();
        if let Some(password) = &self.password {
            shown.push(("environment.PGPASSWORD", password.to_string(), Source::Variable("PGPASSWORD".to_owned())));
        }
        shown
    }
}
