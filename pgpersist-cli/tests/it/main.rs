//! Integration tests: one binary, one file a feature.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails; clippy knows test functions only, not what they call")]
#![expect(clippy::print_stdout, reason = "a kill test prints its seed and its moments")]
#![expect(clippy::print_stderr, reason = "a test that skips says so, and one that fails says at which step")]

mod bad_input;
mod clouds;
mod contract;
mod cron;
mod drill_restore;
mod encryption;
mod kill;
mod manifests;
mod physical_acceptance;
mod places;
mod power_loss;
mod report;
mod run;
mod scripts;
mod support;
mod takeover;
mod temp;
