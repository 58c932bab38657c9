//! `config`: what is set and by whom, whether it is right, and a file to start from.

use clap::Subcommand;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use pgpersist_core::config::file::EXAMPLE;
use pgpersist_core::error::Result;
use pgpersist_core::server::settings::Settings;

/// Show, check or begin a configuration
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist config show")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show every value and where it came from
    #[command(before_help = "Example:\n  PGPERSIST_CLUSTER_PORT=5433 pgpersist config show --config pgpersist.toml")]
    Show,
    /// Look for mistakes; exit 2 with the first one, 3 when something has no effect
    #[command(before_help = "Example:\n  pgpersist config check --config pgpersist.toml")]
    Check,
    /// Print a file with every key
    #[command(before_help = "Example:\n  pgpersist config example > pgpersist.toml")]
    Example,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    match args.action {
        Action::Show => show(context),
        Action::Check => check(context),
        Action::Example => context.output.verbatim(|| json!({ "example": EXAMPLE }), EXAMPLE).map(|()| Exit::DONE),
    }
}

fn show(context: &Context) -> Result<Exit> {
    let config = context.config()?;
    let rows: Vec<(&str, String, String)> = config
        .values()
        .iter()
        .map(|shown| {
            let value = shown.value.as_str().map_or_else(|| shown.value.to_string(), |text| printable(text).into_owned());
            (shown.key.as_str(), value, shown.source.to_string())
        })
        .collect();
    let document = || {
        let values: Vec<_> = config
            .values()
            .iter()
            .map(|shown| json!({ "key": shown.key, "value": shown.value, "source": shown.source.to_string() }))
            .collect();
        json!({ "file": config.file, "values": values })
    };
    let text = || {
        let keys = rows.iter().map(|(key, ..)| key.chars().count()).max().unwrap_or(0);
        let values = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0).min(60);
        rows.iter().map(|(key, value, source)| format!("{key:keys$}  {value:values$}  {source}\n")).collect()
    };
    context.output.write(document, text)?;
    Ok(Exit::DONE)
}

fn check(context: &Context) -> Result<Exit> {
    let config = context.config()?;
    // By the code that writes them for the server at each start.
    Settings { port: config.cluster.port, others: config.cluster.settings.clone() }.render()?;
    for warning in &config.warnings {
        context.progress.warn(warning);
    }
    let file =
        config.file.as_ref().map_or_else(|| "no file, only defaults, environment and options".to_owned(), |f| f.display().to_string());
    context
        .output
        .write(|| json!({ "valid": true, "file": config.file }), || format!("The configuration is valid ({}).\n", printable(&file)))?;
    Ok(Exit::DONE)
}
