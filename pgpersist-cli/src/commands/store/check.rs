//! `store check`: every promise that a store has to keep, asked for on the store itself.

use serde_json::json;

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::{Exit, code};
use crate::output::printable;
use crate::runtime;
use pgpersist_core::config::sources::Flag;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::quantity;
use pgpersist_core::store::check::report::{CheckReport, Fitness};
use pgpersist_core::store::check::run::{CheckOptions, check};
use pgpersist_core::store::observation::Standing;
use pgpersist_core::wording::size;

/// Find out by trying what a store can really do, and whether that is good for us
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist store check s3://acme-backups/prod")]
#[command(after_help = "Writes below .pgpersist/check/ in the store, and removes that again; nothing else is touched.\n\
    Exit codes: 0 good, 3 it can be used with weaker promises, 5 it is not to be used;\n6, 1 or 2 it could not be asked")]
pub(crate) struct Args {
    /// The store; else the first one that is configured
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// How large an object measures the throughput
    #[arg(long, value_name = "SIZE", default_value = "64MB", conflicts_with = "no_throughput", value_parser = size_bytes)]
    size: u64,
    /// Leave the throughput out
    #[arg(long)]
    no_throughput: bool,
}

fn size_bytes(text: &str) -> std::result::Result<u64, String> {
    match quantity::size_bytes(text) {
        Ok(0) => Err("an empty object measures nothing".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

impl Args {
    /// The store that is named is the configured one for this run.
    pub(super) fn flags(&self) -> Vec<Flag> {
        self.url.iter().map(|url| Flag { key: "store.url", option: "URL", values: vec![url.clone()] }).collect()
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    if args.url.is_some() && !context.common.store.is_empty() {
        return Err(Error::invalid("a store is named twice, by URL and by `--store`", "name one of them"));
    }
    let store = configured::stores::primary(context.config()?)?;
    if context.common.dry_run {
        let steps = [format!("write objects below .pgpersist/check/ in {store}, read, list and delete them")];
        context.output.write(|| json!({ "plan": steps }), || steps.iter().map(|step| format!("Would {}.\n", printable(step))).collect())?;
        return Ok(Exit::DONE);
    }
    let options = CheckOptions { throughput_bytes: (!args.no_throughput).then_some(args.size) };
    let progress = context.progress.clone();
    let report = runtime::block_on("`store check`", async { check(&store, &options, progress.as_ref()).await })?;
    context.output.write(|| document(&report), || text(&report))?;
    Ok(match report.fitness {
        Fitness::Good => Exit::DONE,
        Fitness::Weak => Exit::WARNINGS,
        Fitness::Unfit => Exit(code(ErrorKind::Unsafe)),
    })
}

fn text(report: &CheckReport) -> String {
    let mut text = format!("{}\n", printable(&report.store));
    for finding in &report.findings {
        let mark = match finding.status {
            Standing::Pass => '✓',
            Standing::Unknown => '?',
            Standing::Warn => '!',
            Standing::Fail => '✗',
        };
        text.push_str(&format!("{mark} {:<19}{}\n", finding.name, printable(&finding.summary)));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("  {:<19}→ {}\n", "", printable(remedy)));
        }
    }
    let latency = report.latency_s;
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1000.0);
    text.push_str(&format!(
        "  {:<19}put {}, get {}, head {}, list {} (median)\n",
        "latency",
        ms(latency.put),
        ms(latency.get),
        ms(latency.head),
        ms(latency.list)
    ));
    if let Some(throughput) = report.throughput {
        let rate = |bytes_per_second: f64| format!("{}/s", size(bytes_per_second as u64));
        text.push_str(&format!(
            "  {:<19}put {}, get {} ({})\n",
            "throughput",
            rate(throughput.put_bytes_per_second),
            rate(throughput.get_bytes_per_second),
            size(throughput.bytes)
        ));
    }
    text.push_str(match report.fitness {
        Fitness::Good => "It is good for us.\n",
        Fitness::Weak => "It can be used, with weaker promises: see above.\n",
        Fitness::Unfit => "It is not to be used.\n",
    });
    text
}
