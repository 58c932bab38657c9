//! A server that speaks as a cloud does, for the length of a bench.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgpersist_core::store::cloud_url::CloudUrl;
use pgpersist_core::store::url::StoreUrl;

use crate::support::place::run;

/// The server beside which this process runs. Credentials are in the environment.
#[derive(Debug)]
pub(crate) struct StoreServer {
    /// A store in its bucket.
    pub(crate) url: CloudUrl,
    pub(crate) pid: u32,
}

impl StoreServer {
    /// Finds it, or becomes `script/with-store-server`, which starts it, runs this bench once more beside it, and ends it. That
    /// installs what is missing.
    pub(crate) fn beside(name: &str) -> Self {
        let told = |variable: &str| std::env::var(variable).ok();
        if let (Some(url), Some(pid)) = (told("STORE"), told("STORE_SERVER")) {
            let url: StoreUrl = url.parse().unwrap_or_else(|e| panic!("STORE is no address: {e}"));
            let StoreUrl::Cloud(url) = url else { panic!("STORE is no bucket") };
            return Self { url, pid: pid.parse().expect("STORE_SERVER is a process id") };
        }
        let bench = std::env::current_exe().expect("the kernel knows this program");
        let mut beside = Command::new(script("with-store-server"));
        let error = beside.arg(name).arg(bench).args(std::env::args_os().skip(1)).exec();
        panic!("script/with-store-server does not run: {error}");
    }
}

/// A program that `script/fetch-store-servers` brings, installed if it is missing.
pub(crate) fn installed(name: &str, program: &str) -> PathBuf {
    let named = std::env::var_os("PGPERSIST_TEST_STORE_SERVERS").unwrap_or_default();
    let folder = run(Command::new(script("fetch-store-servers")).arg(named).arg(name));
    Path::new(folder.trim()).join(name).join(program)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../script").join(name)
}
