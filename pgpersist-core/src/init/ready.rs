//! Carrying out what the plan says: under the claim, published last, repeatable after a kill at any moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::clock::{Clock, SystemClock};
use crate::data_directory::Claim;
use crate::data_directory::identity::IdentityCard;
use crate::data_directory::local::LocalDataDirectory;
use crate::data_directory::placement::{self, Placement};
use crate::data_directory::staging;
use crate::data_directory::state::{ClusterFiles, State};
use crate::error::{Error, Result};
use crate::fs::boot;
use crate::fs::os_user;
use crate::init::known::{self, Knowledge, KnownPlace};
use crate::init::outside;
use crate::init::plan::{InitPlan, InitWishes, WhenMissing};
use crate::init::restore::restore;
use crate::init::vacancy;
use crate::logical::cluster_card::ClusterCard;
use crate::logical::shelf::Shelf;
use crate::migrate::debian::{ETC_ROOT, carry_configuration};
use crate::progress::{Event, ProgressSink};
use crate::repo::live_intent::LiveIntent;
use crate::repo::names::RunName;
use crate::restore::physical::{self, RestoreOptions};
use crate::server::cluster::Cluster;
use crate::server::create::{self, CreateOptions};
use crate::server::installation::PostgresInstallation;
use crate::server::lock::ServerLock;
use crate::server::orphans;
use crate::server::same_cluster;
use crate::server::session::Session;
use crate::server::single_user::SingleUser;
use crate::server::stop::stop;
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

impl Default for InitOptions {
    /// The cluster `main` of the superuser [`os_user::default_role`], with no databases of its own, in a place that lasts.
    fn default() -> Self {
        Self { cluster_name: "main".to_owned(), databases: Vec::new(), superuser: os_user::default_role(), wishes: InitWishes::default() }
    }
}

/// What `init` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitReport {
    /// `adopted`, `created` or `restored`.
    pub action: &'static str,
    /// The data directory.
    pub data_directory: PathBuf,
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
/// As [`InitPlan::decide`]; when there are no programs to do it with.
pub fn plan<'a>(cluster: &'a Cluster, shelf: Option<&'a Shelf>, wishes: InitWishes) -> BoxFuture<'a, Result<InitPlan>> {
    Box::pin(async move {
        let state = cluster.directory().state().await?;
        let placement = cluster.directory().placement().await?;
        let knowledge = knowledge(cluster, shelf, &state, wishes).await?;
        let plan = InitPlan::decide(cluster.path(), &state, &placement, &knowledge, wishes)?;
        refuse_ephemeral_parts(cluster, wishes).await?;
        match &plan {
            InitPlan::Adopt { .. } => {
                vacancy::refuse_foreign_server(cluster).await?;
                vacancy::prove_server_gone(cluster, Duration::ZERO).await?;
                cluster.installation().await?;
            }
            InitPlan::Restore { backup: Some(_), .. } => drop(programs_for(cluster, &knowledge).await?),
            InitPlan::Create | InitPlan::Restore { .. } => {
                let search = cluster.search().clone();
                workers::run(move || search.for_new_cluster()).await?;
            }
        }
        Ok(plan)
    })
}

/// Makes the data directory ready. Repeatable; a run that was killed is finished or undone by the next one. With a shelf
/// the store is asked what it knows of the cluster before anything is created, and told which cluster it serves.
///
/// # Errors
/// As [`InitPlan::decide`]; `Conflict` when another pgpersist works on the directory, or a server runs in it that pgpersist did
/// not start; `Unsafe` when nothing proves a left `postmaster.pid` stale; `Unavailable` when the disk is full.
pub fn make_ready<'a>(
    cluster: &'a Cluster,
    shelf: Option<&'a Shelf>,
    options: &'a InitOptions,
    progress: &'a Arc<dyn ProgressSink>,
) -> BoxFuture<'a, Result<InitReport>> {
    Box::pin(async move { make_ready_and_keep(cluster, shelf, options, progress).await.map(|(report, _)| report) })
}

/// The same, and the claim stays with the caller.
///
/// # Errors
/// As [`make_ready`].
pub(crate) async fn make_ready_and_keep(
    cluster: &Cluster,
    shelf: Option<&Shelf>,
    options: &InitOptions,
    progress: &Arc<dyn ProgressSink>,
) -> Result<(InitReport, Claim)> {
    let first = cluster.directory().state().await?;
    // What needs no claim is refused before anything, even a lock file, is made.
    if let State::Foreign { .. } | State::Damaged { .. } = first {
        first.into_cluster(cluster.path())?;
        return Err(Error::Bug("a foreign or damaged directory passed for a cluster".into()));
    }
    let placement = cluster.directory().placement().await?;
    if !matches!(first, State::HalfMade { .. }) {
        let knowledge = knowledge(cluster, shelf, &first, options.wishes).await?;
        InitPlan::decide(cluster.path(), &first, &placement, &knowledge, options.wishes)?;
        refuse_ephemeral_parts(cluster, options.wishes).await?;
        if let Some(shelf) = shelf.filter(|_| is_news(&first, &placement, &knowledge))
            && let Some(weak) = known::prove_writable(shelf).await?
        {
            progress.event(Event::Warning(weak));
        }
    }
    vacancy::refuse_foreign_server(cluster).await?;
    let claim = cluster.directory().claim().await?;
    let work = Work::begin(cluster).await?;
    let state = cluster.directory().prepare(&claim).await?;
    let own = cluster.directory().own_folder().clone();
    // A place that takes no writes, or gives back other bytes, is known before it holds anything.
    workers::run(move || placement::probe(own.path())).await?;
    let knowledge = knowledge(cluster, shelf, &state, options.wishes).await?;
    let plan = InitPlan::decide(cluster.path(), &state, &placement, &knowledge, options.wishes)?;
    let report = match plan {
        InitPlan::Adopt { .. } => adopt(cluster, state, options, &knowledge, &work, progress.as_ref()).await?,
        InitPlan::Create => create(cluster, options, &work, progress.as_ref()).await?,
        InitPlan::Restore { backup: Some(backup), .. } => {
            restored_backup(cluster, shelf, &backup, (&knowledge, options.wishes), progress.as_ref()).await?
        }
        InitPlan::Restore { backup: None, dumps } => restored(cluster, shelf, &dumps, options, progress).await?,
    };
    let files = cluster.directory().state().await?.into_cluster(cluster.path())?;
    write_card(cluster, &files, options).await?;
    if let Some(shelf) = shelf {
        let installation = cluster.installation().await?;
        let takes_over = options.wishes.new || report.action == "restored";
        let card = ClusterCard::new(shelf.cluster(), files.control.system_identifier, installation.version(), SystemClock.now());
        let stale = known::tell(shelf, &card, takes_over, &KnownPlace::from(&placement)).await?;
        for warning in stale.into_iter().chain(known::untested_keys(shelf).await?) {
            progress.event(Event::Warning(warning));
        }
    }
    let own = cluster.directory().own_folder().clone();
    let reading = workers::run(move || placement::sentinel(own.path(), &boot::boot_id()?, SystemClock.now())).await?;
    let evidence = placement.evidence.into_iter().chain(reading.evidence());
    progress.event(Event::Step(format!("the place: {}", evidence.collect::<Vec<_>>().join("; "))));
    Ok((report, claim))
}

/// Whether the card on the volume names the very cluster that lies there.
pub(crate) async fn is_known_by_card(cluster: &Cluster) -> Result<bool> {
    let State::Cluster(files) = cluster.directory().state().await? else { return Ok(false) };
    let own = cluster.directory().own_folder().clone();
    let card = workers::run(move || IdentityCard::read(&own)).await?;
    Ok(card.is_some_and(|card| card.system_identifier == files.control.system_identifier))
}

/// Whether the store is to be told something that it does not know.
fn is_news(state: &State, placement: &Placement, knowledge: &Knowledge) -> bool {
    let knows_place = knowledge.lived_on.as_ref().is_some_and(|known| known.mount_point == placement.mount_point);
    match state {
        State::Cluster(files) => !knows_place || knowledge.store_identifier != Some(files.control.system_identifier),
        _ => true,
    }
}

async fn refuse_ephemeral_parts(cluster: &Cluster, wishes: InitWishes) -> Result<()> {
    let path = cluster.path().to_owned();
    if wishes.allow_ephemeral { Ok(()) } else { workers::run(move || outside::refuse_ephemeral(&path)).await }
}

/// How long the helpers of a killed run get to end before we say that they are in the way.
const ORPHANS: Duration = Duration::from_secs(60);

/// The server's lock while no server runs: our helpers hold it too, so that whoever comes after a kill waits for them.
struct Work {
    lock: Option<Arc<ServerLock>>,
}

impl Work {
    async fn begin(cluster: &Cluster) -> Result<Self> {
        // A restore that was killed may have left its private server behind; it works in our own staging folder.
        let staging = cluster.directory().own_folder().staging();
        if staging.is_dir() {
            let private = Cluster::new(Arc::new(LocalDataDirectory::open(&staging)?), cluster.search().clone(), cluster.options().clone());
            if private.presence().await.is_ok_and(|presence| presence.running().is_some()) {
                stop(&private, ORPHANS).await?;
            }
        }
        if vacancy::refuse_foreign_server(cluster).await? {
            return Ok(Self { lock: None });
        }
        let lock = orphans::outlast(cluster, ORPHANS).await?;
        // Nothing is in the way of a directory that is still to be made.
        vacancy::clear_of_killed_server(cluster).await?;
        Ok(Self { lock: Some(Arc::new(lock)) })
    }
}

fn single_user(cluster: &Cluster, installation: &PostgresInstallation, directory: &Path, work: &Work) -> SingleUser {
    SingleUser {
        installation: installation.clone(),
        directory: directory.to_owned(),
        os_user: cluster.options().os_user.clone(),
        lock: work.lock.clone(),
    }
}

async fn restored(
    cluster: &Cluster,
    shelf: Option<&Shelf>,
    dumps: &[String],
    options: &InitOptions,
    progress: &Arc<dyn ProgressSink>,
) -> Result<InitReport> {
    let shelf = shelf.ok_or_else(|| Error::Bug("dumps are known without a store".into()))?;
    let search = cluster.search().clone();
    let installation = workers::run(move || search.for_new_cluster()).await?;
    let databases = restore(cluster, &installation, shelf, dumps, &options.superuser, progress).await?;
    let files = cluster.directory().state().await?.into_cluster(cluster.path())?;
    Ok(report("restored", cluster, &files, &installation, databases))
}

/// A backup brings its own databases and roles; the server recovers it when it starts.
async fn restored_backup(
    cluster: &Cluster,
    shelf: Option<&Shelf>,
    backup: &str,
    (knowledge, wishes): (&Knowledge, InitWishes),
    progress: &dyn ProgressSink,
) -> Result<InitReport> {
    let shelf = shelf.ok_or_else(|| Error::Bug("a backup is known without a store".into()))?;
    let installation = programs_for(cluster, knowledge).await?;
    for why in knowledge.newest_backup.iter().flat_map(|backup| &backup.passed_over) {
        progress.event(Event::Warning(format!("a newer backup is passed over: {why}")));
    }
    let gone = || Error::not_found(format!("there is no backup {backup} any more in {}", shelf.store()), "run it again");
    let repository = known::repository(shelf).await?.ok_or_else(gone)?;
    let name: RunName = backup.parse().map_err(|_| gone())?;
    if !wishes.allow_ephemeral {
        let tablespaces = repository.manifest(name).await?.tablespaces;
        workers::run(move || outside::refuse_ephemeral_tablespaces(&tablespaces)).await?;
    }
    // Garbage collection leaves alone what a run that lives reads.
    let live = LiveIntent::reading_or_warn(&repository, "restore", vec![name], progress).await;
    let restored = physical::restore(&repository, name, cluster.directory().as_ref(), &RestoreOptions::default(), progress).await;
    if let Some(live) = live {
        live.end_or_leave().await;
    }
    let restored = restored?;
    for name in &restored.settings_removed {
        progress.event(Event::Warning(format!("{name} of another recovery was taken out of postgresql.auto.conf")));
    }
    let (settings, path) = (cluster.settings(), cluster.path().to_owned());
    workers::run(move || settings.install(&path)).await?;
    let files = cluster.directory().state().await?.into_cluster(cluster.path())?;
    Ok(report("restored", cluster, &files, &installation, Vec::new()))
}

/// The programs for the backup that is restored.
async fn programs_for(cluster: &Cluster, knowledge: &Knowledge) -> Result<PostgresInstallation> {
    let major = knowledge.newest_backup.as_ref().map(|backup| backup.major).unwrap_or_default();
    let (search, path) = (cluster.search().clone(), cluster.path().to_owned());
    workers::run(move || search.for_cluster(&path, major)).await
}

fn report(
    action: &'static str,
    cluster: &Cluster,
    files: &ClusterFiles,
    installation: &PostgresInstallation,
    databases_created: Vec<String>,
) -> InitReport {
    InitReport {
        action,
        data_directory: cluster.path().to_owned(),
        system_identifier: files.control.system_identifier.to_string(),
        version: installation.version().to_string(),
        databases_created,
    }
}

/// What the store and the card on the volume know.
async fn knowledge(cluster: &Cluster, shelf: Option<&Shelf>, state: &State, wishes: InitWishes) -> Result<Knowledge> {
    let of_store = match shelf {
        Some(shelf) => known::ask(shelf).await?,
        None => Knowledge::default(),
    };
    let mut knowledge = with_card(cluster, of_store).await?;
    let may_restore = !wishes.new && (wishes.restore_latest || wishes.when_missing == WhenMissing::Restore);
    if let (Some(shelf), State::Absent | State::Empty, true) = (shelf, state, may_restore) {
        knowledge.newest_backup = known::newest_backup(shelf, &knowledge).await?;
    }
    Ok(knowledge)
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
    work: &Work,
    progress: &dyn ProgressSink,
) -> Result<InitReport> {
    let files = state.into_cluster(cluster.path())?;
    let installation = cluster.installation().await?;
    let (settings, path) = (cluster.settings(), cluster.path().to_owned());
    let single_user = single_user(cluster, &installation, cluster.path(), work);
    let known = knowledge.card.as_ref().map(|card| card.databases.clone()).unwrap_or_default();
    let unknown: Vec<String> = options.databases.iter().filter(|name| !known.contains(name)).cloned().collect();
    // Without a server of ours, which holds the lock itself, a database is created in single-user mode.
    if !unknown.is_empty() && work.lock.is_some() {
        single_user.refuse_recovery()?;
    }
    let warnings = workers::run(move || {
        // Debian keeps the configuration outside the data directory, where the pod's end would take it.
        let carried = if path.join("postgresql.conf").exists() { None } else { carry_configuration(Path::new(ETC_ROOT), &path)? };
        settings.install(&path)?;
        Ok(carried.map(|carried| carried.warnings).unwrap_or_default())
    })
    .await?;
    for warning in warnings {
        progress.event(Event::Warning(warning));
    }
    let created = if unknown.is_empty() {
        Vec::new()
    } else if work.lock.is_none() {
        create_by_session(cluster, &unknown).await?
    } else {
        progress.event(Event::Step(format!("looking for the databases {}", unknown.join(", "))));
        workers::run(move || single_user.create_missing(&unknown)).await?
    };
    Ok(report("adopted", cluster, &files, &installation, created))
}

async fn create(cluster: &Cluster, options: &InitOptions, work: &Work, progress: &dyn ProgressSink) -> Result<InitReport> {
    let search = cluster.search().clone();
    let installation = workers::run(move || search.for_new_cluster()).await?;
    progress.event(Event::Step(format!("creating a PostgreSQL {} cluster in {}", installation.version(), cluster.path().display())));
    let (own, path, settings) = (cluster.directory().own_folder().clone(), cluster.path().to_owned(), cluster.settings());
    let (databases, programs) = (options.databases.clone(), installation.clone());
    let how =
        CreateOptions { os_user: cluster.options().os_user.clone(), lock: work.lock.clone(), ..CreateOptions::durable(&options.superuser) };
    let single_user = single_user(cluster, &installation, &own.staging(), work);
    let created = workers::run(move || {
        let make = || {
            staging::begin(&own)?;
            create::create(&programs, &own.staging(), &how)?;
            settings.install(&own.staging())?;
            let created = single_user.create_missing(&databases)?;
            staging::publish(&path, &own, "init").map(|()| created)
        };
        make().inspect_err(|_| {
            // The error is what matters; what cannot be removed now, the next run removes.
            let _ = staging::recover(&path, &own);
        })
    })
    .await?;
    let files = cluster.directory().state().await?.into_cluster(cluster.path())?;
    Ok(report("created", cluster, &files, &installation, created))
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
    same_cluster::check(cluster, &session).await?;
    let mut created = Vec::new();
    for name in databases {
        if session.create_database(name).await? {
            created.push(name.clone());
        }
    }
    Ok(created)
}
