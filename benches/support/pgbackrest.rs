//! The packaged pgBackRest, told where the benches' server is: small files bundled, and no wait for an archive, as ours has none.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::place::{Place, command, run};
use crate::support::server::Server;

/// The section of its configuration that is our server's.
const STANZA: &str = "--stanza=bench";

/// Which one is installed; nothing where none is.
pub(crate) fn version() -> Option<String> {
    let told = Command::new("pgbackrest").arg("version").output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

/// One repository of its own.
#[derive(Debug)]
pub(crate) struct PgBackRest {
    configuration: PathBuf,
    repository: PathBuf,
}

impl PgBackRest {
    /// Configures one that compresses like this, such as `zst` with level 3.
    pub(crate) fn new(place: &Place, server: &Server, compression: &str, level: Option<u32>) -> Self {
        Self::with_processes(place, server, compression, level, 2)
    }

    /// The same with so many processes.
    pub(crate) fn with_processes(place: &Place, server: &Server, compression: &str, level: Option<u32>, processes: u32) -> Self {
        let level = level.map(|level| format!("compress-level={level}\n")).unwrap_or_default();
        let name = format!("pgbackrest-{compression}{}-{processes}", level.trim().trim_start_matches("compress-level="));
        let (repository, locks, configuration) =
            (place.join(&name), place.join(&format!("{name}-locks")), place.join(&format!("{name}.conf")));
        run(command("mkdir").arg(&repository).arg(&locks));
        let mut file = File::create(&configuration).expect("the folder takes a file");
        write!(
            file,
            "[global]\nrepo1-path={}\nrepo1-bundle=y\nlock-path={}\nlog-level-console=off\nlog-level-stderr=warn\nlog-level-file=off\n\
             repo1-retention-full=9999999\nprocess-max={processes}\ncompress-type={compression}\n{level}[bench]\npg1-path={}\npg1-socket-path={}\npg1-user=postgres\n",
            repository.display(),
            locks.display(),
            server.data().display(),
            server.sockets().display(),
        )
        .expect("the disk has room");
        Self { configuration, repository }
    }

    /// Where it keeps its backups.
    pub(crate) fn repository(&self) -> &Path {
        &self.repository
    }

    /// Forgets all backups.
    pub(crate) fn begin_anew(&self) {
        run(command("rm").arg("-rf").arg(&self.repository));
        run(command("mkdir").arg(&self.repository));
        run(&mut self.command(&["stanza-create"]));
    }

    /// A backup of this type: `full`, or `incr` over the last one.
    pub(crate) fn backup(&self, kind: &str) -> Command {
        self.command(&["backup", &format!("--type={kind}"), "--start-fast", "--no-archive-check", "--no-expire-auto"])
    }

    /// A restore into an empty folder.
    pub(crate) fn restore(&self, target: &Path) -> Command {
        let mut restore = self.command(&["restore"]);
        restore.arg(format!("--pg1-path={}", target.display()));
        restore
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut pgbackrest = command("pgbackrest");
        pgbackrest.arg(STANZA).arg(format!("--config={}", self.configuration.display())).args(words);
        pgbackrest
    }
}
