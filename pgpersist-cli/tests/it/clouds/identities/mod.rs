//! Credentials that are given to a machine, a container or an account instead of being written down: asked for where each cloud's users
//! expect it, with nothing else in the environment, carried to the store, and told nowhere.

mod aws;
mod aws_containers;
mod azure;
mod google;
mod refused;
mod renewed;

use crate::support::outside::{AUTHORITY, Outside};
use crate::support::scratch::{Run, Scratch};

/// A machine, a container or a pod: whom it can ask, and what it was started with.
struct Given {
    scratch: Scratch,
    environment: Vec<(&'static str, String)>,
    /// What nobody may be told.
    secrets: Vec<String>,
}

impl Given {
    /// One that knows who stands for all others, and otherwise nothing.
    fn nothing(outside: &Outside) -> Self {
        let scratch = Scratch::new();
        scratch.write("ca.pem", AUTHORITY);
        Self { scratch, environment: outside.environment(), secrets: Vec::new() }
    }

    /// Started with these; `{dir}` stands for its folder.
    fn with(mut self, environment: &[(&'static str, &str)]) -> Self {
        self.environment.extend(environment.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self
    }

    /// What must not be told.
    fn secret(mut self, secrets: &[&str]) -> Self {
        self.secrets.extend(secrets.iter().map(|secret| (*secret).to_owned()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        self.scratch.write(name, text);
        self
    }

    /// Runs the program, and sees to it that it tells no secret.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Run {
        self.quiet(self.scratch.run(arguments, &self.variables()))
    }

    /// The same as a plain user, whose home the folder is.
    #[track_caller]
    fn run_at_home(&self, arguments: &[&str]) -> Run {
        self.quiet(self.scratch.run_as_user(arguments, &self.variables()))
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    #[track_caller]
    fn quiet(&self, run: Run) -> Run {
        for secret in &self.secrets {
            assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{secret} is in {run:?}");
        }
        run
    }

    /// Fails unless that is enough to read in the store.
    #[track_caller]
    fn opens(&self, url: &str) {
        for arguments in [&["list"] as &[&str], &["list", "--json", "--verbose"]] {
            self.run(&[arguments, &["--store", url]].concat()).done();
        }
        for arguments in [&["config", "show"] as &[&str], &["config", "show", "--json"]] {
            self.run(&[arguments, &["--store", url]].concat()).done();
        }
    }
}
