//! The command line as a library: parse, call `pgpersist-core`, render.
//!
//! `args` is the whole tree of commands, `commands/` has one file a command with its options beside its code, `context`
//! holds what they share. Only `output` writes to stdout, only `exit` maps errors to exit codes.

mod args;
mod cluster;
mod commands;
mod context;
mod database;
mod exit;
mod output;
mod privileges;
mod progress;
mod runtime;
mod store;
mod terminal;

use std::ffi::OsString;

use clap::Parser;

use crate::args::{Cli, Format};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Output;
use pgpersist_core::error::{Error, Result};

/// Runs one command line, the program's name first, and returns the exit code that the contract names.
///
/// When started as root, most commands replace the process by one of the cluster's user and do not return.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return exit::unparsed(&error, &arguments),
    };
    let json = cli.common.wants_json();
    match Context::new(cli.common, cli.command.flags()) {
        Ok(context) => {
            let result = execute(&cli.command, &context, &arguments);
            // A monitor reads stdout and knows four exit codes only.
            let result = if asks_for_nagios(&cli.command, &context) { commands::nagios(result, &context) } else { result };
            exit::finish(result, &context)
        }
        Err(error) => exit::report(&error, json, &[]),
    }
}

fn asks_for_nagios(command: &commands::Command, context: &Context) -> bool {
    context.output.format() == Format::Nagios && command.formats().contains(&Format::Nagios)
}

fn execute(command: &commands::Command, context: &Context, arguments: &[OsString]) -> Result<Exit> {
    Output::check_format(context.common.format, command.formats())?;
    if context.common.dry_run && !command.knows_dry_run() {
        return Err(Error::invalid(
            "this command has no dry run",
            "leave out `--dry-run`; `pgpersist status` tells what there is to start or stop",
        ));
    }
    privileges::settle(command.as_root(), context, arguments)?;
    command.run(context)
}
