//! Names of databases on the command line.

use pgpersist_core::pg::database_name;

/// What `-d` takes: every name that the server would not change.
pub(crate) fn parse(name: &str) -> Result<String, String> {
    database_name::check(name).map(|()| name.to_owned()).map_err(|error| error.to_string())
}
