//! A new cluster that takes up the newest dump of each database, published only when all of them are in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::data_directory::local::LocalDataDirectory;
use crate::data_directory::own_folder::FOLDER_NAME;
use crate::data_directory::{DataDirectory, staging};
use crate::error::{Error, Result};
use crate::fs::durable;
use crate::init::plan::without_damaged;
use crate::logical::all_stores::AllStores;
use crate::logical::load_found::load_found;
use crate::logical::load_options::{LoadOptions, Trust};
use crate::logical::shelf::Shelf;
use crate::logical::{dump_source, globals};
use crate::progress::{Event, ProgressSink};
use crate::server::cluster::{Cluster, ClusterOptions};
use crate::server::create::{self, CreateOptions};
use crate::server::installation::PostgresInstallation;
use crate::server::session::Session;
use crate::server::socket;
use crate::server::start::{StartOptions, start};
use crate::server::stop::stop;
use crate::workers;

/// How long the temporary server may take to start and to stop.
const SERVER: Duration = Duration::from_secs(120);

/// Makes a cluster in the staging folder, loads the dumps into it through a server that listens on a private socket
/// only, stops it, and publishes the directory. The caller holds the claim.
///
/// # Errors
/// What loading says; the staging folder is gone then, and the data directory as it was.
pub async fn restore(
    cluster: &Cluster,
    installation: &PostgresInstallation,
    shelf: &Shelf,
    dumps: &[String],
    superuser: &str,
    progress: &Arc<dyn ProgressSink>,
) -> Result<Vec<String>> {
    let own = cluster.directory().own_folder().clone();
    let result = restore_in_staging(cluster, installation, shelf, dumps, superuser, progress).await;
    let path = cluster.path().to_owned();
    workers::run(move || match result {
        Ok(loaded) => staging::publish(&path, &own, "restore").map(|()| loaded),
        Err(error) => {
            // The error is what matters; what cannot be removed now, the next run removes.
            let _ = staging::recover(&path, &own);
            Err(error)
        }
    })
    .await
}

async fn restore_in_staging(
    cluster: &Cluster,
    installation: &PostgresInstallation,
    shelf: &Shelf,
    dumps: &[String],
    superuser: &str,
    progress: &Arc<dyn ProgressSink>,
) -> Result<Vec<String>> {
    let own = cluster.directory().own_folder().clone();
    let (programs, settings) = (installation.clone(), cluster.settings());
    let options = CreateOptions { os_user: cluster.options().os_user.clone(), ..CreateOptions::durable(superuser) };
    let made = own.clone();
    workers::run(move || {
        staging::begin(&made)?;
        create::create(&programs, &made.staging(), &options)?;
        settings.install(&made.staging())
    })
    .await?;
    let private = private_cluster(cluster, &own.staging(), superuser)?;
    start(&private, &StartOptions { timeout: SERVER, trust_stale_pid: false }).await?;
    let loaded = load_all(&private, shelf, dumps, progress).await;
    let stopped = stop(&private, SERVER).await;
    let loaded = loaded?;
    if stopped?.immediate {
        return Err(Error::unavailable("the server of the restore did not stop cleanly", "run the same command again"));
    }
    let leftovers: Vec<PathBuf> =
        std::iter::once(private.directory().own_folder().path().to_owned()).chain(private.options().socket_directory.clone()).collect();
    // The settings of the private server must not outlive it.
    let (settings, staged) = (cluster.settings(), own.staging());
    workers::run(move || {
        settings.install(&staged)?;
        leftovers.iter().try_for_each(|folder| durable::remove_tree(folder))?;
        durable::remove_directory(&own.path().join(FOLDER_NAME))
    })
    .await?;
    Ok(loaded)
}

/// The half-made cluster, reachable by nobody else: no TCP, and a socket in our own folder.
fn private_cluster(cluster: &Cluster, staging: &Path, superuser: &str) -> Result<Cluster> {
    let directory = LocalDataDirectory::open(staging)?;
    directory.own_folder().create()?;
    let socket = socket::private_folder(directory.own_folder(), staging, cluster.options().os_user.as_ref())?;
    // Loading logs in as a role of its own. Nobody else reaches a socket in a folder that is closed to others.
    let rules = directory.own_folder().path().join("pg_hba.conf");
    durable::write(&rules, b"local all all trust\n", 0o600)?;
    let mut settings = cluster.options().settings.clone();
    settings.insert("listen_addresses".to_owned(), String::new());
    let options = ClusterOptions {
        settings,
        user: superuser.to_owned(),
        password: None,
        host: None,
        log_directory: None,
        socket_directory: Some(socket),
        command_line: BTreeMap::from([("hba_file".to_owned(), rules.display().to_string())]),
        ..cluster.options().clone()
    };
    Ok(Cluster::new(Arc::new(directory), cluster.search().clone(), options))
}

async fn load_all(cluster: &Cluster, shelf: &Shelf, dumps: &[String], progress: &Arc<dyn ProgressSink>) -> Result<Vec<String>> {
    let connection = cluster.connection("postgres").await?;
    let version = cluster.installation().await?.version();
    let search = cluster.search().clone();
    let (psql, _) = workers::run(move || search.client("psql", version)).await?;
    let session = Session::connect(&connection, SERVER).await?;
    let all = AllStores::look(shelf, progress.as_ref()).await?;
    for warning in globals::load_newest(&session, &all, progress.as_ref()).await? {
        progress.event(Event::Warning(warning));
    }
    drop(session);
    let mut loaded = Vec::new();
    for name in dumps {
        let found = dump_source::find_in(&all, name, None).await?;
        let database = found.database.clone().ok_or_else(|| {
            Error::invalid(
                format!("nothing tells which database the dump {name} was made of"),
                "create the cluster with `pgpersist init --new` and load it with `pgpersist load NAME -d DATABASE`",
            )
        })?;
        progress.event(Event::Step(format!("loading {name} into {database}")));
        let options = LoadOptions { trust: Trust::OwnDump, ..LoadOptions::new(connection.clone(), psql.clone(), database.clone()) };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let report = load_found(&options, found, &clock, progress).await.map_err(|error| with_remedy_of_init(name, error))?;
        for warning in report.warnings {
            progress.event(Event::Warning(warning));
        }
        loaded.push(database);
    }
    Ok(loaded)
}

/// `load` proposes another dump, which this command cannot choose.
fn with_remedy_of_init(name: &str, error: Error) -> Error {
    match error {
        Error::Damaged { what, .. } => Error::damaged(what, without_damaged(name)),
        Error::Invalid { what, remedy: Some(remedy) } if remedy.contains("another dump") => Error::invalid(what, without_damaged(name)),
        other => other,
    }
}
