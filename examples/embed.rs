//! A program that brings its own database along: made at the first start, adopted at every other, dumped at the end.
//!
//!     cargo run --package pgpersist-examples --bin embed -- /srv/app
//!
//! Run it as any user but root, whom PostgreSQL refuses; the folder must be that user's.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::init::plan::InitWishes;
use pgpersist_core::init::ready::{InitOptions, make_ready};
use pgpersist_core::logical::{dump::DumpOptions, dump_cluster::dump_cluster, shelf::Shelf};
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::cluster::{Cluster, ClusterOptions};
use pgpersist_core::server::installation::InstallationSearch;
use pgpersist_core::server::{session::Session, start, stop};
use pgpersist_core::store::local::LocalBackupStore;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program may print; the library does not")]
async fn main() -> Result<(), Box<dyn Error>> {
    let volume = PathBuf::from(std::env::args().nth(1).ok_or("usage: embed FOLDER")?);
    let databases = vec!["customerInvoice".to_owned()];
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let shelf = Shelf::new(Arc::new(LocalBackupStore::open(volume.join("backups"))?), "main", databases.clone());

    let directory = Arc::new(LocalDataDirectory::open(volume.join("pgdata"))?);
    let cluster = Cluster::new(directory, InstallationSearch::from_environment(None), ClusterOptions::default());
    // What a container loses with its life is refused, unless somebody says that this is just a trial.
    let wishes = InitWishes { allow_ephemeral: std::env::var_os("ALLOW_EPHEMERAL").is_some(), ..InitWishes::default() };
    let options = InitOptions { databases: databases.clone(), wishes, ..InitOptions::default() };
    let report = make_ready(&cluster, Some(&shelf), &options, &progress).await?;
    start::start(&cluster, &start::StartOptions::default()).await?;

    let connection = cluster.connection("customerInvoice").await?;
    let session = Session::connect(&connection, Duration::from_secs(10)).await?;
    session.execute("create the table", "CREATE TABLE IF NOT EXISTS public.visits (at timestamptz DEFAULT now())").await?;
    session.execute("count this visit", "INSERT INTO public.visits DEFAULT VALUES").await?;
    let visits = session.text("count the visits", "SELECT count(*) FROM public.visits").await?;
    println!("{} cluster, visit {}", report.action, visits.unwrap_or_default());
    drop(session);

    let options = DumpOptions::new(connection, cluster.installation().await?.bin_directory());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for dump in dump_cluster(&shelf, &options, &databases, &clock, progress.as_ref()).await?.dumps {
        println!("{}: {} bytes", dump.name, dump.size_bytes);
    }
    stop::stop(&cluster, Duration::from_secs(60)).await?;
    Ok(())
}
