//! Carrying a migration out, step by step as the module's documentation numbers them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::data_directory::identity::IdentityCard;
use crate::data_directory::own_folder::{OwnFolder, Whereabouts};
use crate::data_directory::staging;
use crate::data_directory::state::{MIGRATE, MIGRATED_CONTROL_FILE, State};
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::durable;
use crate::fs::on_behalf::as_owner;
use crate::fs::os_user::OsUser;
use crate::migrate::configuration::{self, Carried};
use crate::migrate::copy::Copier;
use crate::migrate::debian::{self, DebianCluster};
use crate::migrate::facts::{self, SourceFacts, TargetFacts};
use crate::migrate::folder::{MigrationFolder, MigrationMarker, MigrationRecord, Phase};
use crate::migrate::journal::Journal;
use crate::migrate::plan::{MigrationAction, MigrationPlan};
use crate::migrate::source_server;
use crate::migrate::source_tree::SourceTree;
use crate::pg::control_file::{CONTROL_FILE_PATH, ControlFile};
use crate::progress::{Event, ProgressSink};
use crate::server::cluster::Cluster;
use crate::server::installation::PostgresInstallation;
use crate::server::session::Session;
use crate::server::spawn::run_as;
use crate::workers;

/// How long the checkpoint before the stop may take: it only shortens the downtime.
const CHECKPOINT: Duration = Duration::from_secs(300);

/// How a migration is to go about it.
#[derive(Debug, Clone)]
pub struct MigrateOptions {
    /// The cluster's name in the stores, for the new place's identity card.
    pub cluster_name: String,
    /// Stop a running source: somebody has seen the plan and said yes.
    pub consent: bool,
    /// Where Debian keeps the configuration of its clusters.
    pub etc_root: PathBuf,
    /// How long the source's server may take to stop.
    pub stop_timeout: Duration,
    /// How many files are copied at once.
    pub workers: usize,
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self {
            cluster_name: "main".to_owned(),
            consent: false,
            etc_root: PathBuf::from(debian::ETC_ROOT),
            stop_timeout: Duration::from_secs(60),
            workers: std::thread::available_parallelism().map_or(2, |n| n.get().min(4)),
        }
    }
}

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MigrateReport {
    /// The source.
    pub from: PathBuf,
    /// The target.
    pub to: PathBuf,
    /// The cluster's system identifier, as text.
    pub system_identifier: String,
    /// Bytes of the copy.
    pub bytes: u64,
    /// Files of the copy.
    pub files: u64,
    /// From the moment the source's server was told to stop until the target could be started, in seconds; 0 when none ran.
    pub downtime_s: f64,
    /// Whether an earlier run's work was continued.
    pub resumed: bool,
    /// Whether anything was done: a finished migration is not repeated.
    pub changed: bool,
    /// Whether the source was set aside, now or before.
    pub switched_source: bool,
    /// What people should know.
    pub warnings: Vec<String>,
    /// How to go back, a command a line.
    pub undo: Vec<String>,
}

/// Decides what [`migrate`] would do, and touches nothing.
///
/// # Errors
/// The refusals of [`migrate`].
pub fn plan<'a>(source: &'a Cluster, target: &'a Cluster, options: &'a MigrateOptions) -> BoxFuture<'a, Result<MigrationPlan>> {
    Box::pin(async move { Ok(look(source, target, options, Duration::ZERO).await?.0) })
}

/// Moves a cluster from one data directory to another on this machine and sets the source aside, whole but for one name.
/// The target's server is not started. Safe to repeat: what was interrupted is continued, what is done is left alone.
///
/// # Errors
/// `Invalid` for paths that cannot be, tablespaces and strange links; `Conflict` or `Unsafe` when the target holds
/// something, a directory is in use, or consent is needed; `Unavailable` when there is no room. After any error but one
/// between setting the source aside and publishing the copy, the source can be started as before; after that one the next
/// run finishes.
pub fn migrate<'a>(
    source: &'a Cluster,
    target: &'a Cluster,
    options: &'a MigrateOptions,
    progress: &'a Arc<dyn ProgressSink>,
) -> BoxFuture<'a, Result<MigrateReport>> {
    Box::pin(async move {
        // What needs no claim is refused before anything, even a lock file, is made.
        let (first, _) = look(source, target, options, options.stop_timeout).await?;
        if first.action == MigrationAction::Nothing {
            return done_before(&first, target).await;
        }
        ask(&first, options)?;
        let claim = target.directory().claim().await?;
        let _source_claim = if source.path().is_dir() { Some(source.directory().claim().await?) } else { None };
        target.directory().prepare(&claim).await?;
        let (plan, source_facts) = look(source, target, options, Duration::ZERO).await?;
        ask(&plan, options)?;
        for warning in &plan.warnings {
            progress.event(Event::Warning(warning.clone()));
        }
        let mut migration =
            Migration { source, target, options, progress, facts: source_facts, warnings: plan.warnings.clone(), down_since: None };
        match plan.action {
            MigrationAction::Nothing => return done_before(&plan, target).await,
            MigrationAction::Finish => {}
            MigrationAction::Move | MigrationAction::Resume => {
                if let Err(error) = migration.copy_and_switch(&plan).await {
                    migration.tell_if_stopped();
                    return Err(error);
                }
            }
        }
        migration.publish(&plan).await
    })
}

fn ask(plan: &MigrationPlan, options: &MigrateOptions) -> Result<()> {
    match &plan.consent_to {
        Some(action) if !options.consent => Err(Error::ConsentNeeded { action: action.clone(), plan: plan.steps.clone() }),
        _ => Ok(()),
    }
}

/// Looks at both places and decides; the facts of the source come along. A source that may be in use by a server which is
/// not to be seen from here is watched for so long before it is refused.
async fn look(source: &Cluster, target: &Cluster, options: &MigrateOptions, watch: Duration) -> Result<(MigrationPlan, SourceFacts)> {
    let (from, from_own) = (source.path().to_owned(), source.directory().own_folder().clone());
    let (to, to_own) = (target.path().to_owned(), target.directory().own_folder().clone());
    let (etc_root, search) = (options.etc_root.clone(), target.search().clone());
    let (plan, facts) = workers::run(move || {
        let source = SourceFacts::look(&from, &from_own, &etc_root)?;
        let target = TargetFacts::look(&to, &to_own)?;
        let plan = MigrationPlan::decide(&source, &target)?;
        if matches!(plan.action, MigrationAction::Move | MigrationAction::Resume) {
            search.for_cluster(&from, plan.major)?;
        }
        Ok((plan, source))
    })
    .await?;
    if matches!(plan.action, MigrationAction::Move | MigrationAction::Resume) {
        source_server::prove_gone(source, watch).await?;
    }
    Ok((plan, facts))
}

async fn done_before(plan: &MigrationPlan, target: &Cluster) -> Result<MigrateReport> {
    let folder = MigrationFolder::of(target.directory().own_folder());
    let record = workers::run(move || {
        // Killed at its very last step, the run before left its empty folder.
        let _ = durable::remove_directory(&folder.path());
        folder.record()
    })
    .await?;
    Ok(MigrateReport {
        from: plan.from.clone(),
        to: plan.to.clone(),
        system_identifier: plan.system_identifier.clone(),
        bytes: plan.bytes,
        files: plan.files,
        downtime_s: 0.0,
        resumed: false,
        changed: false,
        switched_source: true,
        warnings: Vec::new(),
        undo: record.map(|record| record.undo).unwrap_or_default(),
    })
}

/// One run of a migration, under both claims.
struct Migration<'a> {
    source: &'a Cluster,
    target: &'a Cluster,
    options: &'a MigrateOptions,
    progress: &'a Arc<dyn ProgressSink>,
    facts: SourceFacts,
    warnings: Vec<String>,
    down_since: Option<Instant>,
}

impl Migration<'_> {
    fn folder(&self) -> MigrationFolder {
        MigrationFolder::of(self.target.directory().own_folder())
    }

    fn marker(&self, plan: &MigrationPlan, phase: Phase) -> MigrationMarker {
        MigrationMarker { format: 1, from: plan.from.clone(), system_identifier: plan.system_identifier.clone(), phase }
    }

    fn step(&self, text: impl Into<String>) {
        self.progress.event(Event::Step(text.into()));
    }

    /// Steps 1 to 5.
    async fn copy_and_switch(&mut self, plan: &MigrationPlan) -> Result<()> {
        let copy = self.copy(plan).await?;
        self.set_source_aside(plan, copy).await
    }

    /// Steps 1 to 4.
    async fn copy(&mut self, plan: &MigrationPlan) -> Result<Copy> {
        let (from, folder, marker) = (plan.from.clone(), self.folder(), self.marker(plan, Phase::Copying));
        let (workers, progress) = (self.options.workers, Arc::clone(self.progress));
        let mut copy = workers::run(move || Copy::begin(&from, &folder, &marker, workers, progress)).await?;
        self.step(format!("copying {} files ({} bytes)", plan.files, plan.bytes));
        if let Some(method) = &plan.stop {
            copy = copy.run(|copy| copy.pass()).await?;
            self.checkpoint().await;
            self.step("copying again what changed meanwhile, and comparing");
            copy = copy.run(|copy| copy.pass()).await?;
            copy = copy.run(|copy| copy.compare()).await?;
            self.step(format!("stopping the server with `{}`", method.as_command()));
            self.down_since = Some(Instant::now());
            source_server::stop(self.source, method, &self.options.etc_root, self.options.stop_timeout).await?;
        }
        source_server::ensure_quiet(self.source, self.options.stop_timeout).await?;
        self.step("copying the last changes, and comparing");
        copy = copy.run(|copy| copy.last_pass()).await?;
        source_server::ensure_quiet(self.source, self.options.stop_timeout).await?;
        if let Some(socket) = self.facts.command_line.about_socket() {
            self.step(socket);
        }
        let carried = self.configure(plan).await?;
        if let Some(port) = carried.port.filter(|port| *port != self.target.options().port) {
            self.warn(format!(
                "the source listened on port {port}, and pgpersist will start the new place on port {}: set `[cluster] port = {port}` to keep it",
                self.target.options().port
            ));
        }
        carried.warnings.into_iter().for_each(|warning| self.warn(warning));
        let (folder, marker) = (self.folder(), self.marker(plan, Phase::Switching));
        workers::run(move || {
            durable::sync_tree(&folder.data())?;
            folder.mark(&marker)
        })
        .await?;
        Ok(copy)
    }

    /// Writes what is in memory to the source's files while it still runs: its shutdown then has less to write. Only an
    /// optimisation, so whatever goes wrong is no matter.
    async fn checkpoint(&self) {
        let work = async {
            let session = Session::connect(&self.source.connection("postgres").await?, Duration::from_secs(5)).await?;
            session.execute("write a checkpoint", "CHECKPOINT").await
        };
        let _ = tokio::time::timeout(CHECKPOINT, work).await;
    }

    /// Brings the configuration into the copy, and has PostgreSQL read it.
    async fn configure(&self, plan: &MigrationPlan) -> Result<Carried> {
        let Some(main) = self.facts.configuration.clone() else { return Err(Error::Bug("a plan without configuration".into())) };
        let (from, to, folder) = (plan.from.clone(), plan.to.clone(), self.folder());
        // What pgpersist is configured to set counts for its servers, whatever the source was started with.
        let mut command_line = self.facts.command_line.settings.clone();
        command_line.retain(|(name, _)| !self.target.settings().others.contains_key(name));
        let (settings, search, major) = (self.target.settings(), self.target.search().clone(), plan.major);
        let os_user = self.target.options().os_user.clone();
        let card = IdentityCard {
            format: 1,
            cluster: self.options.cluster_name.clone(),
            system_identifier: plan.system_identifier.parse().map_err(|e| Error::Bug(format!("a system identifier: {e}")))?,
            major,
            databases: self.facts.databases.clone(),
        };
        let own = self.target.directory().own_folder().clone();
        workers::run(move || {
            // What a configuration names is read as whose it is, too: root would read, and give away, any file.
            let data = folder.data();
            let carried = as_owner(&data, || configuration::gather(&main, &from, &command_line)?.write(&data))?;
            settings.install(&folder.data())?;
            validate(&search.for_cluster(&to, major)?, &folder.data(), os_user.as_ref())?;
            card.write(&own)?;
            Ok(carried)
        })
        .await
    }

    /// Step 5. From here on the source does not start any more. It is set aside only as what was copied: a server that cannot
    /// be seen from here, as in another container, is known by what it writes.
    async fn set_source_aside(&self, plan: &MigrationPlan, copy: Copy) -> Result<()> {
        source_server::ensure_quiet(self.source, self.options.stop_timeout).await?;
        let copy = copy.run(|copy| copy.ensure_unchanged()).await?;
        let (control, aside) = (plan.from.join(CONTROL_FILE_PATH), plan.from.join(MIGRATED_CONTROL_FILE));
        let (from, to) = (control.clone(), aside.clone());
        workers::run(move || durable::rename(&from, &to)).await?;
        // Between the last look and the rename somebody may have started a server: it would go on without its control file.
        let quiet = match source_server::ensure_quiet(self.source, Duration::ZERO).await {
            Ok(()) => copy.run(|copy| copy.ensure_unchanged()).await.map(drop),
            Err(error) => Err(error),
        };
        if quiet.is_err() {
            workers::run(move || durable::rename(&aside, &control)).await?;
        }
        quiet
    }

    /// Steps 6 and 7.
    async fn publish(mut self, plan: &MigrationPlan) -> Result<MigrateReport> {
        self.step(format!("putting the copy into place at {}", plan.to.display()));
        let (own, to, from) = (self.target.directory().own_folder().clone(), plan.to.clone(), plan.from.clone());
        workers::run(move || put_into_place(&own, &from, &to)).await?;
        let downtime_s = self.down_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        // A second run finds Debian's configuration by what it was turned to.
        let (etc_root, to) = (self.options.etc_root.clone(), plan.to.clone());
        let debian = match self.facts.debian.take() {
            Some(cluster) => Some(cluster),
            None => workers::run(move || DebianCluster::find(&etc_root, &to)).await?,
        };
        let mut undo = undo(plan, self.target.directory().own_folder().whereabouts());
        if let Some(cluster) = debian {
            let (to, turned) = (plan.to.clone(), cluster.clone());
            if let Err(error) = workers::run(move || turned.point_to(&to)).await {
                let folder = cluster.folder.display();
                self.warn(format!(
                    "{error} ({}): set data_directory = '{}' in {folder}/postgresql.conf and `manual` in {folder}/start.conf by hand",
                    error.causes().join(": "),
                    plan.to.display(),
                ));
            }
            undo.extend(cluster.undo());
        }
        let (bytes, files) =
            if plan.action == MigrationAction::Finish { self.size_of_target(plan).await? } else { (plan.bytes, plan.files) };
        let record = MigrationRecord {
            format: 1,
            from: plan.from.clone(),
            system_identifier: plan.system_identifier.clone(),
            bytes,
            files,
            undo: undo.clone(),
        };
        let folder = self.folder();
        workers::run(move || folder.finish(&record)).await?;
        Ok(MigrateReport {
            from: plan.from.clone(),
            to: plan.to.clone(),
            system_identifier: plan.system_identifier.clone(),
            bytes,
            files,
            downtime_s,
            resumed: plan.action != MigrationAction::Move,
            changed: true,
            switched_source: true,
            warnings: self.warnings,
            undo,
        })
    }

    async fn size_of_target(&self, plan: &MigrationPlan) -> Result<(u64, u64)> {
        let to = plan.to.clone();
        let size = workers::run(move || crate::fs::walk::tree_size(&to)).await?;
        Ok((size.bytes, size.files))
    }

    fn warn(&mut self, warning: String) {
        self.progress.event(Event::Warning(warning.clone()));
        self.warnings.push(warning);
    }

    /// An error after the stop leaves the source down, which nobody should find out by chance.
    fn tell_if_stopped(&mut self) {
        if self.down_since.is_some() {
            let from = self.source.path().display().to_string();
            self.warn(format!("the server in {from} is stopped and its data is untouched: repeat the migration, or start it again"));
        }
    }
}

/// How to go back to the source, a command a line: the new place is made unusable first, then the source usable.
fn undo(plan: &MigrationPlan, whereabouts: Whereabouts) -> Vec<String> {
    let (from, to) = (plan.from.display(), plan.to.display());
    vec![
        format!("pgpersist stop -D {to}"),
        match whereabouts {
            Whereabouts::Beside => format!("mv {to} {to}.undone"),
            Whereabouts::Inside => format!("mv {to}/{CONTROL_FILE_PATH} {to}/{CONTROL_FILE_PATH}.undone"),
        },
        format!("mv {from}/{MIGRATED_CONTROL_FILE} {from}/{CONTROL_FILE_PATH}"),
    ]
}

/// The copying of one run.
struct Copy {
    from: PathBuf,
    folder: MigrationFolder,
    copier: Copier,
    journal: Journal,
}

impl Copy {
    fn begin(
        from: &Path,
        folder: &MigrationFolder,
        marker: &MigrationMarker,
        workers: usize,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<Self> {
        folder.create()?;
        folder.mark(marker)?;
        let owner = facts::owner(from)?;
        let copier = Copier { target: folder.data(), owner, times_are_ours: facts::times_are_ours(from)?, workers, progress };
        let metadata = fs::metadata(from).map_err(|e| Error::file("look at", from, e))?;
        copier.root(crate::migrate::source_tree::folder_mode(&metadata))?;
        Ok(Self { from: from.to_owned(), folder: folder.clone(), journal: Journal::open(&folder.journal())?, copier })
    }

    /// Does one part of the work on a worker.
    async fn run(mut self, work: impl FnOnce(&mut Self) -> Result<()> + Send + 'static) -> Result<Self> {
        workers::run(move || {
            work(&mut self)?;
            Ok(self)
        })
        .await
    }

    fn pass(&mut self) -> Result<()> {
        self.copier.pass(&SourceTree::read(&self.from)?, &mut self.journal)
    }

    /// Compares what was not compared yet, and copies what differs once more: a power cut may have torn a copy that the
    /// journal still knows. What differs twice is no accident.
    fn compare(&mut self) -> Result<()> {
        if self.copier.compare(&mut self.journal)?.is_empty() {
            return Ok(());
        }
        self.pass()?;
        match self.copier.compare(&mut self.journal)?.first() {
            None => Ok(()),
            Some(path) => Err(Error::damaged(
                format!("{} reads back differently from what was written", self.copier.target.join(path).display()),
                "look at the disk of the target (`dmesg`), or choose another; the source is untouched",
            )),
        }
    }

    /// Refuses a source of which anything changed since it was copied; `pg_control` under either of its names.
    fn ensure_unchanged(&mut self) -> Result<()> {
        let mut changed = Copier::first_difference(&SourceTree::read(&self.from)?, &self.journal);
        let copied = read(&self.folder.control_file())?;
        let names = [CONTROL_FILE_PATH, MIGRATED_CONTROL_FILE];
        if !names.iter().any(|name| fs::read(self.from.join(name)).is_ok_and(|bytes| bytes == copied)) {
            changed = Some(CONTROL_FILE_PATH.into());
        }
        match changed {
            None => Ok(()),
            Some(file) => Err(Error::conflict(
                format!("{} changed after it was copied: a server uses it, perhaps in another container", self.from.join(file).display()),
                "stop it there and keep it from being started, and repeat: the migration goes on where it stopped",
            )),
        }
    }

    /// The last pass, while nothing runs: afterwards the copy is the source, but for `pg_control`, which lies apart.
    fn last_pass(&mut self) -> Result<()> {
        let tree = SourceTree::read(&self.from)?;
        self.copier.pass(&tree, &mut self.journal)?;
        self.copier.remove_extra(&tree, &mut self.journal)?;
        self.compare()?;
        let path = self.from.join(CONTROL_FILE_PATH);
        let bytes = read(&path)?;
        ControlFile::parse(&bytes).map_err(|e| {
            Error::damaged(format!("{}: {e}", path.display()), "the source is damaged; migrate what `pgpersist load` can restore")
        })?;
        durable::write(&self.folder.control_file(), &bytes, 0o600)?;
        self.copier.give_away(&self.folder.control_file())
    }
}

/// Gives the copy its `pg_control` and publishes it. Each step is done once, whatever an earlier run did.
fn put_into_place(own: &OwnFolder, from: &Path, to: &Path) -> Result<()> {
    let folder = MigrationFolder::of(own);
    let published = matches!(State::of(to, own)?, State::Cluster(_));
    if published {
        return Ok(());
    }
    let (waiting, control) = (folder.control_file(), folder.data().join(CONTROL_FILE_PATH));
    if waiting.exists() {
        durable::rename(&waiting, &control)?;
    }
    if !control.exists() {
        return Err(Error::damaged(
            format!("the copy in {} has no pg_control", folder.data().display()),
            format!(
                "rename {0}/{MIGRATED_CONTROL_FILE} to {0}/{CONTROL_FILE_PATH}, which makes the source whole again, remove {1}, and repeat",
                from.display(),
                folder.path().display()
            ),
        ));
    }
    staging::publish_folder(to, own, MIGRATE, Path::new(MigrationFolder::DATA))
}

/// Has PostgreSQL itself read the configuration before anything hangs on it.
fn validate(installation: &PostgresInstallation, directory: &Path, os_user: Option<&OsUser>) -> Result<()> {
    let mut command = Command::new(installation.program("postgres")?);
    run_as(&mut command, os_user);
    let output = command
        .args(["-C", "config_file", "-D"])
        .arg(directory)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::file("run", installation.bin_directory().join("postgres"), e))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        program: "postgres -C".to_owned(),
        status: output.status.to_string(),
        said: Said(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        kind: ErrorKind::Invalid,
        remedy: Some("mend the source's configuration, and repeat: the source is untouched".to_owned()),
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e: io::Error| Error::file("read", path, e))
}
