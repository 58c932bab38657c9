//! Integration tests: one binary, one file a feature.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails; clippy knows test functions only, not what they call")]

mod contract;
mod kill;
mod power_loss;
mod support;
