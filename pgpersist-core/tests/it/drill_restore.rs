//! The restore drill as a library: questions in Rust, a store in memory, and a future that is dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::data_directory::own_folder::OwnFolder;
use pgpersist_core::drill::invariants::{Answer, Invariant, from_fn};
use pgpersist_core::drill::restore::{self, RestoreOptions};
use pgpersist_core::drill::restore_report::RestoreReport;
use pgpersist_core::drill::subjects::Subjects;
use pgpersist_core::drill::{Verdict, history};
use pgpersist_core::error::{Error, Result};
use pgpersist_core::logical::dump::DumpOptions;
use pgpersist_core::logical::dump_cluster::dump_cluster;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::installation::InstallationSearch;
use pgpersist_core::store::memory::MemoryBackupStore;

use crate::support::scratch::Scratch;
use crate::support::server::{BIN, TestServer};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn silent() -> Arc<dyn ProgressSink> {
    Arc::new(Silent)
}

/// A shelf with a dump of a database with eight orders.
async fn shelf() -> Shelf {
    let server = TestServer::start("", "").await;
    server.session("postgres").await.create_database("shop").await.unwrap();
    let session = server.session("shop").await;
    session.execute("fill", "CREATE TABLE public.orders AS SELECT g AS id FROM pg_catalog.generate_series(1, 8) g").await.unwrap();
    let shelf = Shelf::new(Arc::new(MemoryBackupStore::new()), "main", vec!["shop".into()]);
    let options = DumpOptions::new(server.connection("postgres"), Path::new(BIN));
    dump_cluster(&shelf, &options, &["shop".to_owned()], &clock(), &Silent).await.unwrap();
    shelf
}

fn options(scratch: &Scratch, invariants: Vec<Arc<dyn Invariant>>) -> RestoreOptions {
    let search = InstallationSearch { configured: Some(PathBuf::from(BIN)), ..InstallationSearch::default() };
    let parent = Some(scratch.path().to_owned());
    RestoreOptions { invariants, parent, ..RestoreOptions::new(Subjects::Cluster(vec!["shop".into()]), search) }
}

async fn run(shelf: &Shelf, options: &RestoreOptions) -> Result<RestoreReport> {
    restore::run(shelf, options, &clock(), &silent()).await
}

/// The clusters of drills that are there.
fn clusters(scratch: &Scratch) -> usize {
    let entries = std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
    entries.filter(|name| name.to_str().unwrap().starts_with("pgpersist-temp-")).count()
}

/// Counts the orders in Rust.
fn orders(name: &'static str, wanted: i64) -> Arc<dyn Invariant> {
    from_fn(name, "shop", move |session| {
        Box::pin(async move {
            let row = session.client().query_one("SELECT count(*) FROM public.orders", &[]).await;
            let found: i64 = row.map_err(|e| Error::sql("count the orders", e))?.get(0);
            Ok(if found == wanted { Answer::Holds } else { Answer::Broken(format!("there are {found}")) })
        })
    })
}

#[derive(Debug)]
struct Slow;

#[async_trait::async_trait]
impl Invariant for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn database(&self) -> &str {
        "shop"
    }

    async fn ask(&self, _session: &pgpersist_core::server::session::Session) -> Result<Answer> {
        std::future::pending().await
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(300)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_in_rust_are_asked_and_reports_are_kept_up_to_a_hundred() {
    let (shelf, scratch) = (shelf().await, Scratch::new());
    let report = run(&shelf, &options(&scratch, vec![orders("eight", 8)])).await.unwrap();
    assert_eq!((report.verdict, report.rows, report.lost, clusters(&scratch)), (Verdict::Pass, 8, 0, 0), "{}", report.to_text());
    let failing = vec![orders("nine", 9), Arc::new(Slow) as Arc<dyn Invariant>];
    let failed = run(&shelf, &options(&scratch, failing)).await.unwrap();
    let reasons = ["shop: check:nine: there are 8", "shop: check:slow: it did not answer within 0.3 s"];
    assert_eq!((failed.verdict, failed.reasons), (Verdict::Fail, reasons.map(str::to_owned).to_vec()));

    let own = OwnFolder::locate(&scratch.join("pgdata")).unwrap();
    for second in 0..history::KEPT as u32 + 3 {
        let started_at = format!("2026-02-08T09:{:02}:{:02}Z", second / 60, second % 60);
        let report = RestoreReport { id: format!("{second:08x}"), started_at, ..report.clone() };
        history::keep_restore(&report, Some(&own), &shelf).await.unwrap();
    }
    let (mut reports, unreadable) = history::list(&own).unwrap();
    assert_eq!((reports.len(), unreadable.len()), (history::KEPT, 0));
    assert_eq!(reports[0]["started_at"], "2026-02-08T09:01:42Z");
    assert_eq!(history::add_from_store(&mut reports, &shelf).await.unwrap(), Vec::<String>::new());
    assert_eq!(reports.len(), history::KEPT, "the store holds the same");
    let mut alone = Vec::new();
    history::add_from_store(&mut alone, &shelf).await.unwrap();
    assert_eq!(alone, reports);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_is_dropped_takes_its_cluster_along() {
    let (shelf, scratch) = (shelf().await, Scratch::new());
    let asked = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&asked);
    let endless: Arc<dyn Invariant> = from_fn("endless", "shop", move |_| {
        told.notify_one();
        Box::pin(std::future::pending())
    });
    let options = options(&scratch, vec![endless]);
    let (clock, silent) = (clock(), silent());
    let mut drill = Box::pin(restore::run(&shelf, &options, &clock, &silent));
    let waited = tokio::time::timeout(Duration::from_secs(120), async {
        tokio::select! {
            ended = &mut drill => panic!("the question was answered: {ended:?}"),
            () = asked.notified() => {}
        }
    });
    waited.await.expect("the question is asked");
    assert_eq!(clusters(&scratch), 1);
    drop(drill);
    assert_eq!(clusters(&scratch), 0);
}
