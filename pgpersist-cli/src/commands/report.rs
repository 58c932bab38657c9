//! `report`: how it stands with the cluster's persistence, as one page to hand on.

use std::fs::{self, File};
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde_json::json;

use crate::args::Format;
use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::runtime;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::fs::durable;
use pgpersist_core::report::gather;
use pgpersist_core::report::overview::Overview;
use pgpersist_core::report::{MARK, html, markdown};

/// How much of a file is read to see whether it is a report.
const BEGINNING: u64 = 128;

/// Tell how it stands as one page to hand on: storage and its proof, backups, drills, health, what to do next
///
/// Markdown unless told otherwise; HTML is one file that needs nothing from anywhere, in dark and light. What could not be
/// found out, as while the server is down, is told with the reason.
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist report -D /app/pgdata --store /app/backups/postgres --output report.html")]
#[command(after_help = "Exit codes: 0 told, however bad it is; 3 something could not be found out")]
pub(crate) struct Args {
    /// Write it to this file; .md, .html and .json say the format. A file that is no report is not replaced without --yes
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let file = args.output.as_deref().map(|path| Target::named(path, context)).transpose()?;
    if context.common.dry_run {
        let plan = match &file {
            Some(file) => format!("look, and write the report to {}", file.path.display()),
            None => "look, and print the report".to_owned(),
        };
        return context.output.write(|| json!({ "plan": [plan] }), || format!("{}\n", printable(&plan))).map(|()| Exit::DONE);
    }
    let options = configured::report::options(context.config()?)?;
    let overview = runtime::block_on("`report`", async { Ok(gather::overview(&options).await) })?;
    for gap in &overview.gaps {
        context.progress.warn(&format!("{} not known: {}", gap.part, gap.reason));
    }
    match file {
        None => context.output.verbatim(|| document(&overview), &rendered(&overview, context.output.format()))?,
        Some(file) => {
            durable::write(&file.path, rendered(&overview, file.format).as_bytes(), 0o644)?;
            let shown = file.path.display().to_string();
            context.output.write(|| json!({ "file": shown }), || format!("Wrote {}.\n", printable(&shown)))?;
        }
    }
    Ok(Exit::DONE)
}

fn rendered(overview: &Overview, format: Format) -> String {
    match format {
        Format::Html => html::render(overview, None),
        Format::Json => format!("{:#}\n", document(overview)),
        _ => markdown::render(overview),
    }
}

/// The file that is to hold it.
struct Target {
    path: PathBuf,
    format: Format,
}

impl Target {
    fn named(path: &Path, context: &Context) -> Result<Self> {
        let by_name = match path.extension().and_then(|extension| extension.to_str()) {
            Some("md" | "markdown") => Some(Format::Markdown),
            Some("html" | "htm") => Some(Format::Html),
            Some("json") => Some(Format::Json),
            _ => None,
        };
        let format = match (context.common.format, by_name) {
            // With `--json` it is the outcome that is told as a document, unless the file's name says no other format.
            (Some(Format::Json) | None, Some(by_name)) => by_name,
            (Some(asked), _) => asked,
            (None, None) if context.common.json => Format::Json,
            (None, None) => {
                return Err(Error::invalid(
                    format!("the name of the report {} says no format", path.display()),
                    "end it with `.md`, `.html` or `.json`, or give `--format`",
                ));
            }
        };
        let path = context.sources()?.working_directory.join(path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|e| Error::file("write the report into", folder, e.into()))?;
        refuse_to_replace(&path, context.common.yes)?;
        Ok(Self { path, format })
    }
}

/// Whatever lies there and is no report of ours is somebody's.
fn refuse_to_replace(path: &Path, confirmed: bool) -> Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("look at", path, error)),
    };
    if !found.is_file() {
        return Err(Error::refused(
            format!("{} is there, and no plain file", path.display()),
            "name another file, or leave out `--output` and redirect the standard output",
        ));
    }
    if confirmed || found.len() == 0 || is_report(path)? {
        return Ok(());
    }
    Err(Error::refused(
        format!("{} is there, and no report of pgpersist", path.display()),
        "name another file, or replace this one with `--yes`",
    ))
}

fn is_report(path: &Path) -> Result<bool> {
    let mut beginning = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut beginning));
    read.map_err(|e| Error::file("read", path, e))?;
    let text = String::from_utf8_lossy(&beginning);
    Ok(text.contains(MARK) || text.trim_start().starts_with("{\n  \"time\": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgpersist_core::error::ErrorKind;
    use std::io::Write;

    #[test]
    fn only_a_report_is_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        refuse_to_replace(&path, false).unwrap();
        for (text, is_ours) in [
            ("", true),
            (MARK, true),
            ("<!DOCTYPE html>\n<!-- pgpersist report -->\n<html>", true),
            ("{\n  \"time\": \"2026", true),
            ("{\"time\": 1}", false),
            ("# My notes", false),
            ("\u{0}\u{1}", false),
        ] {
            File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            assert_eq!(refuse_to_replace(&path, false).is_ok(), is_ours, "{text}");
            refuse_to_replace(&path, true).unwrap();
        }
        for link in [folder.path().to_owned(), PathBuf::from("/dev/null")] {
            assert_eq!(refuse_to_replace(&link, true).unwrap_err().kind(), ErrorKind::Unsafe);
        }
    }
}
