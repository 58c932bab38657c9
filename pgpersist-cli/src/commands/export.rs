//! `export`: a backup as PostgreSQL's own tools know one.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::args::Format;
use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::keys::LoadKeyArgs;
use crate::output::{printable, stream};
use crate::progress::count;
use crate::runtime;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::export::physical::{Destination, ExportReport};
use pgpersist_core::wording::size;

/// The name of the standard output.
const STREAM: &str = "-";

/// Export a backup as a plain directory, or as tar, that pg_verifybackup accepts
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist export latest /srv/export --store /app/backups/postgres")]
pub(crate) struct Args {
    /// A backup's name, or `latest`
    #[arg(value_name = "NAME")]
    name: String,
    /// The directory that it becomes, absent or empty
    #[arg(value_name = "DIR", required_unless_present = "tar", conflicts_with = "tar")]
    directory: Option<PathBuf>,
    /// Write one tar instead, into a file or, with `-`, to the standard output
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,
    #[command(flatten)]
    keys: LoadKeyArgs,
}

impl Args {
    pub(super) fn reading(&self) -> Reading {
        self.keys.reading()
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let destination = destination(args, context)?;
    let request = configured::backup::export(context.config()?, args.name.clone(), destination)?;
    if context.common.dry_run {
        let (_, backup) = runtime::block_on("`export --dry-run`", request.find(context.progress.as_ref()))?;
        request.destination.check()?;
        let to = request.destination.path().unwrap_or(Path::new("the standard output")).display();
        let step = format!("export {backup} to {to}");
        context.output.write(|| json!({ "plan": [step] }), || format!("Would {}.\n", printable(&step)))?;
        return Ok(Exit::DONE);
    }
    let report = runtime::block_on("`export`", request.carry_out(context.progress.as_ref()))?;
    if report.path.is_some() {
        context.output.write(|| document(&report), || text(&report))?;
    }
    Ok(Exit::DONE)
}

fn destination(args: &Args, context: &Context) -> Result<Destination> {
    match (&args.directory, &args.tar) {
        (_, Some(file)) if file.as_os_str() == STREAM => {
            // A dry run writes no tar.
            if !context.common.dry_run && (context.output.format() == Format::Json || io::stdout().is_terminal()) {
                let what = "the standard output takes the tar, and neither a document nor a terminal goes with that";
                return Err(Error::invalid(what, "send it to a program or a file, without --json; or name a file: `--tar FILE`"));
            }
            Ok(Destination::Stream(Box::new(stream()?)))
        }
        (_, Some(file)) => Ok(Destination::Archive(file.clone())),
        (Some(directory), None) => Ok(Destination::Directory(directory.clone())),
        (None, None) => Err(Error::invalid("there is no place to export to", "name a directory, or `--tar FILE`")),
    }
}

fn text(report: &ExportReport) -> String {
    let path = report.path.as_deref().unwrap_or(Path::new("")).display().to_string();
    format!(
        "Exported {} to {}: {}, {}, in {:.1} s.\n",
        report.name,
        printable(&path),
        count(report.files, "file"),
        size(report.bytes),
        report.duration_s
    )
}
