//! PostgreSQL's single-user mode: statements in a cluster without a server. No port, no socket, no log-in, and a
//! checkpoint at the end.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::os_user::OsUser;
use crate::pg::quote;
use crate::server::installation::PostgresInstallation;
use crate::server::lock::ServerLock;
use crate::server::settings::{Profile, directory_arguments};
use crate::server::spawn::{clean_environment, hold_lock, run_as};

/// How to run it in one directory.
#[derive(Debug, Clone)]
pub struct SingleUser {
    /// Whose `postgres`.
    pub installation: PostgresInstallation,
    /// The data directory, which nobody else may use meanwhile.
    pub directory: PathBuf,
    /// The user it runs as, where we are root.
    pub os_user: Option<OsUser>,
    /// A lock that it holds as long as it lives.
    pub lock: Option<Arc<ServerLock>>,
}

impl SingleUser {
    /// Creates those of the databases that do not exist, and returns them. Blocking.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that this mode cannot write; `Unsafe` where a recovery was asked for;
    /// [`Error::Program`] with what `postgres` said.
    pub fn create_missing(&self, databases: &[String]) -> Result<Vec<String>> {
        if databases.is_empty() {
            return Ok(Vec::new());
        }
        // In this mode a statement ends at a semicolon and an empty line, wherever they stand.
        if let Some(name) = databases.iter().find(|name| name.contains(";\n\n") || name.contains('\0') || name.is_empty()) {
            return Err(Error::invalid(
                format!("`{}` cannot be the name of a database", name.escape_debug()),
                "choose another name in `[cluster] databases`",
            ));
        }
        let listing =
            self.run("COPY (SELECT 'database:' || encode(convert_to(datname, 'UTF8'), 'hex') FROM pg_catalog.pg_database) TO STDOUT;\n\n")?;
        // The first row follows the prompt on the same line.
        let existing: Vec<&str> = listing.lines().filter_map(|line| Some(line.trim().split_once("database:")?.1)).collect();
        let missing: Vec<String> = databases.iter().filter(|name| !existing.contains(&hex(name).as_str())).cloned().collect();
        let statements: String = missing.iter().map(|name| format!("CREATE DATABASE {};\n\n", quote::identifier(name))).collect();
        if !statements.is_empty() {
            self.run(&statements)?;
        }
        Ok(missing)
    }

    /// Refuses a directory for which a recovery was asked: this mode would replay to an end that nobody chose, and open a new
    /// timeline.
    ///
    /// # Errors
    /// `Unsafe` with the file that asks for it.
    pub(crate) fn refuse_recovery(&self) -> Result<()> {
        match RECOVERY_SIGNALS.iter().map(|name| self.directory.join(name)).find(|path| path.exists()) {
            None => Ok(()),
            Some(signal) => Err(Error::refused(
                format!("{} asks for a recovery, which no database can be created before", signal.display()),
                "start the server (`pgpersist start`), let the recovery end, and run the same command again",
            )),
        }
    }

    fn run(&self, statements: &str) -> Result<String> {
        self.refuse_recovery()?;
        let program = self.installation.program("postgres")?;
        let mut command = Command::new(&program);
        clean_environment(&mut command);
        hold_lock(&mut command, self.lock.as_ref());
        run_as(&mut command, self.os_user.as_ref());
        let mut child = command
            .args(["--single", "-j"])
            .args(directory_arguments(&self.directory))
            .args(settings())
            .arg("template1")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Error::file("run", &program, e))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A child that died early is told by its exit status, not by the broken pipe.
            let _ = stdin.write_all(statements.as_bytes());
        }
        let output = child.wait_with_output().map_err(|e| Error::file("wait for", &program, e))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let full = said.contains("No space left on device");
        Err(Error::Program {
            program: "postgres --single".to_owned(),
            status: output.status.to_string(),
            said: Said(said.trim().to_owned()),
            kind: if full { ErrorKind::Unavailable } else { ErrorKind::Invalid },
            remedy: None,
        })
    }
}

/// What beats the directory's own files: what is written here must be as durable as what a server writes, and errors are to
/// come to us.
fn settings() -> Vec<OsString> {
    let fixed = [("exit_on_error", "on"), ("log_destination", "stderr"), ("logging_collector", "off")];
    let settings = fixed.iter().chain(Profile::Durable.command_line()).map(|(name, value)| OsString::from(format!("{name}={value}")));
    settings.flat_map(|setting| [OsString::from("-c"), setting]).collect()
}

/// Files by which somebody asked for a recovery; see *Archive Recovery*, PostgreSQL 17.
const RECOVERY_SIGNALS: [&str; 2] = ["recovery.signal", "standby.signal"];

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
