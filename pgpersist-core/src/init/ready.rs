//! Carrying out what the plan says: under the claim, published last, repeatable after a kill at any moment.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, SystemClock};
use crate::data_directory::identity::IdentityCard;
use crate::data_directory::state::{ClusterFiles, State};
use crate::data_directory::{placement, staging};
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::boot;
use crate::init::plan::{InitPlan, InitWishes, Knowledge};
use crate::pg::quote;
use crate::progress::{Event, ProgressSink};
use crate::server::cluster::Cluster;
use crate::server::create::{self, CreateOptions};
use crate::server::installation::PostgresInstallation;
use crate::server::os_user::OsUser;
use crate::server::session::Session;
use crate::server::settings::Settings;
use crate::server::spawn::run_as;
use crate::workers;

/// How `init` is to go about it.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The cluster's name in the stores.
    pub cluster_name: String,
    /// Databases that are to exist afterwards.
    pub databases: Vec<String>,
    /// The superuser of a new cluster.
    pub superuser: String,
    /// What the caller wants.
    pub wishes: InitWishes,
}

/// What `init` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitReport {
    /// `adopted`, `created` or `restored`.
    pub action: &'static str,
    /// The data directory.
    pub data_directory: std::path::PathBuf,
    /// The cluster's system identifier, as text.
    pub system_identifier: String,
    /// The version of the programs that serve it.
    pub version: String,
    /// Databases that were missing and were created.
    pub databases_created: Vec<String>,
}

/// Decides what `init` would do, and touches nothing.
///
/// # Errors
/// As [`InitPlan::decide`].
pub async fn plan(cluster: &Cluster, knowledge: &Knowledge, wishes: InitWishes) -> Result<InitPlan> {
    let state = cluster.directory().state().await?;
    let placement = cluster.directory().placement().await?;
    InitPlan::decide(cluster.path(), &state, &placement, knowledge, wishes)
}

/// Makes the data directory ready. Repeatable; a run that was killed is finished or undone by the next one.
///
/// # Errors
/// As [`InitPlan::decide`]; `Conflict` when another pgpersist works on the directory; `Unavailable` when the disk is full.
pub async fn make_ready(
    cluster: &Cluster,
    store_knowledge: Knowledge,
    options: &InitOptions,
    progress: &dyn ProgressSink,
) -> Result<InitReport> {
    // What needs no claim is refused before anything, even a lock file, is made.
    let first = cluster.directory().state().await?;
    if let State::Foreign { .. } | State::Damaged { .. } = first {
        first.into_cluster(cluster.path())?;
        return Err(Error::Bug("a foreign or damaged directory passed for a cluster".into()));
    }
    let placement = cluster.directory().placement().await?;
    if !matches!(first, State::HalfMade { .. }) {
        let knowledge = with_card(cluster, store_knowledge.clone()).await?;
        InitPlan::decide(cluster.path(), &first, &placement, &knowledge, options.wishes)?;
    }
    let claim = cluster.directory().claim().await?;
    let state = cluster.directory().prepare(&claim).await?;
    let knowledge = with_card(cluster, store_knowledge).await?;
    let plan = InitPlan::decide(cluster.path(), &state, &placement, &knowledge, options.wishes)?;
    let report = match plan {
        InitPlan::Adopt { .. } => adopt(cluster, state, options, &knowledge, progress).await?,
        InitPlan::Create => create(cluster, options, progress).await?,
        InitPlan::Restore { .. } => return Err(Error::Bug("restoring is not part of this step".into())),
    };
    let own = cluster.directory().own_folder().clone();
    workers::run(move || placement::sentinel(own.path(), &boot::boot_id()?, SystemClock.now())).await?;
    Ok(report)
}

async fn with_card(cluster: &Cluster, knowledge: Knowledge) -> Result<Knowledge> {
    let own = cluster.directory().own_folder().clone();
    let card = workers::run(move || IdentityCard::read(&own)).await?;
    Ok(Knowledge { card, ..knowledge })
}

async fn adopt(
    cluster: &Cluster,
    state: State,
    options: &InitOptions,
    knowledge: &Knowledge,
    progress: &dyn ProgressSink,
) -> Result<InitReport> {
    let files = state.into_cluster(cluster.path())?;
    let installation = cluster.installation().await?;
    let (settings, path) = (cluster.settings(), cluster.path().to_owned());
    workers::run(move || settings.install(&path)).await?;
    let known = knowledge.card.as_ref().map(|card| card.databases.clone()).unwrap_or_default();
    let unknown: Vec<String> = options.databases.iter().filter(|name| !known.contains(name)).cloned().collect();
    let created = if unknown.is_empty() {
        Vec::new()
    } else if cluster.presence().await?.running().is_some() {
        create_by_session(cluster, &unknown).await?
    } else {
        progress.event(Event::Step(format!("looking for the databases {}", unknown.join(", "))));
        let (installation, path, os_user) = (installation.clone(), cluster.path().to_owned(), cluster.options().os_user.clone());
        workers::run(move || create_by_single_user(&installation, &path, os_user.as_ref(), &unknown)).await?
    };
    write_card(cluster, &files, options).await?;
    Ok(InitReport {
        action: "adopted",
        data_directory: cluster.path().to_owned(),
        system_identifier: files.control.system_identifier.to_string(),
        version: installation.version().to_string(),
        databases_created: created,
    })
}

async fn create(cluster: &Cluster, options: &InitOptions, progress: &dyn ProgressSink) -> Result<InitReport> {
    let search = cluster.search().clone();
    let installation = workers::run(move || search.for_new_cluster()).await?;
    progress.event(Event::Step(format!("creating a PostgreSQL {} cluster in {}", installation.version(), cluster.path().display())));
    let (own, path, settings) = (cluster.directory().own_folder().clone(), cluster.path().to_owned(), cluster.settings());
    let (superuser, databases, programs) = (options.superuser.clone(), options.databases.clone(), installation.clone());
    let os_user = cluster.options().os_user.clone();
    let created = workers::run(move || {
        staging::begin(&own)?;
        make_in(&programs, &own.staging(), &settings, superuser, os_user, &databases)
            .and_then(|created| staging::publish(&path, &own, "init").map(|()| created))
            .inspect_err(|_| {
                // The error is what matters; what cannot be removed now, the next run removes.
                let _ = staging::recover(&path, &own);
            })
    })
    .await?;
    let files = cluster.directory().state().await?.into_cluster(cluster.path())?;
    write_card(cluster, &files, options).await?;
    Ok(InitReport {
        action: "created",
        data_directory: cluster.path().to_owned(),
        system_identifier: files.control.system_identifier.to_string(),
        version: installation.version().to_string(),
        databases_created: created,
    })
}

fn make_in(
    installation: &PostgresInstallation,
    staging: &Path,
    settings: &Settings,
    superuser: String,
    os_user: Option<OsUser>,
    databases: &[String],
) -> Result<Vec<String>> {
    create::create(installation, staging, &CreateOptions { os_user: os_user.clone(), ..CreateOptions::durable(superuser) })?;
    settings.install(staging)?;
    create_by_single_user(installation, staging, os_user.as_ref(), databases)
}

async fn write_card(cluster: &Cluster, files: &ClusterFiles, options: &InitOptions) -> Result<()> {
    let card = IdentityCard {
        format: 1,
        cluster: options.cluster_name.clone(),
        system_identifier: files.control.system_identifier,
        major: files.major,
        databases: options.databases.clone(),
    };
    let own = cluster.directory().own_folder().clone();
    workers::run(move || if IdentityCard::read(&own)?.as_ref() == Some(&card) { Ok(()) } else { card.write(&own) }).await
}

async fn create_by_session(cluster: &Cluster, databases: &[String]) -> Result<Vec<String>> {
    let session = Session::connect(&cluster.connection("postgres").await?, Duration::from_secs(30)).await?;
    let mut created = Vec::new();
    for name in databases {
        if session.create_database(name).await? {
            created.push(name.clone());
        }
    }
    Ok(created)
}

/// Creates the missing databases of a cluster without a server, in PostgreSQL's single-user mode: no port, no socket, no
/// log-in, and a checkpoint at the end. Blocking.
fn create_by_single_user(
    installation: &PostgresInstallation,
    directory: &Path,
    os_user: Option<&OsUser>,
    databases: &[String],
) -> Result<Vec<String>> {
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let listing = single_user(
        installation,
        directory,
        os_user,
        "COPY (SELECT 'database:' || encode(convert_to(datname, 'UTF8'), 'hex') FROM pg_catalog.pg_database) TO STDOUT;\n\n",
    )?;
    let existing: Vec<&str> = listing.lines().filter_map(|line| line.trim().strip_prefix("database:")).collect();
    let missing: Vec<&String> = databases.iter().filter(|name| !existing.contains(&hex(name).as_str())).collect();
    let mut statements = String::new();
    for name in &missing {
        // In this mode a statement ends at a semicolon and an empty line, wherever they stand.
        if name.contains(";\n\n") || name.contains('\0') || name.is_empty() {
            return Err(Error::invalid(
                format!("`{}` cannot be the name of a database", name.escape_debug()),
                "choose another name in `[cluster] databases`",
            ));
        }
        statements.push_str(&format!("CREATE DATABASE {};\n\n", quote::identifier(name)));
    }
    if !statements.is_empty() {
        single_user(installation, directory, os_user, &statements)?;
    }
    Ok(missing.into_iter().cloned().collect())
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn single_user(installation: &PostgresInstallation, directory: &Path, os_user: Option<&OsUser>, statements: &str) -> Result<String> {
    let program = installation.program("postgres")?;
    let mut command = Command::new(&program);
    run_as(&mut command, os_user);
    let mut child = command
        .args(["--single", "-j", "-c", "exit_on_error=on", "-c", "log_destination=stderr", "-c", "logging_collector=off", "-D"])
        .arg(directory)
        .arg("template1")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::file("run", &program, e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that died early is told by its exit status, not by the broken pipe.
        let _ = stdin.write_all(statements.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| Error::file("wait for", &program, e))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let full = said.contains("No space left on device");
    Err(Error::Program {
        program: "postgres --single".to_owned(),
        status: output.status.to_string(),
        said: Said(said.trim().to_owned()),
        kind: if full { ErrorKind::Unavailable } else { ErrorKind::Invalid },
        remedy: None,
    })
}
