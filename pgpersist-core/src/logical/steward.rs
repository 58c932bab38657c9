//! Who owns what a dump gives to a superuser, when nothing proves that the dump is our own.
//!
//! Whoever owns a thing lends it his rights: autovacuum analyzes an index on a function as the owner of the table, and a
//! function with `SECURITY DEFINER` runs as its owner. A stranger's table that belongs to a superuser is a stranger's program
//! run by a superuser, without anybody using the database. So such things go to the database's owner, or where that is one of
//! these roles, too, to a steward: the role `<database>_owner`, which cannot log in and has no rights.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::logical::database_state::texts;
use crate::pg::database_name::with_suffix;
use crate::pg::quote;
use crate::server::session::Session;

/// Who a loaded database is handed over to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heir {
    pub(super) role: String,
    /// It is made together with the handing over.
    pub(super) is_new: bool,
}

impl Heir {
    pub(super) fn existing(role: &str) -> Self {
        Self { role: role.to_owned(), is_new: false }
    }
}

/// The roles that can reach beyond databases: superusers, those that may run programs or touch the server's files, those that
/// may make themselves one of these, and all their members.
///
/// # Errors
/// [`Error::Sql`].
pub(super) async fn powerful_roles(session: &Session) -> Result<BTreeSet<String>> {
    let query = "SELECT r.rolname FROM pg_catalog.pg_roles r WHERE EXISTS (SELECT FROM pg_catalog.pg_roles p \
                 WHERE (p.rolsuper OR p.rolcreaterole OR p.rolreplication \
                        OR p.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')) \
                 AND (p.oid = r.oid OR pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER')))";
    let rows = texts(session, "list the roles with power", query).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// The settings that only a superuser may set, such as libraries to load into every session.
///
/// # Errors
/// [`Error::Sql`].
pub(super) async fn powerful_settings(session: &Session) -> Result<BTreeSet<String>> {
    let query = "SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE context <> 'user'";
    let rows = texts(session, "list the settings of superusers", query).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// The steward of a database: an existing role of its name, or one to be made.
///
/// # Errors
/// `Unsafe` when a role with power has the name; [`Error::Sql`].
pub(super) async fn of(session: &Session, database: &str) -> Result<Heir> {
    let role = with_suffix(database, "_owner");
    let query = format!("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = {}", quote::literal(&role));
    let is_new = session.text("look for the role that is to own the database", &query).await?.is_none();
    if !is_new && powerful_roles(session).await?.contains(&role) {
        return Err(Error::refused(
            format!("what is loaded cannot belong to the role `{role}`, which is a superuser or could become one"),
            "if you trust this dump with the whole machine, load it with `--trust`; else give the database an owner without such rights",
        ));
    }
    Ok(Heir { role, is_new })
}
