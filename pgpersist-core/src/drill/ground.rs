//! Where a drill runs: on a cluster made for it, on a copy with everything outward switched off, or, when told so, on the
//! live one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::data_directory::local::LocalDataDirectory;
use crate::drill::Plant;
use crate::drill::copy::{Copied, calm, copy_files, forget_preloads, quiet, refuse_links};
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::durable;
use crate::fs::os_user::OsUser;
use crate::fs::space::Space;
use crate::fs::walk;
use crate::server::cluster::{Cluster, ClusterOptions};
use crate::server::installation::InstallationSearch;
use crate::server::lock;
use crate::server::same_cluster;
use crate::server::session::Session;
use crate::server::settings::Profile;
use crate::server::spawn::run_as;
use crate::temporary::cluster::{TemporaryCluster, TemporaryOptions};
use crate::temporary::scratch::{Afterwards, Scratch};
use crate::workers;

/// How long the server of a live drill may take to answer.
const CONNECT: Duration = Duration::from_secs(30);

/// What a drill is made on.
#[derive(Debug, Clone)]
pub enum Target {
    /// A cluster of its own, made with `initdb` and removed afterwards.
    ThrowAway {
        /// Where PostgreSQL's programs are looked for.
        search: InstallationSearch,
        /// Whom the server runs as, where we are root.
        os_user: Option<OsUser>,
        /// The major version, where it matters.
        major: Option<u32>,
    },
    /// A copy of this cluster, on the same volume, removed afterwards.
    Copy(Cluster),
    /// This cluster itself: all of its sessions end at each kill.
    Live(Cluster),
}

impl Target {
    /// The word that documents use.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ThrowAway { .. } => "throw-away",
            Self::Copy(_) => "copy",
            Self::Live(_) => "live",
        }
    }
}

/// A prepared place. Unless it is live or kept, its server ends and its files go when this is dropped, and also when this
/// process dies.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) cluster: Cluster,
    pub(crate) ledger: PathBuf,
    /// A throw-away cluster.
    made: Option<TemporaryCluster>,
    /// A copy on the source's volume.
    copied: Option<Copied>,
    /// The folder of the ledger, and of a copy's socket.
    scratch: Scratch,
}

impl Ground {
    /// Makes the place ready. Whether a server runs there yet is another question.
    pub(crate) async fn prepare(target: &Target, plant: Option<Plant>) -> Result<Self> {
        match target {
            Target::ThrowAway { search, os_user, major } => throw_away(search.clone(), os_user.clone(), *major, plant).await,
            Target::Copy(source) => copy(source).await,
            Target::Live(cluster) => live(cluster).await,
        }
    }

    /// Whether the ledger lies on another file system than the data.
    pub(crate) fn ledger_is_apart(&self) -> bool {
        device(self.cluster.path()) != device(self.scratch.path())
    }

    /// Ends the servers that were made and lets everything stay. Returns the folder of the data directory, where it is ours.
    pub(crate) async fn keep(self) -> Result<Option<PathBuf>> {
        let Self { made, copied, scratch, .. } = self;
        let kept = match made {
            Some(made) => Some(made.keep().await?),
            None => None,
        };
        workers::run(move || {
            let copied = match copied {
                Some(mut copied) => {
                    copied.undertaker.keep(&copied.folder)?;
                    Some(copied.folder.clone())
                }
                None => None,
            };
            scratch.keep()?;
            Ok(kept.or(copied))
        })
        .await
    }

    /// Ends the servers that were made and removes everything; returns when it is gone.
    pub(crate) async fn clear(self) -> Result<()> {
        let Self { made, copied, scratch, .. } = self;
        if let Some(made) = made {
            made.stop().await?;
        }
        workers::run(move || {
            if let Some(mut copied) = copied {
                copied.undertaker.bury(&copied.folder)?;
            }
            scratch.end()
        })
        .await
    }
}

fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).map(|metadata| metadata.dev()).ok()
}

/// A folder for the ledger: on another file system than the data, where one of the usual folders is.
fn ledger_folder(data: &Path, os_user: Option<&OsUser>) -> Result<Scratch> {
    let apart = ["/var/tmp", "/tmp"].map(Path::new).into_iter().find(|candidate| {
        device(candidate).is_some_and(|other| Some(other) != device(data))
            && rustix::fs::access(*candidate, rustix::fs::Access::WRITE_OK).is_ok()
    });
    Scratch::create(apart, os_user, Afterwards::Remove)
}

async fn throw_away(search: InstallationSearch, os_user: Option<OsUser>, major: Option<u32>, plant: Option<Plant>) -> Result<Ground> {
    let mut settings = vec![
        ("restart_after_crash", "on"),
        // Often enough that kills also meet a checkpoint at work.
        ("checkpoint_timeout", "30s"),
    ];
    if plant == Some(Plant::SynchronousCommitOff) {
        // Else the WAL writer may have come by just before the kill, and there would be nothing to see.
        settings.push(("wal_writer_delay", "10s"));
    }
    let made = TemporaryCluster::start(TemporaryOptions {
        search,
        major,
        os_user: os_user.clone(),
        profile: Profile::Durable,
        settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        ..TemporaryOptions::default()
    })
    .await?;
    let cluster = made.cluster().clone();
    workers::run(move || {
        let scratch = ledger_folder(cluster.path(), os_user.as_ref())?;
        Ok(Ground { ledger: scratch.path().join("ledger"), cluster, made: Some(made), copied: None, scratch })
    })
    .await
}

async fn live(cluster: &Cluster) -> Result<Ground> {
    let path = cluster.path().display();
    if cluster.presence().await?.running().is_none() {
        return Err(Error::unavailable(format!("no server runs in {path}"), "start it with `pgpersist start`"));
    }
    // Else the kills would meet one server, and the writers another.
    let session = Session::connect(&cluster.connection("postgres").await?, CONNECT).await?;
    same_cluster::check(cluster, &session).await?;
    drop(session);
    let cluster = cluster.clone();
    workers::run(move || {
        if !lock::is_held(cluster.directory().as_ref())? {
            return Err(Error::conflict(
                format!("a server that pgpersist did not start runs in {}", cluster.path().display()),
                "stop it with `pgpersist stop`, then `pgpersist start`: else nobody could safely start it again after the kill",
            ));
        }
        let scratch = ledger_folder(cluster.path(), cluster.options().os_user.as_ref())?;
        Ok(Ground { ledger: scratch.path().join("ledger"), cluster, made: None, copied: None, scratch })
    })
    .await
}

async fn copy(source: &Cluster) -> Result<Ground> {
    let path = source.path();
    source.directory().state().await?.into_cluster(path)?;
    for signal in ["standby.signal", "recovery.signal"] {
        if path.join(signal).exists() {
            return Err(Error::conflict(
                format!("{} is a standby or in recovery ({signal})", path.display()),
                "drill a copy of its primary",
            ));
        }
    }
    let mut tablespaces = fs::read_dir(path.join("pg_tblspc")).map_err(|e| Error::file("list", path.join("pg_tblspc"), e))?;
    if tablespaces.next().is_some() {
        return Err(Error::conflict(
            format!("{} has tablespaces, which a drill does not copy", path.display()),
            "run the drill on a throw-away cluster, without `--copy`",
        ));
    }
    let running = source.presence().await?.running().is_some();
    // Nobody may start a stopped source while it is being copied.
    let claim = if running { None } else { Some(source.directory().claim().await?) };
    let installation = source.installation().await?;
    let connection = if running { Some(source.connection("postgres").await?) } else { None };
    let (source, major) = (source.clone(), installation.version().major);
    workers::run(move || {
        let _claim = claim;
        let volume = source.directory().own_folder();
        volume.create()?;
        refuse_links(source.path())?;
        let needed = walk::tree_size(source.path())?.bytes;
        let free = Space::of(volume.path())?.free_bytes;
        if free < needed + needed / 10 {
            return Err(Error::unavailable(
                format!("a copy of {} needs {needed} bytes, and its volume has {free} free", source.path().display()),
                "free some space, or run the drill on a throw-away cluster, without `--copy`",
            ));
        }
        let os_user = source.options().os_user.clone();
        // It holds the socket too: the path of a volume may be too long for one.
        let scratch = ledger_folder(volume.path(), os_user.as_ref())?;
        scratch.give_to(os_user.as_ref())?;
        let copied = Copied::create(volume.path(), os_user.as_ref())?;
        let folder = copied.folder.clone();
        let (data, outward) = (folder.join("data"), quiet(&folder, major));
        let options = ClusterOptions {
            port: 5432,
            log_directory: None,
            password: None,
            host: None,
            socket_directory: Some(scratch.path().to_owned()),
            command_line: outward.clone(),
            ..source.options().clone()
        };
        let cluster = Cluster::new(Arc::new(LocalDataDirectory::open(&data)?), source.search().clone(), options);
        let ground = Ground { ledger: scratch.path().join("ledger"), cluster, made: None, copied: Some(copied), scratch };
        match connection {
            None => copy_files(source.path(), &data, os_user.as_ref())?,
            Some(connection) => {
                let program = installation.program("pg_basebackup")?;
                let mut command = Command::new(&program);
                run_as(&mut command, os_user.as_ref());
                command.arg("-D").arg(&data).args(["-X", "stream", "-c", "fast", "--no-sync", "--no-password", "-d"]);
                command.arg(connection.conninfo()).envs(connection.environment()).env("LC_ALL", "C").stdin(Stdio::null());
                let output = command.output().map_err(|e| Error::file("run", &program, e))?;
                if !output.status.success() {
                    return Err(Error::Program {
                        program: "pg_basebackup".to_owned(),
                        status: output.status.to_string(),
                        said: Said(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                        kind: ErrorKind::Unavailable,
                        remedy: Some(
                            "stop the server and copy it then, or let this role replicate (pg_hba.conf, max_wal_senders)".to_owned(),
                        ),
                    });
                }
            }
        }
        durable::write(&folder.join("pg_hba.conf"), b"local all all trust\n", 0o600)?;
        durable::write(&folder.join("pg_ident.conf"), b"", 0o600)?;
        calm(&data, &outward)?;
        forget_preloads(&installation, &data, &outward, os_user.as_ref())?;
        Ok(ground)
    })
    .await
}
