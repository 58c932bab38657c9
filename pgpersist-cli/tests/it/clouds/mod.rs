//! Stores in a cloud, by the program: on servers that speak as the clouds do, see `support/stores` of the core's tests.

mod addresses;
mod copies;
mod credentials;
mod faulty;
mod identities;
mod large;
mod locked;
mod story;
mod writer;

use crate::support::scratch::{Run, Scratch};
use crate::support::stores::{ACCESS_KEY, ACCOUNT_KEY, PRIVATE_KEY, Protocol, SECRET_KEY, StoreServer, azurite, gcs, s3s};

/// One server of each protocol, as many as are installed.
#[track_caller]
fn one_of_each() -> Vec<StoreServer> {
    [s3s::start(), gcs::start(), azurite::start()].into_iter().flatten().collect()
}

/// Runs the program with a store in a cloud, whose credentials are in its environment, and sees to it that it repeats none of them.
#[track_caller]
fn run_with(scratch: &Scratch, server: &StoreServer, url: &str, arguments: &[&str]) -> Run {
    let own = environment(server);
    let environment: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = scratch.run(&[arguments, &["--store", url]].concat(), &environment);
    keeps_secrets(&run);
    run
}

/// Fails when what was printed holds a credential, or what is made of one.
#[track_caller]
fn keeps_secrets(run: &Run) {
    for text in [&run.stdout, &run.stderr] {
        for secret in [ACCESS_KEY, SECRET_KEY, ACCOUNT_KEY, PRIVATE_KEY, "AWS4-HMAC", "Signature=", "SharedKey "] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

/// What a process needs in its environment to be let in.
fn environment(server: &StoreServer) -> Vec<(&'static str, String)> {
    match server.protocol {
        Protocol::S3 => vec![("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned())],
        Protocol::Gcs => vec![("GOOGLE_SERVICE_ACCOUNT", server.credentials().display().to_string())],
        Protocol::Azure => vec![("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY.to_owned())],
    }
}
