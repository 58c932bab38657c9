//! `load`: a dump becomes a database, all or nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::progress::count;
use crate::{cluster, database, runtime, store};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::logical::load::load;
use pgpersist_core::logical::load_options::{DumpSource, Existing, Expected, LoadOptions, LoadReport, LoadedOwners, OtherSessions, Trust};
use pgpersist_core::logical::name::SIDE_FILE_SUFFIX;
use pgpersist_core::logical::object_reader::ObjectReader;
use pgpersist_core::logical::shelf::{DumpEntry, Shelf};
use pgpersist_core::logical::side_file::SideFile;
use pgpersist_core::pg::quote;
use pgpersist_core::progress::ProgressSink;
use pgpersist_core::server::clients;
use pgpersist_core::store::ObjectKey;
use pgpersist_core::workers;

/// Load a dump into a database, all or nothing
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist load latest -d customerInvoice --store /app/backups/postgres")]
pub(crate) struct Args {
    /// A dump's name in the store, `latest`, the path of a file (with a `/` in it), or `-` for standard input
    #[arg(value_name = "NAME")]
    name: String,
    /// The database to make; else the one that the dump was made of
    #[arg(short = 'd', long, value_name = "DATABASE", allow_hyphen_values = true, value_parser = database::parse)]
    database: Option<String>,
    /// Replace a database that holds something: it is renamed and kept; needs --yes
    #[arg(long)]
    clean: bool,
    /// End other sessions of the database that is replaced
    #[arg(long)]
    disconnect: bool,
    /// Run the dump's SQL as the superuser, and leave to superusers what it gives them: it can then do whatever it likes on this machine
    #[arg(long)]
    trust: bool,
    /// Everything belongs to the database's owner, and nothing is granted: for servers without the dump's roles
    #[arg(long)]
    no_owner: bool,
    /// Load into this cluster's locale where the dump's is another; the order of texts may change
    #[arg(long)]
    accept_locale: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let cluster = cluster::open(context)?;
    let progress = context.progress.clone();
    let report = runtime::block_on("`load`", async {
        let Found { source, database: recorded, trust } = source(args, context).await?;
        let database = args.database.clone().or(recorded).or_else(|| single_database(context)).ok_or_else(|| {
            Error::invalid(
                format!("nothing tells which database `{}` was made of", args.name),
                "say with `-d DATABASE` which database to make",
            )
        })?;
        let plan = vec![
            format!("load {} into a new database", source.name),
            "compare its rows with what was recorded".to_owned(),
            format!("rename the database {database}, if it holds something, to {database}_before_… and keep it"),
            format!("give the new database the name {database}"),
        ];
        if context.common.dry_run {
            return Ok(Done::Planned(plan));
        }
        if args.clean {
            context.consent("`load --clean`", plan)?;
        }
        let connection = cluster.connection("postgres").await?;
        let psql = clients::directory(&cluster, &connection, "psql").await?.join("psql");
        let options = LoadOptions {
            existing: if args.clean { Existing::KeepAside } else { Existing::Refuse },
            other_sessions: if args.disconnect { OtherSessions::Disconnect } else { OtherSessions::Refuse },
            trust: if args.trust { Trust::Superuser } else { trust },
            owners: if args.no_owner { LoadedOwners::DatabaseOwner } else { LoadedOwners::AsDumped },
            accept_locale: args.accept_locale,
            ..LoadOptions::new(connection, psql, database)
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sink: Arc<dyn ProgressSink> = progress;
        load(&options, source, &clock, &sink).await.map(Done::Loaded)
    })
    .inspect_err(|error| cluster::explain_denial(error, context))?;
    match report {
        Done::Planned(plan) => context
            .output
            .write(|| serde_json::json!({ "plan": plan }), || plan.iter().map(|step| format!("Would {}.\n", printable(step))).collect())?,
        Done::Loaded(report) => {
            for warning in &report.warnings {
                context.progress.warn(warning);
            }
            context.output.write(|| document(&report), || text(&report))?;
        }
    }
    Ok(Exit::DONE)
}

enum Done {
    Planned(Vec<String>),
    Loaded(LoadReport),
}

fn single_database(context: &Context) -> Option<String> {
    match &context.config().ok()?.cluster.databases[..] {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// The bytes to load, the database that they are known to be of, and how far they are trusted unasked.
struct Found {
    source: DumpSource,
    database: Option<String>,
    trust: Trust,
}

async fn source(args: &Args, context: &Context) -> Result<Found> {
    if args.name == "-" {
        let source = DumpSource { name: "standard input".to_owned(), bytes: Box::new(io::stdin()), expected: None };
        return Ok(Found { source, database: None, trust: Trust::Nobody });
    }
    // In a store's name a `/` stands only behind a database's folder; an existing file with such a name is what was meant.
    let path = Path::new(&args.name);
    if args.name.contains('/') && (path.is_absolute() || path.exists() || args.name.starts_with('.')) {
        return from_file(path).await;
    }
    let shelf = store::shelf(context)?;
    let of_database = args.database.as_deref().filter(|_| args.name == "latest");
    let entry = match shelf.find(&args.name, of_database).await {
        // The newest dump may be loaded under another name: then it must be clear without it which one is meant.
        Err(error) if of_database.is_some() && error.kind() == ErrorKind::NotFound => newest_of_all(&shelf, error).await?,
        found => found?,
    };
    let key: ObjectKey = entry.name.clone();
    let size = shelf.store().head(&key).await?.size_bytes;
    let bytes = ObjectReader::open(shelf.store().clone(), key.clone(), size);
    let is_own = entry.side_file.as_ref().is_some_and(|side_file| side_file.cluster == shelf.cluster());
    let expected = entry.side_file.as_ref().map(Expected::from);
    Ok(Found {
        source: DumpSource { name: key.to_string(), bytes: Box::new(bytes), expected },
        database: entry.database,
        trust: if is_own { Trust::OwnDump } else { Trust::Nobody },
    })
}

/// The newest dump, whichever database it is of, where that can mean only one; else `error`, or what is worse.
async fn newest_of_all(shelf: &Shelf, error: Error) -> Result<DumpEntry> {
    match shelf.find("latest", None).await {
        Err(other) if other.kind() == ErrorKind::NotFound => Err(error),
        Err(other) if other.kind() == ErrorKind::Invalid => {
            Err(Error::invalid(format!("{error}, and {other}"), "name the dump that is meant: `pgpersist list` shows them all"))
        }
        found => found,
    }
}

/// Opening a named pipe waits until somebody writes into it, so it is no work for the thread that hears signals.
async fn from_file(path: &Path) -> Result<Found> {
    let path = path.to_owned();
    workers::run(move || open_file(&path)).await
}

fn open_file(path: &Path) -> Result<Found> {
    let file = File::open(path).map_err(|e| Error::file("open the dump", path, e))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Error::invalid(format!("{} is a directory, not a dump", path.display()), "name a `.sql.gz` or `.sql` file"));
    }
    let mut side_path = path.as_os_str().to_owned();
    side_path.push(SIDE_FILE_SUFFIX);
    let mut side_bytes = Vec::new();
    let side_file = match File::open(Path::new(&side_path)).and_then(|file| file.take(1 << 27).read_to_end(&mut side_bytes)) {
        Ok(_) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Some(SideFile::parse(&format!("{name}{SIDE_FILE_SUFFIX}").parse()?, &side_bytes)?)
        }
        Err(_) => None,
    };
    let source = DumpSource { name: path.display().to_string(), bytes: Box::new(file), expected: side_file.as_ref().map(Expected::from) };
    Ok(Found { source, database: side_file.map(|side_file| side_file.database), trust: Trust::Nobody })
}

fn text(report: &LoadReport) -> String {
    let rows: u64 = report.tables.values().sum();
    let verified = match report.verified {
        Some(true) => "every byte and row count as recorded",
        Some(false) => "NOT as recorded",
        None => "nothing recorded to compare with",
    };
    let mut text = format!(
        "Loaded {} into {}: {} in {} in {:.1} s; {verified}.\n",
        printable(&report.name),
        printable(&report.database),
        count(rows, "row"),
        count(report.tables.len() as u64, "table"),
        report.duration_s
    );
    if let Some(kept) = &report.kept_aside {
        text.push_str(&format!(
            "The database that had the name is kept as {}; drop it with: psql -c {}\n",
            printable(kept),
            quote::shell(&format!("DROP DATABASE {}", quote::identifier(kept)))
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn a_pipe_that_nobody_writes_into_can_be_interrupted() {
        const O_NONBLOCK: i32 = 0o4000;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let result = runtime::block_on("the test", async {
            // The handlers are registered before anything of this is polled, and opening comes first.
            let signal = async {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
                Ok(())
            };
            tokio::try_join!(from_file(&pipe), signal).map(drop)
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        // Lets the worker go that may still wait in the pipe.
        drop(OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&pipe));
    }
}
