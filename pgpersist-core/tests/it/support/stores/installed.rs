//! Where `script/fetch-store-servers` has put the servers.

use std::path::PathBuf;

use super::skip::absent;

/// A program of one of them. What is not there is skipped by name, unless PGPERSIST_TEST_STORE_SERVERS says where it has to be.
#[track_caller]
pub(crate) fn program(server: &str, program: &str) -> Option<PathBuf> {
    let named = std::env::var_os("PGPERSIST_TEST_STORE_SERVERS").map(PathBuf::from);
    let path = named.clone().or_else(usual)?.join(server).join(program);
    if path.exists() {
        return Some(path);
    }
    assert!(named.is_none(), "{} is not there: run script/fetch-store-servers", path.display());
    absent(server, "it is not installed; script/fetch-store-servers installs it");
    None
}

fn usual() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("pgpersist-test/store-servers"))
}

/// Python, for a server of our own.
pub(crate) fn python() -> PathBuf {
    PathBuf::from("python3")
}
