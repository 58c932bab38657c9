//! What can happen ([`Error`]), what the caller can do about it ([`ErrorKind`]), and the next step ([`Error::remedy`]).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::pg::version::ServerVersion;

/// A result whose error is pgpersist's own.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error. The command line's exit codes follow this and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing asked for does not exist: look at what does.
    NotFound,
    /// Something else stands in the way: remove it, or choose another place.
    Conflict,
    /// It may work later: the server is down, a port is taken, the disk is full, a deadline passed.
    Unavailable,
    /// The operating system or the server forbids it: change permissions.
    Denied,
    /// The request itself is wrong: arguments, configuration, or an input that is not what it should be.
    Invalid,
    /// Stored data is not what was written: use another copy.
    Damaged,
    /// We refuse, since going on could lose data: the remedy says how to insist.
    Unsafe,
    /// The caller stopped it.
    Cancelled,
    /// A defect of pgpersist itself: report it.
    Bug,
}

impl ErrorKind {
    /// The word that JSON documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Damaged => "damaged",
            Self::Unsafe => "unsafe",
            Self::Cancelled => "cancelled",
            Self::Bug => "bug",
        }
    }
}

/// What happened, with everything needed to act on it. `Display` says one fact and never repeats the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried, as in "could not `read` FILE".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// An argument, option or input is wrong.
    #[error("{what}")]
    Invalid {
        /// What is wrong, where, and what was expected.
        what: String,
        /// The next step.
        remedy: Option<String>,
    },

    /// A configuration key or value is wrong.
    #[error("{place}: {reason}")]
    Config {
        /// File and key, or the environment variable.
        place: String,
        /// What is wrong with it.
        reason: String,
        /// The next step, such as the nearest known key.
        remedy: Option<String>,
    },

    /// Something that was named does not exist.
    #[error("{what}")]
    NotFound {
        /// What was looked for, and where.
        what: String,
        /// The next step.
        remedy: Option<String>,
    },

    /// Something else stands in the way.
    #[error("{what}")]
    Conflict {
        /// What stands where.
        what: String,
        /// The next step.
        remedy: Option<String>,
    },

    /// Going on could lose data.
    #[error("{what}")]
    Unsafe {
        /// What is refused, and why.
        what: String,
        /// How to insist, or what to do instead.
        remedy: Option<String>,
    },

    /// An operation destroys or moves something and was not confirmed.
    #[error("{action} needs a confirmation")]
    ConsentNeeded {
        /// What would be done.
        action: String,
        /// The steps, one a line.
        plan: Vec<String>,
    },

    /// Something is not there now and may be later.
    #[error("{what}")]
    Unavailable {
        /// What is not available.
        what: String,
        /// The next step.
        remedy: Option<String>,
    },

    /// The operating system or the server forbids it.
    #[error("{what}")]
    Denied {
        /// What was refused, and to whom.
        what: String,
        /// The next step.
        remedy: Option<String>,
    },

    /// The store keeps an object as it is, by a lock, a retention period or a hold: no credentials of ours change that.
    #[error("{what}: it is locked there{}", until_text(*until))]
    Locked {
        /// What was tried, where.
        what: String,
        /// Until when, where the store tells.
        until: Option<OffsetDateTime>,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Stored bytes are not what they should be.
    #[error("{what}")]
    Damaged {
        /// Which object, what was expected, what was found.
        what: String,
        /// The next step.
        remedy: Option<String>,
    },

    /// A wait ended without what it waited for.
    #[error("{what} within {} s", after.as_secs_f64())]
    Deadline {
        /// As in "the server was not ready `within 60 s`".
        what: String,
        /// The deadline.
        after: Duration,
        /// The next step.
        remedy: Option<String>,
    },

    /// The data directory was made by another major version than the programs at hand.
    #[error("{} was made by PostgreSQL {cluster_major}, and the programs at hand are {programs}", directory.display())]
    WrongMajor {
        /// The data directory.
        directory: PathBuf,
        /// The major version in its `PG_VERSION`.
        cluster_major: u32,
        /// The versions that were found, for people.
        programs: String,
    },

    /// No PostgreSQL programs that fit.
    #[error("found no PostgreSQL {wanted}")]
    InstallationNotFound {
        /// The version that was wanted, such as `15`, or `14 to 18`.
        wanted: String,
        /// Every place that was tried, and why it did not fit.
        tried: Vec<String>,
    },

    /// A program ended with an error.
    #[error("{program} failed ({status})")]
    Program {
        /// Which program, such as `initdb`.
        program: String,
        /// How it ended, such as `exit status: 1`.
        status: String,
        /// The last lines it wrote to stderr.
        #[source]
        said: Said,
        /// What that means for the caller.
        kind: ErrorKind,
        /// The next step.
        remedy: Option<String>,
    },

    /// The server said no.
    #[error("could not {action}")]
    Sql {
        /// What was tried, as in "could not `count the rows of orders`".
        action: String,
        /// What the server or the connection said.
        source: tokio_postgres::Error,
    },

    /// The server did not start.
    #[error("the server did not start in {}", directory.display())]
    ServerStart {
        /// The data directory.
        directory: PathBuf,
        /// What it means for the caller: a port in use is not a damaged cluster.
        kind: ErrorKind,
        /// The last lines of the server's log.
        #[source]
        log: Said,
        /// The next step.
        remedy: Option<String>,
    },

    /// The two versions cannot work together, as when `pg_dump` is older than the server.
    #[error("{program} is version {program_version}, and {other} is version {other_version}")]
    VersionMismatch {
        /// Which program.
        program: String,
        /// Its version.
        program_version: ServerVersion,
        /// What it must serve, such as `the server`.
        other: String,
        /// Its version.
        other_version: ServerVersion,
        /// The next step.
        remedy: Option<String>,
    },

    /// Of several databases some were not dumped.
    #[error("not dumped: {}; dumped: {}", quoted(missing), if made.is_empty() { "none".to_owned() } else { made.join(", ") })]
    NotAllDumped {
        /// The databases that have no dump of this run.
        missing: Vec<String>,
        /// Those that have one, each with its dump, for people.
        made: Vec<String>,
        /// Why the first one has none.
        source: Box<Error>,
    },

    /// Code from outside failed: for those who implement a store, a check or another trait of ours, and have errors of their own.
    #[error("{what}")]
    External {
        /// What failed, such as "the store `Bucket` failed in `put`".
        what: String,
        /// What that means for the caller. Only the implementor knows; it is part of each trait's contract.
        kind: ErrorKind,
        /// The next step.
        remedy: Option<String>,
        /// The implementor's own error; whoever knows its type finds it again by `downcast_ref`.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The caller stopped it.
    #[error("{what} was cancelled")]
    Cancelled {
        /// What was going on.
        what: String,
    },

    /// A defect of pgpersist.
    #[error("internal error: {0}")]
    Bug(String),
}

/// The last lines that a program or a server wrote: the cause of an error as its author told it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.trim_end())]
pub struct Said(pub String);

impl Error {
    /// A failed file operation; `action` completes "could not …".
    pub fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    /// A wrong argument or input.
    pub fn invalid(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), remedy: some(remedy) }
    }

    /// Something that does not exist.
    pub fn not_found(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::NotFound { what: what.into(), remedy: some(remedy) }
    }

    /// Something in the way.
    pub fn conflict(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Conflict { what: what.into(), remedy: some(remedy) }
    }

    /// A refusal, since going on could lose data.
    pub fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unsafe { what: what.into(), remedy: some(remedy) }
    }

    /// Something that may be there later.
    pub fn unavailable(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unavailable { what: what.into(), remedy: some(remedy) }
    }

    /// Something forbidden.
    pub fn denied(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Denied { what: what.into(), remedy: some(remedy) }
    }

    /// Damaged data.
    pub fn damaged(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), remedy: some(remedy) }
    }

    /// A statement that failed; `action` completes "could not …".
    pub fn sql(action: impl Into<String>, source: tokio_postgres::Error) -> Self {
        Self::Sql { action: action.into(), source }
    }

    /// A failure of code from outside, for those who implement a trait of this library.
    pub fn external(
        what: impl Into<String>,
        kind: ErrorKind,
        remedy: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::External { what: what.into(), kind, remedy: some(remedy), source: source.into() }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } => io_kind(source),
            Self::Invalid { .. } | Self::Config { .. } => ErrorKind::Invalid,
            Self::NotFound { .. } | Self::InstallationNotFound { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } | Self::VersionMismatch { .. } | Self::WrongMajor { .. } => ErrorKind::Conflict,
            Self::Unsafe { .. } | Self::ConsentNeeded { .. } => ErrorKind::Unsafe,
            Self::Unavailable { .. } | Self::Deadline { .. } => ErrorKind::Unavailable,
            Self::Denied { .. } | Self::Locked { .. } => ErrorKind::Denied,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Program { kind, .. } | Self::ServerStart { kind, .. } | Self::External { kind, .. } => *kind,
            Self::Sql { source, .. } => sql_kind(source),
            Self::NotAllDumped { source, .. } => source.kind(),
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Bug(_) => ErrorKind::Bug,
        }
    }

    /// The next step, where we know one.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Invalid { remedy, .. }
            | Self::NotFound { remedy, .. }
            | Self::Conflict { remedy, .. }
            | Self::Unsafe { remedy, .. }
            | Self::Unavailable { remedy, .. }
            | Self::Denied { remedy, .. }
            | Self::Damaged { remedy, .. }
            | Self::Deadline { remedy, .. }
            | Self::Program { remedy, .. }
            | Self::ServerStart { remedy, .. }
            | Self::External { remedy, .. }
            | Self::VersionMismatch { remedy, .. } => remedy.clone(),
            Self::NotAllDumped { source, .. } => match source.kind() {
                ErrorKind::NotFound => {
                    Some("create the databases that are missing with `pgpersist init`, or take them out of the configuration".to_owned())
                }
                _ => source.remedy(),
            },
            Self::ConsentNeeded { .. } => Some("read the plan and repeat the command with `--yes`".to_owned()),
            Self::Config { remedy, .. } => {
                Some(remedy.clone().unwrap_or_else(|| "`pgpersist config example` shows every key and what it takes".to_owned()))
            }
            Self::File { source, .. } => file_remedy(source).map(str::to_owned),
            Self::WrongMajor { cluster_major, .. } => Some(format!(
                "install PostgreSQL {cluster_major} (Debian: `apt-get install postgresql-{cluster_major}`), or move the data with `pgpersist dump` under {cluster_major} and `pgpersist load` into a new cluster"
            )),
            Self::InstallationNotFound { tried, .. } => Some(format!(
                "install it (Debian: `apt-get install postgresql`), or set `[cluster] bin_directory` or `PG_CONFIG`; tried: {}",
                if tried.is_empty() { "nothing".to_owned() } else { tried.join("; ") }
            )),
            Self::Sql { source, .. } => sql_remedy(source).map(str::to_owned),
            Self::Bug(_) => Some("please report this with the output of `pgpersist --verbose …`".to_owned()),
            Self::Locked { until, .. } => Some(match until {
                Some(_) => "wait until then: `pgpersist prune` drops it the next time that it may".to_owned(),
                None => {
                    "look at the locks, holds and retention of the bucket: `pgpersist prune` drops it the next time that it may".to_owned()
                }
            }),
            Self::Cancelled { .. } => None,
        }
    }

    /// The causes below this error, nearest first, as people read them.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some libraries repeat their source in their own text: a chain is read once.
            // The driver says "db error" above what the server said.
            if !text.is_empty() && text != "db error" && causes.last().is_none_or(|last: &String| !last.contains(&text)) {
                causes.push(text);
            }
            source = cause.source();
        }
        causes
    }
}

/// " until 2026-11-30T18:00:00Z", or nothing.
fn until_text(until: Option<OffsetDateTime>) -> String {
    until.and_then(|until| until.format(&Rfc3339).ok()).map(|until| format!(" until {until}")).unwrap_or_default()
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn some(remedy: impl Into<String>) -> Option<String> {
    let remedy = remedy.into();
    (!remedy.is_empty()).then_some(remedy)
}

/// What the standard library has no stable word for; see *errno(3)*.
mod errno {
    pub(super) const EIO: i32 = 5;
    pub(super) const ENXIO: i32 = 6;
    pub(super) const ENODEV: i32 = 19;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const ENAMETOOLONG: i32 = 36;
    pub(super) const ELOOP: i32 = 40;
    pub(super) const ESHUTDOWN: i32 = 108;
    pub(super) const EREMOTEIO: i32 = 121;
}

fn io_kind(error: &io::Error) -> ErrorKind {
    use errno::{EIO, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENODEV, ENXIO, EREMOTEIO, ESHUTDOWN};
    match error.raw_os_error() {
        Some(EIO | ENXIO | ENODEV | ENFILE | EMFILE | ESHUTDOWN | EREMOTEIO) => return ErrorKind::Unavailable,
        Some(ELOOP | ENAMETOOLONG) => return ErrorKind::Invalid,
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => ErrorKind::Conflict,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
            ErrorKind::Invalid
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ErrorKind::Damaged,
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::TimedOut
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::StaleNetworkFileHandle
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::ResourceBusy => ErrorKind::Unavailable,
        _ => ErrorKind::Denied,
    }
}

fn file_remedy(error: &io::Error) -> Option<&'static str> {
    use errno::{EIO, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENODEV, ENXIO, EREMOTEIO};
    match error.raw_os_error() {
        Some(EIO | ENXIO | ENODEV | EREMOTEIO) => {
            return Some("the disk or the way to it fails: look in `dmesg`, and copy what can still be read");
        }
        Some(EMFILE | ENFILE) => return Some("raise the limit of open files (`ulimit -n`), or close other programs"),
        Some(ELOOP) => return Some("symbolic links of this path lead in a circle: name the real place"),
        Some(ENAMETOOLONG) => return Some("name a shorter path"),
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space on that file system and run the same command again; nothing was left half-done")
        }
        io::ErrorKind::StaleNetworkFileHandle
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => {
            Some("the network file system does not answer: see that its server runs, and mount it again")
        }
        io::ErrorKind::OutOfMemory => Some("the machine has no memory left for this: end other programs, or raise the limit"),
        io::ErrorKind::ReadOnlyFilesystem => Some("remount the file system read-write, or look in `dmesg` why it became read-only"),
        io::ErrorKind::NotFound => Some("check the path, and whether its volume is mounted"),
        io::ErrorKind::PermissionDenied => {
            Some("run as the user who owns it, or change its owner; started as root, pgpersist works as `[cluster] os_user`")
        }
        io::ErrorKind::NotADirectory => Some("a part of this path is a file; name a directory"),
        _ => None,
    }
}

fn sql_kind(error: &tokio_postgres::Error) -> ErrorKind {
    use tokio_postgres::error::SqlState;
    match error.code() {
        Some(code)
            if code == &SqlState::INVALID_CATALOG_NAME || code == &SqlState::UNDEFINED_TABLE || code == &SqlState::UNDEFINED_OBJECT =>
        {
            ErrorKind::NotFound
        }
        Some(code) if code == &SqlState::DUPLICATE_DATABASE || code == &SqlState::OBJECT_IN_USE => ErrorKind::Conflict,
        Some(code)
            if code == &SqlState::INVALID_PASSWORD
                || code == &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                || code == &SqlState::INSUFFICIENT_PRIVILEGE =>
        {
            ErrorKind::Denied
        }
        Some(code) if matches!(code.code().get(..2), Some("08" | "53" | "57")) => ErrorKind::Unavailable,
        Some(code) if matches!(code.code().get(..2), Some("58" | "XX")) => ErrorKind::Damaged,
        Some(_) => ErrorKind::Invalid,
        // The driver itself gives up when a password is asked for and there is none.
        None if std::error::Error::source(error).is_some_and(|source| source.to_string().contains("password missing")) => ErrorKind::Denied,
        // No answer of the server at all: the connection failed or broke.
        None => ErrorKind::Unavailable,
    }
}

fn sql_remedy(error: &tokio_postgres::Error) -> Option<&'static str> {
    if error.code() == Some(&tokio_postgres::error::SqlState::INVALID_CATALOG_NAME) {
        return Some("`psql -l` lists the databases; upper and lower case count");
    }
    if error.as_db_error().is_some_and(|said| said.message().contains("eer authentication failed")) {
        return Some(
            "become the user of the role's own name (`[cluster] os_user` where pgpersist is root), or map your user to it: `local all all peer map=NAME` in pg_hba.conf and `NAME YOUR_USER ROLE` in pg_ident.conf",
        );
    }
    match sql_kind(error) {
        ErrorKind::Unavailable => Some("look at `pgpersist status`, and start the server with `pgpersist start`"),
        ErrorKind::Denied => Some("check PGUSER and the password (PGPASSWORD or ~/.pgpass), or let this user in by pg_hba.conf"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
