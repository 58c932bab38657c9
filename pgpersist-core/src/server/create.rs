//! Making a new cluster with `initdb`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::os_user::OsUser;
use crate::server::installation::PostgresInstallation;
use crate::server::lock::ServerLock;
use crate::server::root_access;
use crate::server::spawn::{clean_environment, hold_lock, run_as};

/// How a new cluster is made.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The name of its superuser.
    pub superuser: String,
    /// How local connections prove who they are: `peer`, or `trust` for a throw-away cluster in a private folder.
    pub local_authentication: &'static str,
    /// Whether `initdb` syncs what it wrote; the caller does it where this says no.
    pub sync: bool,
    /// The user that `initdb` runs as, where we are root.
    pub os_user: Option<OsUser>,
    /// A lock that `initdb` and all it starts hold as long as one of them lives.
    pub lock: Option<Arc<ServerLock>>,
    /// The size of a WAL segment in MiB, where not the usual 16.
    pub wal_segment_mib: Option<u32>,
}

impl CreateOptions {
    /// For a cluster that is to last: `peer` locally; the caller publishes, and syncs, the directory.
    pub fn durable(superuser: impl Into<String>) -> Self {
        Self { superuser: superuser.into(), local_authentication: "peer", sync: false, os_user: None, lock: None, wal_segment_mib: None }
    }
}

/// Runs `initdb` into an empty directory: data checksums, UTF-8, a sort order that no library upgrade changes, and
/// `scram-sha-256` for TCP. Where we are root, root's own clients may log in as the superuser (see `root_access.rs`). Blocking.
///
/// # Errors
/// [`Error::Program`] with what `initdb` said.
pub fn create(installation: &PostgresInstallation, directory: &Path, options: &CreateOptions) -> Result<()> {
    let mut command = Command::new(installation.program("initdb")?);
    clean_environment(&mut command);
    hold_lock(&mut command, options.lock.as_ref());
    run_as(&mut command, options.os_user.as_ref());
    command.arg("-D").arg(directory).arg("--data-checksums").arg(format!("--username={}", options.superuser));
    command.arg(format!("--auth-local={}", options.local_authentication)).arg("--auth-host=scram-sha-256").arg("--encoding=UTF8");
    command.args(locale_arguments(installation.version().major));
    if let Some(size) = options.wal_segment_mib {
        command.arg(format!("--wal-segsize={size}"));
    }
    if !options.sync {
        command.arg("--no-sync");
    }
    let output = command
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::file("run", installation.bin_directory().join("initdb"), e))?;
    if output.status.success() {
        let of_root = options.local_authentication == "peer" && rustix::process::geteuid().is_root();
        return if of_root { root_access::grant(directory, &options.superuser) } else { Ok(()) };
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let full = said.contains("No space left on device");
    Err(Error::Program {
        program: "initdb".to_owned(),
        status: output.status.to_string(),
        kind: if full { ErrorKind::Unavailable } else { ErrorKind::Denied },
        remedy: full.then(|| "free some space on the volume and run `pgpersist init` again".to_owned()),
        said: Said(said.trim().to_owned()),
    })
}

/// Bytewise order, which no update of the C library or ICU changes, with Unicode's idea of letters. The builtin provider
/// carries that itself since 17; before, the character classes still come with the image.
fn locale_arguments(major: u32) -> Vec<&'static str> {
    match major {
        ..=14 => vec!["--lc-collate=C", "--lc-ctype=C.UTF-8"],
        15 | 16 => vec!["--locale-provider=libc", "--lc-collate=C", "--lc-ctype=C.UTF-8"],
        17.. => vec!["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"],
    }
}
