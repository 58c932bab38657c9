//! `temp`: a throw-away cluster for a command, a shell, or whoever reads its address.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::json;
use tokio::process::Command;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::context::Context;
use crate::exit::{self, Exit};
use crate::runtime;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::progress::{Event, ProgressSink};
use pgpersist_core::server::connection::ConnectionOptions;
use pgpersist_core::server::settings::Profile;
use pgpersist_core::temporary::cluster::{TemporaryCluster, TemporaryOptions};
use pgpersist_core::temporary::scratch::Afterwards;

const DATABASE: &str = "postgres";
/// What a client of libpq would take from its environment and find another server by.
const OTHERS: [&str; 14] = [
    "PGHOSTADDR",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLMODE",
    "PGSSLNEGOTIATION",
    "PGREQUIRESSL",
    "PGREQUIREAUTH",
    "PGCHANNELBINDING",
    "PGGSSENCMODE",
    "PGTARGETSESSIONATTRS",
    "PGOPTIONS",
    "PGDATA",
];

/// Start a throw-away cluster, for a command or a shell
///
/// With a COMMAND, the command finds the cluster by PGHOST, PGPORT, PGUSER, PGDATABASE (with --tcp also PGPASSWORD) and
/// DATABASE_URL, and its exit code is passed on (128 + n when signal n ended it, 127 when there is no such command). On a
/// terminal without a COMMAND, a shell is started in the same way. Else these variables are written to stdout, as lines for a
/// shell or with --json as a document, and the cluster stays until SIGINT, SIGTERM or SIGHUP; when stdin is a pipe, also until
/// its other end is closed. Whatever ends it, even SIGKILL: the server is ended and its files are removed.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  pgpersist temp -- pytest\n  pgpersist temp --tcp --postgres-version 16 -- sh -c 'psql \"$DATABASE_URL\" -c \"SELECT version()\"'"
)]
pub(crate) struct Args {
    /// The major version; else the one of PG_CONFIG or PATH, else the newest found
    #[arg(long, value_name = "N")]
    postgres_version: Option<u32>,
    /// Also listen on a free port of 127.0.0.1, with a random password; else only on a socket that nobody else can reach
    #[arg(long)]
    tcp: bool,
    /// Keep what a crash of the server leaves: fsync and full_page_writes stay on
    #[arg(long)]
    durable: bool,
    /// Stop the server at the end and keep its files, for a look at them
    #[arg(long)]
    keep: bool,
    /// What to run, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let options = options(args, context)?;
    if context.common.dry_run {
        let kind = if args.durable { "durable" } else { "volatile" };
        let mut plan = vec![format!("make and start a {kind} cluster in the temporary folder")];
        plan.extend(args.command.first().map(|program| format!("run {}", program.display())));
        plan.push(if args.keep { "stop its server and keep its files" } else { "end its server and remove its files" }.to_owned());
        return context
            .output
            .write(|| json!({ "plan": plan }), || plan.iter().map(|step| format!("{step}\n")).collect())
            .map(|()| Exit::DONE);
    }
    let interactive = args.command.is_empty() && !context.common.wants_json() && io::stdin().is_terminal() && io::stdout().is_terminal();
    let command = match (&args.command[..], interactive) {
        ([], false) => None,
        ([], true) => Some(Run { words: vec![shell()], is_shell: true }),
        (words, _) => Some(Run { words: words.to_vec(), is_shell: false }),
    };
    runtime::uninterrupted(async {
        let mut signals = Signals::listen()?;
        let cluster = tokio::select! {
            cluster = TemporaryCluster::start(options) => cluster?,
            _ = signals.next() => return Err(Error::Cancelled { what: "`temp`".to_owned() }),
        };
        let environment = environment(&cluster);
        if command.is_none() || context.common.wants_json() {
            tell(context, &cluster, &environment)?;
        }
        let result = match &command {
            Some(command) => command.run(&environment, &mut signals, context).await,
            None => {
                context.progress.event(Event::Step("the cluster stays until this process ends (Ctrl-C)".to_owned()));
                wait(&mut signals).await;
                Ok(Exit::DONE)
            }
        };
        let folder = cluster.folder().to_owned();
        if let Err(error) = cluster.stop().await {
            let told = format!("{error}: {}", error.causes().join(": "));
            // The exit code is the command's, where there is one.
            if command.is_some() { context.progress.mention(&told) } else { context.progress.warn(&told) }
        } else if args.keep {
            context.progress.event(Event::Step(format!("kept in {}", folder.display())));
        }
        result
    })
}

fn options(args: &Args, context: &Context) -> Result<TemporaryOptions> {
    let name = &context.config()?.cluster.os_user.value;
    let os_user = if rustix::process::geteuid().is_root() { OsUser::lookup(name)? } else { None };
    Ok(TemporaryOptions {
        search: configured::cluster::search(context.config()?),
        major: args.postgres_version,
        profile: if args.durable { Profile::Durable } else { Profile::Ephemeral },
        tcp: args.tcp,
        afterwards: if args.keep { Afterwards::Keep } else { Afterwards::Remove },
        os_user,
        ..TemporaryOptions::default()
    })
}

/// What tells a client where the cluster is.
fn environment(cluster: &TemporaryCluster) -> Vec<(&'static str, String)> {
    let ConnectionOptions { host, port, user, database, password, .. } = cluster.connection(DATABASE);
    let mut variables = vec![("PGHOST", host.as_text()), ("PGPORT", port.to_string()), ("PGUSER", user), ("PGDATABASE", database)];
    variables.extend(password.map(|password| ("PGPASSWORD", password.expose().clone())));
    variables.push(("DATABASE_URL", cluster.url(DATABASE).expose().clone()));
    variables
}

fn tell(context: &Context, cluster: &TemporaryCluster, environment: &[(&'static str, String)]) -> Result<()> {
    let connection = cluster.connection(DATABASE);
    context.output.write(
        || {
            json!({
                "host": connection.host.as_text(),
                "port": connection.port,
                "user": connection.user,
                "database": connection.database,
                "url": cluster.url(DATABASE).expose(),
                "data_directory": cluster.cluster().path(),
                "socket_directory": cluster.socket_directory(),
                "version": cluster.installation().version().to_string(),
            })
        },
        || environment.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect(),
    )
}

/// A value as one word of any shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn shell() -> OsString {
    std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())
}

/// A program to be run beside the cluster.
struct Run {
    words: Vec<OsString>,
    is_shell: bool,
}

impl Run {
    async fn run(&self, environment: &[(&'static str, String)], signals: &mut Signals, context: &Context) -> Result<Exit> {
        let Some((program, arguments)) = self.words.split_first() else { return Ok(Exit::DONE) };
        if self.is_shell {
            context.progress.event(Event::Step(format!("{} with a throw-away cluster; `exit` removes it", program.display())));
        }
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        for name in OTHERS {
            command.env_remove(name);
        }
        command.envs(environment.iter().map(|(name, value)| (name, OsStr::new(value))));
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ok(not_run(program, error, context)),
        };
        // A terminal sends its own signals to the child as well as to us; others send theirs to us alone.
        let terminal = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(|e| Error::file("wait for", program, e))?,
                received = signals.next() => {
                    let sent = match received {
                        Signal::INT | Signal::QUIT if terminal => None,
                        // An interactive shell ignores what usually ends a program.
                        Signal::TERM if self.is_shell => Some(Signal::HUP),
                        other => Some(other),
                    };
                    if let (Some(signal), Some(pid)) = (sent, pid) {
                        // One that has just ended needs none.
                        let _ = rustix::process::kill_process(pid, signal);
                    }
                }
            }
        };
        Ok(Exit(code(status)))
    }
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// As shells, `env` and `nice` do: 127 for a program that is not there, 126 for one that cannot be run.
fn not_run(program: &OsStr, error: io::Error, context: &Context) -> Exit {
    let absent = error.kind() == io::ErrorKind::NotFound;
    exit::report(&Error::file("run", program, error), context.common.wants_json(), &[]);
    Exit(if absent { 127 } else { 126 })
}

/// Waits for the signal, or the end of whoever started us, that ends a cluster without a command.
async fn wait(signals: &mut Signals) {
    let (closed, mut other_end) = tokio::sync::mpsc::channel::<()>(1);
    let stdin = std::fs::metadata("/dev/stdin").map(|stdin| stdin.file_type());
    let keep_open = if stdin.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) {
        // A thread of its own, since nothing can end a read of stdin that waits; the end of the process does.
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while io::stdin().read(&mut buffer).is_ok_and(|length| length > 0) {}
            drop(closed);
        });
        None
    } else {
        // A file or /dev/null, as a shell gives it to what runs in the background, says nothing by its end.
        Some(closed)
    };
    loop {
        tokio::select! {
            received = signals.next() => if !matches!(received, Signal::USR1 | Signal::USR2) { break },
            _ = other_end.recv() => break,
        }
    }
    drop(keep_open);
}

/// The signals that mean something to us or to the command.
struct Signals {
    interrupt: Stream,
    quit: Stream,
    terminate: Stream,
    hangup: Stream,
    user1: Stream,
    user2: Stream,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|e| Error::Bug(format!("could not listen to signals: {e}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.user1.recv() => Signal::USR1,
            _ = self.user2.recv() => Signal::USR2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_of_a_shell() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_signal_becomes_a_code() {
        assert_eq!((code(ExitStatus::from_raw(7 << 8)), code(ExitStatus::from_raw(9)), code(ExitStatus::from_raw(0))), (7, 137, 0));
    }
}
