//! The command line as a library: parse, call `pgpersist-core`, render.
//!
//! `args` is the whole tree of commands, `commands/` has one file a command with its options beside its code, `context`
//! holds what they share. Only `output` writes to stdout, only `exit` maps errors to exit codes.

mod args;
mod cluster;
mod commands;
mod context;
mod exit;
mod output;
mod privileges;
mod progress;
mod runtime;
mod store;
mod terminal;

use std::ffi::OsString;

use clap::Parser;

use crate::args::Cli;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Output;
use pgpersist_core::error::Result;

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
            exit::finish(result, &context)
        }
        Err(error) => exit::report(&error, json, &[]),
    }
}

fn execute(command: &commands::Command, context: &Context, arguments: &[OsString]) -> Result<Exit> {
    Output::check_format(context.common.format, command.formats())?;
    privileges::settle(command.as_root(), context, arguments)?;
    command.run(context)
}
