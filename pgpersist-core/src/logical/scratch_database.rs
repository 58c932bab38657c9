//! The database that a load fills before anybody sees it: `<name>_load_<id>`, its temporary role, and its way to the final name.
//!
//! Whoever loads has a session that is named after the load, from before the database exists, and holds another one in it
//! from the moment it is marked. A database without these sessions that is marked, or owned by a temporary role, is
//! therefore a leftover of a load that was killed, on whatever machine it ran, and the next load removes it.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::error::{Error, Result};
use crate::logical::database_state::texts;
use crate::logical::steward::Heir;
use crate::pg::database_name::with_suffix;
use crate::pg::quote;
use crate::pg::version::ServerVersion;
use crate::secret::Secret;
use crate::server::connection::{ConnectionOptions, Host};
use crate::server::session::Session;

/// How a scratch database says what it is, in its comment.
const MARK: &str = "pgpersist load";

/// The temporary role of a load, followed by the load's id.
const ROLE_PREFIX: &str = "pgpersist_load_";

/// For so long the temporary role can log in.
const LOGIN_MINUTES: u32 = 10;

/// A database being loaded.
#[derive(Debug)]
pub(super) struct ScratchDatabase {
    pub(super) name: String,
    /// The temporary role, and its password; nothing when the session's role may not create roles.
    pub(super) role: Option<(String, Secret<String>)>,
    /// A role that was made to own what is loaded, and goes with it until it has its name.
    made: Option<String>,
    /// The session whose presence says that somebody is at work here.
    guard: Option<Session>,
}

/// A session in a database that is none of those at hand: databases are created, renamed and dropped from there.
///
/// # Errors
/// [`Error::Sql`].
pub(super) async fn maintenance_session(connection: &ConnectionOptions, target: &str, deadline: Duration) -> Result<Session> {
    let mut last = None;
    for database in ["postgres", "template1"] {
        if database == target {
            continue;
        }
        match Session::connect(&connection.with_database(database), deadline).await {
            Err(Error::Sql { source, action }) if source.code() == Some(&SqlState::INVALID_CATALOG_NAME) => {
                last = Some(Error::Sql { source, action });
            }
            result => return result,
        }
    }
    Err(last.unwrap_or_else(|| Error::not_found("the server has neither `postgres` nor `template1`", "create the database `postgres`")))
}

impl ScratchDatabase {
    /// Creates it, empty, from `template0`.
    ///
    /// # Errors
    /// [`Error::Sql`], also when the locale does not exist on this machine.
    pub(super) async fn create(
        admin: &Session,
        connection: &ConnectionOptions,
        target: &str,
        options: &str,
        with_role: bool,
        version: ServerVersion,
        deadline: Duration,
    ) -> Result<Self> {
        let id = format!("{:08x}", rand::random::<u32>());
        let name = with_suffix(target, &format!("_load_{id}"));
        let mut scratch = Self { name, role: None, made: None, guard: None };
        match scratch.fill_in(admin, connection, &id, options, with_role, version, deadline).await {
            Ok(()) => Ok(scratch),
            Err(error) => {
                scratch.remove(admin).await;
                Err(error)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the body of `create`, apart from it only to clean up behind it")]
    async fn fill_in(
        &mut self,
        admin: &Session,
        connection: &ConnectionOptions,
        id: &str,
        options: &str,
        with_role: bool,
        version: ServerVersion,
        deadline: Duration,
    ) -> Result<()> {
        admin.execute("name the session that loads", &format!("SET application_name = {}", quote::literal(&session_name(id)))).await?;
        let mut owner = String::new();
        if with_role {
            let (role, password) = (format!("{ROLE_PREFIX}{id}"), format!("{:032x}", rand::random::<u128>()));
            let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
            let until = admin
                .text("ask the time", &format!("SELECT pg_catalog.now() + interval '{LOGIN_MINUTES} minutes'"))
                .await?
                .unwrap_or_default();
            let statement = format!(
                "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 3 PASSWORD {} VALID UNTIL {}",
                quote::identifier(&role),
                quote::literal(&verifier),
                quote::literal(&until)
            );
            admin.execute("create the role that loads", &statement).await?;
            owner = format!(" OWNER {}", quote::identifier(&role));
            self.role = Some((role, Secret::new(password)));
        }
        let (name, template) = (quote::identifier(&self.name), "TEMPLATE template0");
        admin.execute(&format!("create database `{}`", self.name), &format!("CREATE DATABASE {name}{owner} {template} {options}")).await?;
        let guard = Session::connect(&connection.with_database(&self.name), deadline).await?;
        let mark = format!(
            "COMMENT ON DATABASE {name} IS {}",
            quote::literal(&format!("{MARK} {id}, in progress: removed by the next load if it was killed"))
        );
        guard.execute("mark the new database", &mark).await?;
        if let Some((role, _)) = &self.role {
            let role = quote::identifier(role);
            let mut statements = String::new();
            for row in texts(&guard, "list the tablespaces", "SELECT spcname FROM pg_catalog.pg_tablespace WHERE oid >= 16384").await? {
                if let Some(Some(tablespace)) = row.first() {
                    statements += &format!("GRANT CREATE ON TABLESPACE {} TO {role};", quote::identifier(tablespace));
                }
            }
            // Since 15 the schema belongs to whoever owns the database.
            if version.major < 15 {
                statements += &format!("ALTER SCHEMA public OWNER TO {role};");
            }
            guard.execute("prepare the new database", &statements).await?;
        }
        self.guard = Some(guard);
        Ok(())
    }

    /// How the temporary role reaches the database, tried out: by the same way as the session, or by TCP where the socket
    /// lets in only roles named like users of the system.
    ///
    /// # Errors
    /// `Unsafe` when no way in is open to it.
    pub(super) async fn connection_of_role(&self, connection: &ConnectionOptions, deadline: Duration) -> Result<Option<ConnectionOptions>> {
        let Some((role, password)) = &self.role else { return Ok(None) };
        let direct =
            ConnectionOptions { user: role.clone(), database: self.name.clone(), password: Some(password.clone()), ..connection.clone() };
        let over_tcp = ConnectionOptions { host: Host::Tcp("127.0.0.1".to_owned()), ..direct.clone() };
        let ways = if matches!(connection.host, Host::Socket(_)) { vec![direct, over_tcp] } else { vec![direct] };
        for way in ways {
            if Session::connect(&way, deadline).await.is_ok() {
                return Ok(Some(way));
            }
        }
        Err(Error::refused(
            "a dump is loaded by a role that is no superuser, and pg_hba.conf does not let one in",
            "add `host all all 127.0.0.1/32 scram-sha-256` to pg_hba.conf and reload; or, if you trust this dump as much as a superuser, load it with `--trust`",
        ))
    }

    /// Whether anything in the database belongs to the temporary role: nothing does after a dump that gave everything away.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(super) async fn holds_anything(&self) -> Result<bool> {
        let (Some(guard), Some((role, _))) = (&self.guard, &self.role) else { return Ok(false) };
        // The schema `public` is there from the beginning, and runs no code.
        let query = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.oid = s.dbid \
             WHERE d.datname = pg_catalog.current_database() AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass \
             AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {}) AND s.deptype = 'o' \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE s.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
                             AND n.oid = s.objid AND n.nspname = 'public'))",
            quote::literal(role)
        );
        Ok(guard.text("look what the dump gave to nobody", &query).await?.as_deref() == Some("t"))
    }

    /// Gives what still belongs to the temporary role to its heir, and removes the role.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(super) async fn retire_role(&mut self, heir: &Heir, version: ServerVersion) -> Result<()> {
        let (Some(guard), Some((role, _))) = (&self.guard, &self.role) else { return Ok(()) };
        let (role, owner) = (quote::identifier(role), quote::identifier(&heir.role));
        // One transaction with all that follows.
        let mut statements = if heir.is_new { format!("CREATE ROLE {owner} NOLOGIN;") } else { String::new() };
        if version.major < 15 {
            // As initdb left it, unless the dump gave it to somebody.
            statements += "DO $$ BEGIN IF (SELECT pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = 'public') LIKE 'pgpersist\\_load\\_%' THEN EXECUTE pg_catalog.format('ALTER SCHEMA public OWNER TO %I', (SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10)); END IF; END $$;";
        }
        statements += &format!("REASSIGN OWNED BY {role} TO {owner}; DROP OWNED BY {role}; DROP ROLE {role};");
        guard.execute("hand the loaded database over", &statements).await?;
        self.role = None;
        self.made = heir.is_new.then(|| heir.role.clone());
        Ok(())
    }

    /// Says that this is no scratch database any more, which is part of the renaming.
    pub(super) fn unmark_statement(&self) -> String {
        format!("COMMENT ON DATABASE {} IS NULL", quote::identifier(&self.name))
    }

    /// Ends our own session in it: a database with sessions cannot be renamed.
    pub(super) fn release(&mut self) {
        self.guard = None;
    }

    /// Removes the database and the role. What cannot be removed now is removed by the next load.
    pub(super) async fn remove(mut self, admin: &Session) {
        self.guard = None;
        let role = self.role.take().map(|(role, _)| role);
        if let Err(error) = drop_scratch(admin, Some(&self.name), role.as_deref()).await {
            // The error that led here is the one to report; a leftover is marked and found again.
            drop(error);
        }
        if let Some(role) = self.made.take() {
            // Should it be left behind, it has no rights, and the next load takes it.
            let _ = admin.execute("drop the role that was to own the database", &format!("DROP ROLE {}", quote::identifier(&role))).await;
        }
    }
}

/// Removes what killed loads left behind: marked databases that nobody is in, and their roles. Returns the databases' names.
///
/// # Errors
/// [`Error::Sql`].
pub(super) async fn sweep(admin: &Session) -> Result<Vec<String>> {
    let query = format!(
        "SELECT d.datname, r.rolname FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_roles r ON r.oid = d.datdba AND r.rolname LIKE '{role}%' \
         WHERE (pg_catalog.shobj_description(d.oid, 'pg_database') LIKE '{MARK} %' OR r.oid IS NOT NULL) \
         AND d.datname ~ '_load_[0-9a-f]{{8}}$' AND pg_catalog.pg_has_role(d.datdba, 'MEMBER') \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid OR a.application_name = {session})",
        role = like_prefix(ROLE_PREFIX),
        session = session_name_of("d.datname")
    );
    let mut swept = Vec::new();
    for row in texts(admin, "look for leftovers of loads", &query).await? {
        if let [Some(database), role] = row.as_slice() {
            drop_scratch(admin, Some(database), role.as_deref()).await?;
            swept.push(database.clone());
        }
    }
    // A role without a database: the load was killed between the two.
    let query = format!(
        "SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname LIKE '{}%' \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.application_name = {}) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_shdepend s WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = r.oid)",
        like_prefix(ROLE_PREFIX),
        session_name_of("r.rolname")
    );
    for row in texts(admin, "look for leftovers of loads", &query).await? {
        if let Some(Some(role)) = row.first() {
            drop_scratch(admin, None, Some(role)).await?;
        }
    }
    Ok(swept)
}

async fn drop_scratch(admin: &Session, database: Option<&str>, role: Option<&str>) -> Result<()> {
    if let Some(database) = database {
        // Whatever is still connected is ours: psql that has just been killed.
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote::identifier(database));
        admin.execute(&format!("drop database `{database}`"), &statement).await?;
    }
    if let Some(role) = role {
        let role_name = quote::identifier(role);
        // Grants on tablespaces are shared by all databases, so they can be taken back from here.
        admin.execute("drop the role that loaded", &format!("DROP OWNED BY {role_name}; DROP ROLE {role_name}")).await?;
    }
    Ok(())
}

/// The sessions in a database, but for our own: `pid, user, application`.
///
/// # Errors
/// [`Error::Sql`].
pub(super) async fn sessions(admin: &Session, database: &str) -> Result<Vec<String>> {
    // The server ends autovacuum workers by itself when a database is renamed.
    let query = format!(
        "SELECT pg_catalog.concat_ws(' ', pid, usename, application_name) FROM pg_catalog.pg_stat_activity \
         WHERE datname = {} AND backend_type <> 'autovacuum worker' AND pid <> pg_catalog.pg_backend_pid() ORDER BY pid",
        quote::literal(database)
    );
    Ok(texts(admin, "look for sessions in the database", &query)
        .await?
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

/// As [`sessions`], but gives those that are about to end a moment to do so: a client's end is seen by the server a little
/// later, and our own look at the database was such a client.
///
/// # Errors
/// [`Error::Sql`].
pub(super) async fn lasting_sessions(admin: &Session, database: &str) -> Result<Vec<String>> {
    const LOOKS: u32 = 40;
    for _ in 0..LOOKS {
        if sessions(admin, database).await?.is_empty() {
            return Ok(Vec::new());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sessions(admin, database).await
}

/// What the session of a load is called.
fn session_name(id: &str) -> String {
    format!("pgpersist load {id}")
}

/// The same in SQL, for a name that ends in the load's id.
fn session_name_of(name: &str) -> String {
    format!("'pgpersist load ' || pg_catalog.right({name}::text, 8)")
}

fn like_prefix(prefix: &str) -> String {
    prefix.replace('_', "\\_")
}
