//! The `pgpersist` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pgpersist_cli::run(std::env::args_os()))
}
