//! What stands under the name that a dump is to get: nothing, an empty database, or one that holds something.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::logical::database_state::DatabaseState;
use crate::pg::quote;
use crate::pg::version::ServerVersion;
use crate::server::connection::ConnectionOptions;
use crate::server::session::Session;

/// Every kind of thing that somebody can make in a database and that does not hang on another one of these: `pg_policy` and
/// `pg_trigger` need a table, `pg_user_mapping` needs a server. See *System Catalogs*, PostgreSQL 17.
const CATALOGS: [&str; 23] = [
    "pg_class",
    "pg_proc",
    "pg_type",
    "pg_extension",
    "pg_namespace",
    "pg_publication",
    "pg_collation",
    "pg_conversion",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_default_acl",
    "pg_event_trigger",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_language",
    "pg_cast",
    "pg_transform",
    "pg_operator",
    "pg_opclass",
    "pg_opfamily",
    "pg_am",
];

/// What stands under the target's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Absent,
    Empty(Box<DatabaseState>),
    Filled(Box<DatabaseState>),
}

/// Looks at the target.
///
/// # Errors
/// `Unsafe` when it is a template; [`Error::Sql`].
pub(super) async fn standing(
    admin: &Session,
    connection: &ConnectionOptions,
    target: &str,
    version: ServerVersion,
    deadline: Duration,
) -> Result<Standing> {
    let query = format!("SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = {}", quote::literal(target));
    let is_template = admin.text("look for the database", &query).await?;
    if is_template.as_deref() == Some("t") || ["template0", "template1"].contains(&target) {
        return Err(Error::refused(
            format!("database `{target}` is a template: what is in it is in every database that is made from now on"),
            "load into another database with `-d NAME`",
        ));
    }
    if is_template.is_none() {
        return Ok(Standing::Absent);
    }
    let session = Session::connect(&connection.with_database(target), deadline).await?;
    let anything = session.text("look into the database", &anything_query()).await?;
    let state = Box::new(DatabaseState::read(&session, version).await?);
    Ok(if anything.as_deref() == Some("t") { Standing::Filled(state) } else { Standing::Empty(state) })
}

fn anything_query() -> String {
    // Everything below 16384 is initdb's (`FirstNormalObjectId`). Schemas of temporary tables come and go by themselves.
    let made = CATALOGS.iter().map(|catalog| {
        let but = if *catalog == "pg_namespace" { " AND nspname !~ '^pg_(toast_)?temp_'" } else { "" };
        format!("EXISTS (SELECT FROM pg_catalog.{catalog} WHERE oid >= 16384{but})")
    });
    let others = [
        "EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)",
        "EXISTS (SELECT FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid \
         WHERE d.datname = pg_catalog.current_database())",
    ];
    format!("SELECT {}", made.chain(others.map(str::to_owned)).collect::<Vec<_>>().join(" OR "))
}
