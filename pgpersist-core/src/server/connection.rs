//! How to reach a server: as values for our own sessions, and as a connection string and environment for `psql` and `pg_dump`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::os_user::OsUser;
use crate::pg::quote;
use crate::secret::Secret;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A Unix socket in this directory.
    Socket(PathBuf),
    /// A TCP host name or address.
    Tcp(String),
}

impl Host {
    /// From the text of `PGHOST`: a path means a socket directory.
    pub fn parse(text: &str) -> Self {
        if text.starts_with('/') { Self::Socket(PathBuf::from(text)) } else { Self::Tcp(text.to_owned()) }
    }

    /// What `PGHOST` would hold.
    pub fn as_text(&self) -> String {
        match self {
            Self::Socket(directory) => directory.display().to_string(),
            Self::Tcp(host) => host.clone(),
        }
    }

    fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Socket(directory) => Some(directory),
            Self::Tcp(_) => None,
        }
    }
}

/// Everything needed to open a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Where the server listens.
    pub host: Host,
    /// The port; also part of a socket's name.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password, where one is asked for.
    pub password: Option<Secret<String>>,
    /// As whom a Unix socket is reached and client programs run, where we are root: `peer` knows root for root.
    pub os_user: Option<OsUser>,
}

impl ConnectionOptions {
    /// The same server and role, another database.
    pub fn with_database(&self, database: impl Into<String>) -> Self {
        Self { database: database.into(), ..self.clone() }
    }

    /// A libpq connection string with every value quoted, for `--dbname=…`. A database name that looks like a URL or an
    /// option is just a name here. The password is never part of it.
    pub fn conninfo(&self) -> String {
        [
            quote::conninfo("host", &self.host.as_text()),
            quote::conninfo("port", &self.port.to_string()),
            quote::conninfo("user", &self.user),
            quote::conninfo("dbname", &self.database),
        ]
        .join(" ")
    }

    /// What a child program that connects needs in its environment, and no other program should get.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment =
            vec![(OsString::from("PGAPPNAME"), OsString::from("pgpersist")), (OsString::from("PGCONNECT_TIMEOUT"), OsString::from("30"))];
        if let Some(password) = &self.password {
            environment.push((OsString::from("PGPASSWORD"), OsString::from(password.expose())));
        }
        environment
    }

    /// The socket, and the user as whom root has to reach it; nothing where it is reached as who we are.
    pub(crate) fn socket_for_user(&self) -> Option<(PathBuf, OsUser)> {
        let user = self.os_user.as_ref().filter(|_| rustix::process::geteuid().is_root())?;
        Some((self.host.as_path()?.join(format!(".s.PGSQL.{}", self.port)), user.clone()))
    }

    pub(crate) fn driver_config(&self, deadline: Duration) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        match self.host.as_path() {
            Some(directory) => config.host_path(directory),
            None => config.host(self.host.as_text()),
        };
        config.port(self.port).user(&self.user).dbname(&self.database).application_name("pgpersist").connect_timeout(deadline);
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_a_url_stays_a_name() {
        let options = ConnectionOptions {
            host: Host::parse("/run/x"),
            port: 5433,
            user: "o'brien".into(),
            database: "postgresql://elsewhere/db".into(),
            password: Some(Secret::new("hunter2".into())),
            os_user: None,
        };
        assert_eq!(options.conninfo(), r"host='/run/x' port='5433' user='o\'brien' dbname='postgresql://elsewhere/db'");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
