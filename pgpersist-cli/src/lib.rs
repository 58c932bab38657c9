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
mod first_process;
mod host;
mod keys;
mod log_lines;
mod output;
mod privileges;
mod progress;
mod runtime;
mod store;
mod terminal;

use std::ffi::OsString;

use clap::Parser;
use serde_json::json;

use crate::args::{Cli, Format};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Output;
use crate::privileges::Settled;
use pgpersist_core::error::Result;

pub use crate::host::Host;

/// Runs one command line, the program's name first, and returns the exit code that the contract names.
///
/// When started as root, most commands replace the process by one of the cluster's user and do not return.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    run_in(&host::ThisProgram, arguments)
}

/// The same in a process that is not the command's own.
///
/// It takes the process over: it handles its signals, and as root becomes the cluster's user. So the process has to be there
/// for nothing else, and has one thread.
pub fn run_in(host: &dyn Host, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return exit::unparsed(&error, &arguments),
    };
    let json = cli.common.wants_json();
    let for_nagios = cli.common.format == Some(Format::Nagios) && cli.command.formats().contains(&Format::Nagios);
    match Context::new(cli.common, cli.command.flags(), cli.command.reading()) {
        Ok(context) => match execute(&cli.command, host, &context, &arguments) {
            Ok(Executed::NotYet) => run_in(host, arguments),
            Ok(Executed::Done(exit)) => exit::finish(Ok(exit), &context),
            Err(error) if for_nagios => exit::unknown_to_nagios(&error),
            Err(error) => exit::finish(Err(error), &context),
        },
        Err(error) if for_nagios => exit::unknown_to_nagios(&error),
        Err(error) => exit::report(&error, json, &[]),
    }
}

/// What became of a command line.
enum Executed {
    Done(Exit),
    /// This process has become another user's: what root has read of options, environment and files counts no more.
    NotYet,
}

fn execute(command: &commands::Command, host: &dyn Host, context: &Context, arguments: &[OsString]) -> Result<Executed> {
    // A plan is told in words or as a document, whatever the command itself knows.
    let formats = if context.common.dry_run { commands::TEXT_AND_JSON } else { command.formats() };
    Output::check_format(context.common.format, formats)?;
    if context.common.dry_run && command.only_looks() {
        let plan = "nothing: this command only looks";
        context.output.write(|| json!({ "plan": [plan] }), || format!("{plan}\n"))?;
        return Ok(Executed::Done(Exit::DONE));
    }
    if privileges::settle(command.as_root(), host, context, arguments)? == Settled::AsAnother {
        return Ok(Executed::NotYet);
    }
    if command.is_a_containers()
        && !context.common.dry_run
        && first_process::is_it()
        && let Some(code) = first_process::run(host, arguments)?
    {
        return Ok(Executed::Done(Exit(code)));
    }
    command.run(context).map(Executed::Done)
}
