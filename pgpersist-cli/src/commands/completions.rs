//! `completions`: a script that completes our commands and options in a shell.

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::args::Cli;
use crate::context::Context;
use crate::exit::Exit;
use pgpersist_core::error::Result;

/// Print a script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist completions bash > /etc/bash_completion.d/pgpersist")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pgpersist", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    context.output.verbatim(|| json!({ "shell": args.shell.to_string(), "script": script }), &script)?;
    Ok(Exit::DONE)
}
