//! A dump as it is asked for: of a cluster, onto its shelf, with all that has to be looked at before and noted after.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::logical::dump::{DumpOptions, RolePasswords};
use crate::logical::dump_cluster::{DumpReport, dump_cluster};
use crate::logical::known_store::KnownStores;
use crate::logical::shelf::Shelf;
use crate::logical::sync::report::SyncReport;
use crate::logical::sync::request::SyncRequest;
use crate::logical::verify::told;
use crate::progress::{Event, ProgressSink};
use crate::server::clients;
use crate::server::cluster::Cluster;
use crate::server::connection::ConnectionOptions;
use crate::server::session::Session;
use crate::workers;

/// How long opening a session may take.
const CONNECT: Duration = Duration::from_secs(30);

/// What is to be dumped, and how.
#[derive(Debug, Clone)]
pub struct DumpRequest {
    /// The running cluster.
    pub cluster: Cluster,
    /// Where its dumps go.
    pub shelf: Shelf,
    /// The databases; where it is empty, all but templates and `postgres`.
    pub databases: Vec<String>,
    /// Whether dumps of roles hold their passwords.
    pub role_passwords: RolePasswords,
    /// Goes on where the store took dumps of this cluster and has no trace of them any more. Its volume is most likely not
    /// mounted, so somebody has to say so.
    pub begin_anew: bool,
}

impl DumpRequest {
    /// Every database, without passwords, into a store that is what it was.
    pub fn new(cluster: Cluster, shelf: Shelf) -> Self {
        Self { cluster, shelf, databases: Vec::new(), role_passwords: RolePasswords::LeaveOut, begin_anew: false }
    }

    /// Which databases it comes to now. Looks only.
    ///
    /// # Errors
    /// As [`Self::carry_out`], and `NotFound` when there is none.
    pub async fn resolve(&self) -> Result<Vec<String>> {
        self.known_store().await?;
        self.named(&self.cluster.connection("postgres").await?).await
    }

    /// What would be done, one step a line. Looks only.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn plan<'a>(&'a self) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let databases = self.resolve().await?;
            let mut steps: Vec<String> =
                databases.iter().map(|name| format!("dump the database {name} to {}", self.shelf.store())).collect();
            steps.extend(self.shelf.copies().iter().map(|copy| format!("copy what is missing there to {}", copy.shelf.store())));
            Ok(steps)
        })
    }

    /// Dumps them. What is dropped half-way leaves no dump behind, and no name.
    ///
    /// # Errors
    /// As [`dump_cluster`]; `Unsafe` for a store that lost what it had, `Unavailable` for a server that does not answer.
    pub fn carry_out<'a>(&'a self, clock: &'a Arc<dyn Clock>, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<DumpReport>> {
        Box::pin(async move {
            let known = self.known_store().await?;
            let connection = self.cluster.connection("postgres").await?;
            let programs = clients::directory(&self.cluster, &connection, "pg_dump").await?;
            let databases = self.named(&connection).await?;
            let options = DumpOptions { role_passwords: self.role_passwords, ..DumpOptions::new(connection, &programs) };
            let log = self.cluster.log_file();
            workers::run(move || log.rotate_under_server()).await?;
            let shelf = match &known {
                Some(_) => self.shelf.clone().remembering_keys(self.cluster.directory().own_folder().clone()),
                None => self.shelf.clone(),
            };
            let report = dump_cluster(&shelf, &options, &databases, clock, progress).await?;
            if let Some(known) = known {
                match known.remember(self.shelf.store().as_ref()).await {
                    // Whoever may dump a cluster need not be able to write beside its data.
                    Err(error) if error.kind() != ErrorKind::Denied => {
                        progress.event(Event::Warning(format!("a store that is not mounted will not be noticed: {error}")));
                    }
                    _ => {}
                }
            }
            Ok(report)
        })
    }

    /// Brings the copies up to date afterwards, newest dumps first. The dumps stand whatever becomes of that, so a copy that fails
    /// is a warning. Nothing where there are no copies.
    pub fn copy<'a>(&'a self, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Option<SyncReport>> {
        Box::pin(async move {
            if self.shelf.copies().is_empty() {
                return None;
            }
            let cluster = Some(self.cluster.clone());
            let request = SyncRequest { cluster, begin_anew: self.begin_anew, ..SyncRequest::new(self.shelf.clone()) };
            match request.carry_out(progress).await {
                Ok(report) => {
                    report.troubles().into_iter().for_each(|trouble| progress.event(Event::Warning(trouble)));
                    Some(report)
                }
                Err(error) => {
                    progress.event(Event::Warning(format!("nothing was copied to other stores: {}", told(&error))));
                    None
                }
            }
        })
    }

    /// Refuses a store that lost what it had. Returns where the store is remembered, if the cluster's files are at hand.
    async fn known_store(&self) -> Result<Option<KnownStores>> {
        let known = KnownStores::of(&self.cluster, self.shelf.cluster()).await?;
        if let (Some(known), false) = (&known, self.begin_anew) {
            known.check(self.shelf.store().as_ref()).await?;
        }
        Ok(known)
    }

    async fn named(&self, connection: &ConnectionOptions) -> Result<Vec<String>> {
        if !self.databases.is_empty() {
            return Ok(self.databases.clone());
        }
        let mut all = Session::connect(connection, CONNECT).await?.databases().await?;
        all.retain(|name| name != "postgres");
        if all.is_empty() {
            return Err(Error::not_found(
                "there is no database to dump",
                "name one with `-d`, or create one; `postgres` is dumped only when it is named",
            ));
        }
        Ok(all)
    }
}
