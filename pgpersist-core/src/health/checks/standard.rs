//! All checks that come with pgpersist, in their fixed order: the one file that knows every check.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, Result};
use crate::health::checks::asking::Asking;
use crate::health::checks::backups::{self, BackupsCheck, LastSeen};
use crate::health::checks::connection::ConnectionCheck;
use crate::health::checks::data_directory::DataDirectoryCheck;
use crate::health::checks::database::DatabaseCheck;
use crate::health::checks::disk::{DiskCheck, DiskLimits};
use crate::health::checks::dumps::{DEFAULT_MAX_AGE, DumpsCheck};
use crate::health::checks::last_drill::{self, LastDrillCheck};
use crate::health::checks::placement::PlacementCheck;
use crate::health::checks::places;
use crate::health::checks::probe::{Probe, ProbeCheck};
use crate::health::checks::recovery_key::RecoveryKeyCheck;
use crate::health::checks::schedule::ScheduleCheck;
use crate::health::checks::server::ServerCheck;
use crate::health::checks::settings::SettingsCheck;
use crate::health::checks::store::StoreCheck;
use crate::health::checks::table::TableCheck;
use crate::health::checks::transaction_ids::TransactionIdsCheck;
use crate::health::{DEFAULT_DEADLINE, HealthCheck};
use crate::schedule;
use crate::schedule::timetable::Timetable;
use crate::server::cluster::Cluster;
use crate::store::BackupStore;
use crate::store::open::StoreSource;
use crate::store::url::StoreUrl;

/// How many sessions the checks of databases, and as many the probes, may have open at a time. With one each for the
/// connection, the settings and the transaction IDs, a health check never takes more than eleven. One slow probe leaves room
/// for others; with more slow ones than this, others may find no time.
const SESSIONS: usize = 4;

/// What is to be looked at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HealthOptions {
    /// The cluster.
    pub cluster: Cluster,
    /// The cluster's name in the stores.
    pub cluster_name: String,
    /// The stores, the primary one first.
    pub stores: Vec<StoreUrl>,
    /// A store that is open already, and is the primary one instead of the first of `stores`.
    pub store: Option<Arc<dyn BackupStore>>,
    /// How each store is encrypted, in their order; one of which nothing is said is not.
    pub encryption: Vec<EncryptionSettings>,
    /// The databases that must be accessible, and have dumps.
    pub databases: Vec<String>,
    /// The user's own questions.
    pub probes: Vec<Probe>,
    /// Tables whose rows are counted: `orders` or `schema.orders`, looked for in `databases`, or in all.
    pub tables: Vec<String>,
    /// What an agent is to do at its times, by the names of the jobs.
    pub schedules: Vec<(String, Timetable)>,
    /// How old the newest dump may be.
    pub dump_max_age: Duration,
    /// How old the newest backup may be, where there are some or they are in `schedules`.
    pub backup_max_age: Duration,
    /// What is remembered of backups from one look to the next.
    pub last_seen: LastSeen,
    /// How long ago the last proven restore of a dump may be.
    pub drill_max_age: Duration,
    /// From when on a disk is too full.
    pub disk: DiskLimits,
    /// How much ballast should be on the volume.
    pub ballast_bytes: Option<u64>,
    /// The user's own checks, asked after ours.
    pub checks: Vec<Arc<dyn HealthCheck>>,
    /// How long each check may take that has no deadline of its own.
    pub deadline: Duration,
    /// What the time is.
    pub clock: Arc<dyn Clock>,
}

impl HealthOptions {
    /// Everything about a cluster that needs no configuration.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            cluster_name: "main".to_owned(),
            stores: Vec::new(),
            store: None,
            encryption: Vec::new(),
            databases: Vec::new(),
            probes: Vec::new(),
            tables: Vec::new(),
            schedules: Vec::new(),
            dump_max_age: DEFAULT_MAX_AGE,
            backup_max_age: backups::DEFAULT_MAX_AGE,
            last_seen: LastSeen::default(),
            drill_max_age: last_drill::DEFAULT_MAX_AGE,
            disk: DiskLimits::default(),
            ballast_bytes: None,
            checks: Vec::new(),
            deadline: DEFAULT_DEADLINE,
            clock: Arc::new(SystemClock),
        }
    }

    /// The store that has the dumps to be looked at.
    pub fn primary_store(&self) -> Option<StoreSource> {
        self.store.clone().map(StoreSource::Open).or_else(|| self.stores.first().cloned().map(StoreSource::Url))
    }

    /// All stores, the primary one first.
    fn all_stores(&self) -> Vec<StoreSource> {
        let others = self.stores.iter().skip(usize::from(self.store.is_none())).cloned().map(StoreSource::Url);
        self.primary_store().into_iter().chain(others).collect()
    }

    /// The stores that are encrypted, by their places. Copies of one that is are opened by its keys, of which it tells itself.
    fn encrypted_stores(&self) -> Vec<(usize, StoreSource, EncryptionSettings)> {
        let all = self.all_stores().into_iter().zip(&self.encryption).enumerate();
        let encrypted = all.filter(|(_, (_, encryption))| encryption.encrypts());
        let mut encrypted: Vec<_> = encrypted.map(|(place, (store, encryption))| (place + 1, store, encryption.clone())).collect();
        if encrypted.first().is_some_and(|(place, ..)| *place == 1) {
            encrypted.truncate(1);
        }
        encrypted
    }

    /// The stores that have a finding of their own, each with its place and the store that it has copies of: all of them where there
    /// are several. Of one alone that is a folder, `dumps` and `disk` tell as much.
    fn watched_stores(&self) -> Vec<(usize, StoreSource, Option<StoreSource>)> {
        let Some(primary) = self.primary_store() else { return Vec::new() };
        let all = self.all_stores();
        if all.len() == 1 && !matches!(&primary, StoreSource::Url(url) if url.folder().is_none()) {
            return Vec::new();
        }
        let copy_of = |place: usize| (place > 1).then(|| primary.clone());
        all.into_iter().enumerate().map(|(place, store)| (place + 1, store, copy_of(place + 1))).collect()
    }

    /// Where no databases are named, takes those of the server: all but templates and `postgres`, as `dump` does. A server that
    /// is down or silent names none, which its own findings then tell.
    pub async fn with_databases_of_server(mut self) -> Self {
        if self.databases.is_empty() {
            let asking = Asking::new(self.cluster.clone(), self.deadline / 2, 1);
            let found = async { asking.any_session().await?.databases().await };
            let found = tokio::time::timeout(self.deadline / 2, found).await.ok().and_then(Result::ok).unwrap_or_default();
            self.databases = found.into_iter().filter(|database| database != "postgres").collect();
        }
        self
    }
}

/// The checks of a cluster, and then the user's own. Touches nothing.
///
/// # Errors
/// [`Error::File`] when a relative store cannot be made absolute, since there is no current directory; `Invalid` when a check of the
/// user's has the name of another one.
pub fn checks(options: &HealthOptions) -> Result<Vec<Arc<dyn HealthCheck>>> {
    let HealthOptions { cluster, deadline, clock, .. } = options;
    let deadline = *deadline;
    let folders: Vec<PathBuf> = options.stores.iter().filter_map(StoreUrl::folder).map(places::absolute).collect::<Result<_>>()?;
    let log_file = cluster.log_file();
    let log = log_file.path().parent().unwrap_or(cluster.path());
    let (of_databases, of_probes) = (Asking::new(cluster.clone(), deadline, SESSIONS), Asking::new(cluster.clone(), deadline, SESSIONS));
    let mut checks: Vec<Arc<dyn HealthCheck>> = vec![
        Arc::new(DataDirectoryCheck::new(cluster.directory().clone(), deadline)),
        Arc::new(PlacementCheck::new(cluster.path(), folders.clone(), log, deadline).remembering(
            cluster.clone(),
            &options.cluster_name,
            options.stores.clone(),
        )),
        Arc::new(ServerCheck::new(cluster.clone(), clock.clone(), deadline)),
        Arc::new(ConnectionCheck::new(cluster.clone(), deadline)),
    ];
    for database in &options.databases {
        checks.push(Arc::new(DatabaseCheck::new(database, of_databases.clone(), deadline)));
    }
    for probe in &options.probes {
        checks.push(Arc::new(ProbeCheck::new(probe.clone(), of_probes.clone(), deadline)));
    }
    for table in &options.tables {
        checks.push(Arc::new(TableCheck::new(table, options.databases.clone(), of_probes.clone(), deadline)));
    }
    let (store, databases) = (options.primary_store(), options.databases.clone());
    let name = &options.cluster_name;
    checks.push(Arc::new(DumpsCheck::new(store.clone(), name.clone(), databases.clone(), options.dump_max_age, clock.clone(), deadline)));
    checks.push(Arc::new(BackupsCheck {
        store: store.clone(),
        cluster: name.clone(),
        encryption: options.encryption.first().cloned().unwrap_or_default(),
        own: cluster.directory().own_folder().clone(),
        is_planned: options.schedules.iter().any(|(job, _)| job == schedule::BACKUP),
        max_age: options.backup_max_age,
        last_seen: options.last_seen.clone(),
        clock: clock.clone(),
        deadline,
    }));
    for (place, store, primary) in options.watched_stores() {
        let (databases, age) = (databases.clone(), options.dump_max_age);
        checks.push(Arc::new(StoreCheck::new(place, store, primary, name.clone(), databases, age, clock.clone(), deadline)));
    }
    for (place, store, encryption) in options.encrypted_stores() {
        checks.push(Arc::new(RecoveryKeyCheck::new(place, store, name.clone(), encryption, clock.clone(), deadline)));
    }
    let max_age = options.drill_max_age;
    checks.push(Arc::new(LastDrillCheck::new(cluster.clone(), store, name.clone(), databases, max_age, clock.clone(), deadline)));
    for (job, timetable) in &options.schedules {
        let own = cluster.directory().own_folder().clone();
        checks.push(Arc::new(ScheduleCheck::new(job, timetable.clone(), own, clock.clone(), deadline)));
    }
    let own = cluster.directory().own_folder().clone();
    let disk = DiskCheck::new(cluster.path(), own, folders, log, options.disk, clock.clone(), deadline);
    checks.push(Arc::new(disk.with_ballast(options.ballast_bytes)));
    checks.push(Arc::new(SettingsCheck::new(cluster.clone(), deadline)));
    checks.push(Arc::new(TransactionIdsCheck::new(cluster.clone(), deadline)));
    // A finding is looked for by its name.
    let mut names: BTreeSet<String> = checks.iter().map(|check| check.name().to_owned()).collect();
    if let Some(twice) = options.checks.iter().find(|check| !names.insert(check.name().to_owned())) {
        return Err(Error::invalid(format!("two checks are called {:?}", twice.name()), "give one of them another name"));
    }
    checks.extend(options.checks.iter().cloned());
    Ok(checks)
}
