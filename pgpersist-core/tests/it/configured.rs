//! A program that is configured: from the text of a file to a server, a dump, a load, a fence and the end.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::agent::{fencing, supervising};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::config::load::Config;
use pgpersist_core::config::sources::Sources;
use pgpersist_core::configured;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::fs::durable;
use pgpersist_core::health::space::history::SpaceHistory;
use pgpersist_core::init::ready::make_ready;
use pgpersist_core::logical::load::load;
use pgpersist_core::logical::load_options::{LoadOptions, Trust};
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::cluster::{Cluster, ServerState};
use pgpersist_core::server::session::Session;
use pgpersist_core::server::start::{StartOptions, start};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::installation::{Installation, server_user};
use crate::support::scratch::Scratch;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Ends the server of a test that fails.
struct Ended(Cluster);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(presence) = pgpersist_core::server::process::Presence::of(self.0.path())
            && let Some(pid_file) = presence.running()
        {
            let _ = kill_process(Pid::from_raw(pid_file.pid).unwrap(), Signal::QUIT);
        }
    }
}

fn config(scratch: &Scratch, installation: &Installation) -> Config {
    let folder = scratch.path().display();
    let text = format!(
        "[cluster]\ndata_directory = '{folder}/pgdata'\ndatabases = ['customerInvoice']\nbin_directory = '{}'\n\
         [cluster.settings]\nlisten_addresses = ''\nunix_socket_directories = '{folder}'\n\
         [[store]]\nurl = '{folder}/backups'\n",
        installation.bin.display()
    );
    let file = scratch.join("pgpersist.toml");
    durable::write(&file, text.as_bytes(), 0o644).unwrap();
    Config::load(&Sources::gather(Some(&file), [], Path::new("/"), Vec::new()).unwrap()).unwrap()
}

async fn session(cluster: &Cluster, database: &str) -> Session {
    Session::connect(&cluster.connection(database).await.unwrap(), TIMEOUT).await.unwrap()
}

#[tokio::test]
async fn a_configured_program_has_the_cluster_that_the_command_would_have() {
    let (scratch, installation) = (Scratch::new(), Installation::all().pop().unwrap());
    let config = config(&scratch, &installation);
    let cluster = configured::cluster::open(&config, BTreeMap::new()).unwrap();
    let _ended = Ended(cluster.clone());
    // In a task, so that bindings can do the same: every future may move between threads.
    tokio::spawn(story(config, cluster)).await.unwrap();
}

async fn story(config: Config, cluster: Cluster) {
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let shelf = configured::stores::shelf_if_any(&config).unwrap();
    let options = configured::init::options(&config, true).unwrap();
    assert_eq!(options.superuser, configured::cluster::own_name(&config).unwrap());
    let made = make_ready(&cluster, shelf.as_ref(), &options, &progress).await.unwrap();
    assert_eq!((made.action, made.databases_created.as_slice()), ("created", ["customerInvoice".to_owned()].as_slice()));
    // The tests may run as root, whom `peer` does not know as postgres.
    durable::write(&cluster.path().join("pg_hba.conf"), b"local all all trust\n", 0o644).unwrap();
    let pid = start(&cluster, &StartOptions::default()).await.unwrap().status.pid.unwrap();
    let owner = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert_eq!(owner, server_user().map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid));

    let orders = "CREATE TABLE public.orders AS SELECT g AS id FROM pg_catalog.generate_series(1, 8) g";
    session(&cluster, "customerInvoice").await.execute("make a table", orders).await.unwrap();
    let _held = supervising::hold("dump", &cluster, progress.as_ref()).await.unwrap();
    let request = configured::dump::request(&config, Vec::new()).unwrap();
    let dumped = request.carry_out(&clock, progress.as_ref()).await.unwrap();
    assert_eq!(dumped.dumps.len(), 1);
    configured::dump::remember_room(&config, &cluster);
    assert_ne!(SpaceHistory::read(cluster.directory().own_folder()).unwrap(), SpaceHistory::default());

    let found = configured::load::find(&config, "latest", None, &Silent).await.unwrap();
    assert_eq!((found.name.as_str(), found.source.name.as_str()), ("latest", dumped.dumps[0].name.as_str()));
    assert_eq!((found.database.as_deref(), found.trust), (Some("customerInvoice"), Trust::OwnDump));
    let database = configured::load::database(&config, &found, Some("copy")).unwrap();
    let options = LoadOptions { trust: found.trust, ..LoadOptions::for_cluster(&cluster, database).await.unwrap() };
    let loaded = load(&options, found.source, &clock, &progress).await.unwrap();
    assert_eq!((loaded.database.as_str(), loaded.verified, loaded.tables["public.orders"]), ("copy", Some(true), 8));

    assert!(!supervising::is_there(&cluster).await.unwrap());
    assert_eq!(supervising::view(&cluster, progress.as_ref()).await.unwrap(), None);
    let fenced = fencing::fence(&cluster, Some("odd rows".into()), TIMEOUT).await.unwrap();
    assert_eq!((fenced.status.state, fenced.changed), (ServerState::Stopped, true));
    assert_eq!(start(&cluster, &StartOptions::default()).await.unwrap_err().kind(), ErrorKind::Unsafe);
    let again = fencing::fence(&cluster, None, TIMEOUT).await.unwrap();
    assert_eq!((again.changed, again.fence.unwrap().reason.as_deref()), (false, Some("odd rows")));
    assert!(fencing::unfence(&cluster, TIMEOUT, progress.as_ref()).await.unwrap().changed);
    assert!(!fencing::unfence(&cluster, TIMEOUT, progress.as_ref()).await.unwrap().changed);
    start(&cluster, &StartOptions::default()).await.unwrap();
    assert!(supervising::stop(&cluster, TIMEOUT).await.unwrap().changed);
}
