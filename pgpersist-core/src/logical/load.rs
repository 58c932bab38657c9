//! A dump → a new database beside the old one → compared → renamed: all or nothing.
//!
//! The target is untouched until one short transaction gives the new database its name. Until then everything happens in
//! `<database>_load_<id>`, which is dropped on any error, and by the next load when this one is killed.
//!
//! # Who runs the dump's SQL
//! A dump is a program. Run by a superuser it could do to the whole cluster, and through `COPY … TO PROGRAM` to the
//! machine, whatever it likes. `SET ROLE` is no protection, since SQL can undo it. So psql logs in as a temporary role that
//! is no superuser, owns the new database and is a member of nothing; what only a superuser may do to give things away
//! (`ALTER … OWNER TO`, `GRANT`) is taken out of the script and run at the end by one, as those statements run no code of
//! the dump (`ownership.rs`). What else needs a superuser (extensions that are not trusted, functions in C, event triggers) fails, and needs
//! [`Trust::Superuser`]. Either way psql runs under `\restrict`, so meta-commands fail.
//!
//! Unless the dump is our own, nothing of it ends up with a superuser either (`steward.rs`). What a dump's functions do
//! later, when a superuser uses the database himself, is not limited by this.
//!
//! When the configured role is no superuser it loads by itself: it cannot do more harm than it may.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use time::macros::format_description;
use tokio_postgres::error::SqlState;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result, Said};
use crate::logical::database_state::{DatabaseState, texts};
use crate::logical::load_options::{DumpSource, Existing, Expected, LoadOptions, LoadReport, LoadedOwners, OtherSessions, Trust};
use crate::logical::load_script::{self, Fed, Owners, Passed, Rules};
use crate::logical::scratch_database::{ScratchDatabase, lasting_sessions, maintenance_session, sessions, sweep};
use crate::logical::standing::{Standing, standing};
use crate::logical::steward::{self, Heir};
use crate::pg::database_name;
use crate::pg::database_name::with_suffix;
use crate::pg::quote;
use crate::pg::version::ServerVersion;
use crate::progress::{Event, ProgressSink};
use crate::server::connection::ConnectionOptions;
use crate::server::program::{Program, check};
use crate::server::session::Session;
use crate::workers;

/// Loads a dump into a database, all or nothing.
///
/// # Errors
/// The target is as it was before, whatever happens. `Conflict`: it holds something, or others are connected to it. `Unsafe`:
/// it is a template. `Invalid`: the input is no dump of one database, or its SQL fails. `Damaged`: it is cut off, or is not what its side file
/// says. `NotFound`: it needs roles that are not here. `Unsafe`: no role but a superuser can log in. `Denied`: it does what
/// only a superuser may. `Unavailable`: the server is not there.
pub fn load<'a>(
    options: &'a LoadOptions,
    source: DumpSource,
    clock: &'a Arc<dyn Clock>,
    progress: &'a Arc<dyn ProgressSink>,
) -> BoxFuture<'a, Result<LoadReport>> {
    Box::pin(async move {
        let begin = Instant::now();
        if let Err(error) = database_name::check(&options.database) {
            return Err(Error::invalid(
                format!("`{}` is no name of a database: {error}", options.database),
                "choose another with `-d NAME`",
            ));
        }
        let psql_version = Program::version(&options.psql).await?;
        if !psql_version.psql_knows_restrict() {
            return Err(Error::invalid(
                format!("{} is version {psql_version}, which cannot keep a dump from running commands", options.psql.display()),
                "update PostgreSQL's client programs: 14.19, 15.14, 16.10, 17.6, 18 and later can",
            ));
        }
        let admin = maintenance_session(&options.connection, &options.database, options.connect).await?;
        let removed = sweep(&admin).await?;
        let mut plan = Plan::make(options, &admin, &source.name, source.expected.as_ref()).await?;
        let mut scratch = ScratchDatabase::create(
            &admin,
            &options.connection,
            &options.database,
            &plan.creation_options(options),
            plan.is_superuser,
            plan.version,
            options.connect,
        )
        .await
        .map_err(|error| explain_locale(error, &plan))?;
        progress.event(Event::Step(format!("loading {} into {}", source.name, options.database)));
        let name = source.name.clone();
        let filled = tokio::time::timeout(options.timeout, fill(options, &plan, &admin, &mut scratch, source)).await;
        let passed = match filled {
            Ok(Ok((passed, heir))) => {
                plan.handed_over(&passed, heir);
                passed
            }
            Ok(Err(error)) => {
                scratch.remove(&admin).await;
                return Err(error);
            }
            Err(_) => {
                scratch.remove(&admin).await;
                return Err(Error::Deadline {
                    what: format!("{name} was not loaded"),
                    after: options.timeout,
                    remedy: Some(
                        "see what the server waits for (`pgpersist health`), and load again; nothing was left half-done".to_owned(),
                    ),
                });
            }
        };
        progress.event(Event::Step(format!("renaming to {}", options.database)));
        let mut warnings = std::mem::take(&mut plan.warnings);
        match publish(options, &plan, &admin, &mut scratch, clock, &mut warnings).await {
            Ok(kept_aside) => Ok(LoadReport {
                name,
                database: options.database.clone(),
                duration_s: begin.elapsed().as_secs_f64(),
                verified: plan.expected.as_ref().is_some_and(|expected| expected.tables.is_some()).then_some(true),
                tables: passed.scanned.tables,
                kept_aside,
                removed,
                warnings,
            }),
            Err(error) => {
                scratch.remove(&admin).await;
                Err(error)
            }
        }
    })
}

/// What is known before anything is created.
#[derive(Debug)]
struct Plan {
    version: ServerVersion,
    is_superuser: bool,
    roles: BTreeSet<String>,
    /// The roles that get nothing of this dump, unless it is trusted.
    withheld_from: Option<BTreeSet<String>>,
    /// Who the database is to belong to, and all in it that the dump gives to nobody else.
    owner: String,
    /// What the database is to be: by the side file, or as the empty one that it replaces.
    state: Option<DatabaseState>,
    expected: Option<Expected>,
    warnings: Vec<String>,
}

impl Plan {
    async fn make(options: &LoadOptions, admin: &Session, name: &str, expected: Option<&Expected>) -> Result<Self> {
        let version = admin.version().await?;
        let is_superuser = admin
            .text("ask for the role's rights", "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
            .await?
            .as_deref()
            == Some("t");
        let rows = texts(admin, "list the roles", "SELECT rolname FROM pg_catalog.pg_roles").await?;
        let roles: BTreeSet<_> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        let standing = standing(admin, &options.connection, &options.database, version, options.connect).await?;
        let database = &options.database;
        let mut state = expected.and_then(|expected| expected.state.clone());
        let exists = standing != Standing::Absent;
        match standing {
            Standing::Absent => {}
            Standing::Empty(standing) => state = state.or(Some(*standing)),
            Standing::Filled(standing) if options.existing == Existing::KeepAside => state = state.or(Some(*standing)),
            Standing::Filled(_) => {
                return Err(Error::conflict(
                    format!("database `{database}` is not empty"),
                    format!(
                        "load into another (`-d NAME`), or replace it with `--clean --yes`, which keeps the old one as `{database}_before_…`"
                    ),
                ));
            }
        }
        if exists && options.other_sessions == OtherSessions::Refuse {
            let sessions = lasting_sessions(admin, database).await?;
            if !sessions.is_empty() {
                return Err(Error::conflict(
                    format!("database `{database}` has sessions, so it cannot be replaced: {}", sessions.join("; ")),
                    "stop the programs that use it, or end their sessions with `--disconnect`",
                ));
            }
        }
        let mut warnings = Vec::new();
        if let Some(state) = &mut state {
            settle_roles(options, name, state, &roles, &mut warnings)?;
        }
        let is_trusted = match options.trust {
            Trust::Nobody => false,
            Trust::OwnDump => expected.is_some(),
            Trust::Superuser => true,
        };
        let withheld_from = if is_superuser && !is_trusted {
            if let Some(state) = &mut state {
                settle_settings(state, &steward::powerful_settings(admin).await?, &mut warnings);
            }
            Some(steward::powerful_roles(admin).await?)
        } else {
            None
        };
        let owner = state.as_ref().map_or_else(|| options.connection.user.clone(), |state| state.owner.clone());
        Ok(Self { version, is_superuser, roles, withheld_from, owner, state, expected: expected.cloned(), warnings })
    }

    fn creation_options(&self, options: &LoadOptions) -> String {
        match &self.state {
            Some(state) if options.accept_locale => format!("ENCODING {}", quote::literal(&state.encoding)),
            Some(state) => state.creation_options(self.version),
            None => "ENCODING 'UTF8'".to_owned(),
        }
    }

    fn rules(&self, options: &LoadOptions) -> Rules {
        let owners = match (options.owners, options.trust, self.is_superuser) {
            (LoadedOwners::DatabaseOwner, ..) => Owners::Never,
            (_, Trust::Nobody | Trust::OwnDump, true) => Owners::Later,
            _ => Owners::InPlace,
        };
        Rules { owners, roles: self.roles.clone(), withheld_from: self.withheld_from.clone(), expected: self.expected.clone() }
    }

    /// Who gets what the dump gave to nobody, or what it gave to roles that get nothing of it.
    async fn heir(&self, options: &LoadOptions, admin: &Session, scratch: &ScratchDatabase) -> Result<Heir> {
        let is_powerful = self.withheld_from.as_ref().is_some_and(|roles| roles.contains(&self.owner));
        if is_powerful && scratch.holds_anything().await? {
            steward::of(admin, &options.database).await
        } else {
            Ok(Heir::existing(&self.owner))
        }
    }

    /// The heir owns the database, too; and whoever reads the dump's text must know where it was not followed.
    fn handed_over(&mut self, passed: &Passed, heir: Heir) {
        let withheld = passed.withheld.iter().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(", ");
        let is_steward = heir.role != self.owner;
        if is_steward || !withheld.is_empty() {
            let whose = if withheld.is_empty() {
                "what would belong to a superuser".to_owned()
            } else {
                format!("what the dump gives to {withheld}")
            };
            let who = if is_steward { ", a role that cannot log in and has no rights" } else { "" };
            self.warnings.push(format!(
                "{whose} belongs to `{}`{who}: nothing proves that this dump is this cluster's own; `--trust` loads it as it is",
                heir.role
            ));
        }
        if let Some(state) = &mut self.state {
            state.owner.clone_from(&heir.role);
        }
        self.owner = heir.role;
    }
}

/// Settings of the database that only a superuser may make are none that a stranger's side file decides about.
fn settle_settings(state: &mut DatabaseState, powerful: &BTreeSet<String>, warnings: &mut Vec<String>) {
    let is_powerful = |name: &str| powerful.contains(&name.to_ascii_lowercase());
    let left_out: BTreeSet<_> = state.settings.iter().map(|setting| setting.name.clone()).filter(|name| is_powerful(name)).collect();
    if !left_out.is_empty() {
        state.settings.retain(|setting| !is_powerful(&setting.name));
        let left_out = left_out.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        warnings.push(format!("left out settings of the database that only a superuser may make: {left_out}; `--trust` makes them"));
    }
}

/// Missing roles are told before anything is loaded, or left out where the user said so.
fn settle_roles(
    options: &LoadOptions,
    name: &str,
    state: &mut DatabaseState,
    roles: &BTreeSet<String>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let missing: Vec<_> = state.roles().into_iter().filter(|role| !roles.contains(*role)).map(|role| format!("`{role}`")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    if options.owners == LoadedOwners::AsDumped {
        return Err(Error::not_found(
            format!("{name} needs roles that this server does not have: {missing}"),
            "load the roles first (`gunzip -c globals_….sql.gz | psql`), create them, or load with `--no-owner`",
        ));
    }
    warnings.push(format!("left out what concerns roles that this server does not have: {missing}"));
    if !roles.contains(&state.owner) {
        state.owner.clone_from(&options.connection.user);
    }
    let known = |role: &Option<String>| role.as_ref().is_none_or(|role| roles.contains(role));
    state.settings.retain(|setting| known(&setting.role));
    if let Some(grants) = &mut state.grants {
        grants.retain(|grant| known(&grant.role));
    }
    Ok(())
}

fn explain_locale(error: Error, plan: &Plan) -> Error {
    let Error::Sql { action, source } = error else { return error };
    let is_locale = source.as_db_error().is_some_and(|said| {
        said.message().contains("locale") || said.message().contains("collation") || said.message().contains("encoding")
    });
    let Some(state) = plan.state.as_ref().filter(|_| is_locale) else { return Error::Sql { action, source } };
    Error::Conflict {
        what: format!(
            "this server cannot make a database with encoding {}, collation `{}`, character type `{}`: {}",
            state.encoding,
            state.collate,
            state.ctype,
            source.as_db_error().map_or("", |said| said.message())
        ),
        remedy: Some("install that locale, or load into this server's own with `--accept-locale`".to_owned()),
    }
}

/// Runs the dump in the new database, compares, and hands it over.
async fn fill(
    options: &LoadOptions,
    plan: &Plan,
    admin: &Session,
    scratch: &mut ScratchDatabase,
    source: DumpSource,
) -> Result<(Passed, Heir)> {
    let connection = options.connection.with_database(&scratch.name);
    let runs_as = match options.trust {
        Trust::Nobody | Trust::OwnDump => scratch.connection_of_role(&options.connection, options.connect).await?,
        Trust::Superuser => None,
    };
    let untrusted = runs_as.is_some();
    let name = source.name.clone();
    let rules = plan.rules(options);
    let (passed, tags) = run_psql(options, &runs_as.unwrap_or_else(|| connection.clone()), untrusted, &name, move |stdin| {
        load_script::feed(&source.name, source.bytes, &source.opening, &rules, stdin)
    })
    .await?;
    compare(&name, &passed, &tags, plan.expected.as_ref())?;
    if !passed.ownership.is_empty() {
        let script = [
            format!("\\restrict {}\nSELECT pg_catalog.set_config('search_path', '', false);\n", load_script::restrict_key()).as_bytes(),
            &passed.ownership,
        ]
        .concat();
        run_psql(options, &connection, false, &name, move |mut stdin| {
            use std::io::Write;
            match stdin.write_all(&script) {
                Ok(()) => Ok(Fed::Whole(Passed::nothing())),
                Err(_) => Ok(Fed::Refused),
            }
        })
        .await?;
    }
    let heir = plan.heir(options, admin, scratch).await?;
    scratch.retire_role(&heir, plan.version).await?;
    Ok((passed, heir))
}

/// Runs psql over what `feed` writes, and returns that with the numbers of its `COPY` answers.
async fn run_psql<F>(
    options: &LoadOptions,
    connection: &ConnectionOptions,
    untrusted: bool,
    name: &str,
    feed: F,
) -> Result<(Passed, Vec<u64>)>
where
    F: FnOnce(std::fs::File) -> Result<Fed> + Send + 'static,
{
    // The new database is nobody's until it has its name, and the renaming waits for the disk: the commits before need not.
    let settings = "-c synchronous_commit=off -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
                    -c default_transaction_read_only=off -c client_min_messages=warning";
    let (mut running, stdin, stdout) = Program::new(&options.psql)
        .arg("--no-psqlrc")
        .arg("--no-password")
        .arg("--no-align")
        .arg("--tuples-only")
        .arg("--set=ON_ERROR_STOP=1")
        .arg("--file=-")
        .connected_to(connection)
        .env("PGOPTIONS", settings)
        .spawn_filter()?;
    let answers =
        tokio::spawn(workers::run(move || load_script::copy_tags(stdout).map_err(|e| Error::file("read", "the answers of psql", e))));
    let fed = workers::run(move || feed(stdin)).await;
    let fed = match fed {
        Ok(fed) => fed,
        Err(error) => {
            running.kill().await;
            return Err(error);
        }
    };
    let (status, said) = running.end().await?;
    check("psql", status, &said).map_err(|error| explain(error, name, untrusted))?;
    let tags = answers.await.map_err(|error| Error::Bug(format!("reading psql failed: {error}")))??;
    match fed {
        Fed::Whole(passed) => Ok((passed, tags)),
        Fed::Refused => Err(Error::Bug("psql stopped reading and reported success".to_owned())),
    }
}

/// What psql's words mean for the one who loads.
fn explain(error: Error, name: &str, untrusted: bool) -> Error {
    let Error::Program { program, status, said: Said(said), .. } = error else { return error };
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let (kind, remedy) = if any(&["backslash commands are restricted"]) {
        (ErrorKind::Invalid, format!("{name} holds a psql command, which a dump never has: do not load it"))
    } else if any(&[
        "permission denied",
        "must be superuser",
        "must be owner",
        "must be member",
        "must be able to SET ROLE",
        "Only roles with",
    ]) {
        let remedy = if untrusted {
            "it needs a superuser: if you trust this dump with the whole machine, load it with `--trust`"
        } else {
            "load it as a superuser (PGUSER), or with `--no-owner`"
        };
        (ErrorKind::Denied, remedy.to_owned())
    } else if any(&["role \""]) && any(&["does not exist"]) {
        let remedy = "load the roles first (`gunzip -c globals_….sql.gz | psql`), create them, or load with `--no-owner`";
        (ErrorKind::NotFound, remedy.to_owned())
    } else if any(&["is not available", "extension control file"]) {
        (ErrorKind::NotFound, "install that extension for this server".to_owned())
    } else if any(&[
        "No space left on device",
        // What a write that a full disk cut short is told with.
        "Check free disk space",
        "server closed the connection",
        "terminating connection",
        "could not connect",
        "Connection refused",
    ]) {
        (ErrorKind::Unavailable, "look at the server (`pgpersist status`), and load again; nothing was left half-done".to_owned())
    } else {
        (ErrorKind::Invalid, "the dump's SQL does not run here; the target was not touched".to_owned())
    };
    Error::Program { program: format!("loading {name}: {program}"), status, said: Said(said), kind, remedy: Some(remedy) }
}

fn compare(name: &str, passed: &Passed, tags: &[u64], expected: Option<&Expected>) -> Result<()> {
    let remedy = "choose another dump: see `pgpersist list`";
    // Only what pg_dump wrote has no other COPY than those with rows in the script.
    if passed.scanned.has_header && tags != passed.scanned.copies {
        let (loaded, held): (u64, u64) = (tags.iter().sum(), passed.scanned.copies.iter().sum());
        return Err(Error::damaged(format!("psql loaded {loaded} rows of the {held} in {name}"), "load it again"));
    }
    let Some(expected) = expected.and_then(|expected| expected.tables.as_ref()) else { return Ok(()) };
    if &passed.scanned.tables != expected {
        let differs = expected.iter().find(|(table, rows)| passed.scanned.tables.get(*table) != Some(rows));
        let example = differs.map_or_else(String::new, |(table, rows)| {
            format!(": {table} has {} rows of {rows}", passed.scanned.tables.get(table).copied().unwrap_or_default())
        });
        return Err(Error::damaged(format!("{name} does not hold the rows that its side file says{example}"), remedy));
    }
    Ok(())
}

/// The moment of truth: one transaction gives the new database everything that is the target's, its name last.
async fn publish(
    options: &LoadOptions,
    plan: &Plan,
    admin: &Session,
    scratch: &mut ScratchDatabase,
    clock: &Arc<dyn Clock>,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let database = &options.database;
    let now = standing(admin, &options.connection, database, plan.version, options.connect).await?;
    if matches!(now, Standing::Filled(_)) && options.existing == Existing::Refuse {
        return Err(Error::conflict(
            format!("database `{database}` was filled while the dump was loaded"),
            "load again with `--clean --yes`",
        ));
    }
    let stamp = clock
        .now()
        .format(format_description!("[year][month][day]_[hour][minute][second]"))
        .map_err(|e| Error::Bug(format!("a time cannot be written: {e}")))?;
    let aside = match &now {
        Standing::Absent => None,
        Standing::Empty(_) | Standing::Filled(_) => Some(free_name(admin, &with_suffix(database, &format!("_before_{stamp}"))).await?),
    };
    let mut statements = vec!["SET LOCAL synchronous_commit = on".to_owned()];
    if let Some(aside) = &aside {
        statements.push(format!("ALTER DATABASE {} RENAME TO {}", quote::identifier(database), quote::identifier(aside)));
    }
    statements.push(scratch.unmark_statement());
    statements.push(format!("ALTER DATABASE {} RENAME TO {}", quote::identifier(&scratch.name), quote::identifier(database)));
    match &plan.state {
        Some(state) => statements.extend(state.finishing_statements(database)),
        None => {
            statements.push(format!("ALTER DATABASE {} OWNER TO {}", quote::identifier(database), quote::identifier(&plan.owner)));
        }
    }
    scratch.release();
    rename(options, admin, &statements.join(";\n")).await?;
    match (aside, now) {
        (Some(aside), Standing::Empty(_)) => Ok(drop_if_empty(options, plan, admin, aside, warnings).await),
        (aside, _) => Ok(aside),
    }
}

/// Drops the database that was empty before it lost its name, unless somebody filled it in the meantime: under its new name
/// nobody does any more. Returns its name where it stays; should the dropping fail, it is only in the way.
async fn drop_if_empty(options: &LoadOptions, plan: &Plan, admin: &Session, aside: String, warnings: &mut Vec<String>) -> Option<String> {
    match standing(admin, &options.connection, &aside, plan.version, options.connect).await {
        Ok(Standing::Empty(_)) => {
            let statement = format!("DROP DATABASE {}", quote::identifier(&aside));
            admin.execute("drop the empty database", &statement).await.is_err().then_some(aside)
        }
        Ok(Standing::Absent) => None,
        Ok(Standing::Filled(_)) => {
            warnings.push(format!("database `{}` was filled while the dump was loaded: it is kept as `{aside}`", options.database));
            Some(aside)
        }
        Err(_) => Some(aside),
    }
}

async fn rename(options: &LoadOptions, admin: &Session, statements: &str) -> Result<()> {
    // The server itself waits 5 s for sessions that are about to end. New ones may come as long as others are ended, so a
    // few tries are needed; each is all or nothing.
    const TRIES: u32 = 5;
    let mut tries = 0;
    loop {
        if options.other_sessions == OtherSessions::Disconnect {
            let ask = format!(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = {} AND pid <> pg_catalog.pg_backend_pid()",
                quote::literal(&options.database)
            );
            texts(admin, "end the sessions in the database", &ask).await?;
        }
        let done = admin.client().batch_execute(&format!("BEGIN;\n{statements};\nCOMMIT")).await;
        let Err(error) = done else { return Ok(()) };
        // A transaction that failed must be ended before the session can do anything else.
        admin.execute("go back", "ROLLBACK").await?;
        tries += 1;
        if error.code() != Some(&SqlState::OBJECT_IN_USE) {
            return Err(Error::sql(format!("rename the loaded database to `{}`", options.database), error));
        }
        if options.other_sessions == OtherSessions::Refuse || tries == TRIES {
            let sessions = sessions(admin, &options.database).await?;
            return Err(Error::conflict(
                format!("database `{}` has sessions, so it cannot be replaced: {}", options.database, sessions.join("; ")),
                "stop the programs that use it, or end their sessions with `--disconnect`, and load again",
            ));
        }
    }
}

/// The name, or one beside it: two loads can fall into one second.
async fn free_name(admin: &Session, name: &str) -> Result<String> {
    for number in 1..100 {
        let candidate = if number == 1 { name.to_owned() } else { with_suffix(name, &format!("_{number}")) };
        let query = format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", quote::literal(&candidate));
        if admin.text("look for a free name", &query).await?.is_none() {
            return Ok(candidate);
        }
    }
    Err(Error::conflict(format!("all names like `{name}` are taken"), "drop the databases that are not needed any more"))
}
