//! Which programs a search found last time: asking each of them for its version again would take longer than a start.
//!
//! What is remembered counts only while everything that the search looks at is unchanged: its inputs, the folders it
//! lists (a new program changes its folder), and the program that it chose.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::server::installation::{InstallationSearch, PostgresInstallation};

/// The result of a search.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Remembered {
    /// A digest of everything that the search looked at.
    seen: String,
    bin_directory: PathBuf,
    /// What `postgres --version` said.
    version: String,
    /// What identifies that `postgres`.
    program: String,
}

/// The installation for a new cluster of this major version, or of any. Blocking.
///
/// # Errors
/// [`Error::InstallationNotFound`] with all that was tried.
pub(crate) fn choose(cache: &Path, search: &InstallationSearch, major: Option<u32>) -> Result<PostgresInstallation> {
    let wanted = major.map_or("any".to_owned(), |major| major.to_string());
    let seen = seen(search);
    // One file for each search, so that two programs with different wishes do not make each other forget.
    let path = cache.join(format!("installation-{wanted}-{}.json", &digest(&inputs(search))[..8]));
    if let Some(installation) = recall(&path, &seen) {
        return Ok(installation);
    }
    let installation = find(search, major)?;
    let program = installation.bin_directory().join("postgres");
    let remembered = Remembered {
        seen,
        bin_directory: installation.bin_directory().to_owned(),
        version: format!("postgres (PostgreSQL) {}", installation.version()),
        program: identity(&program),
    };
    // A cache that cannot be written costs time, nothing else.
    let _ = serde_json::to_vec(&remembered).map(|bytes| durable::write(&path, &bytes, 0o600));
    Ok(installation)
}

fn recall(path: &Path, seen: &str) -> Option<PostgresInstallation> {
    let remembered: Remembered = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let unchanged = remembered.seen == seen && remembered.program == identity(&remembered.bin_directory.join("postgres"));
    unchanged.then(|| Some(PostgresInstallation::remembered(remembered.bin_directory, remembered.version.parse().ok()?)))?
}

fn find(search: &InstallationSearch, major: Option<u32>) -> Result<PostgresInstallation> {
    let Some(major) = major else { return search.for_new_cluster() };
    let found = search.find();
    let fitting = found.installations.iter().find(|i| i.version().major == major && i.program("initdb").is_ok());
    fitting.cloned().ok_or_else(|| Error::InstallationNotFound {
        wanted: major.to_string(),
        tried: found
            .installations
            .iter()
            .map(|i| format!("{}: is {}", i.bin_directory().display(), i.version()))
            .chain(found.tried)
            .collect(),
    })
}

fn inputs(search: &InstallationSearch) -> String {
    format!("{search:?}")
}

/// Everything that the search would look at, as it is now.
fn seen(search: &InstallationSearch) -> String {
    let mut text = inputs(search);
    let listed = search.path.as_deref().map(std::env::split_paths).into_iter().flatten();
    let distributions = search.distribution_folders.iter().map(|(folder, _)| folder.clone());
    for path in
        listed.chain(distributions).chain(search.configured.clone()).chain(search.pg_config.clone()).chain(search.brought_along.clone())
    {
        text.push_str(&identity(&path));
    }
    digest(&text)
}

/// What changes when a file is replaced or a folder gets another entry.
fn identity(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(metadata) => {
            format!("\n{} {} {} {} {}", metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
        }
        Err(_) => "\n-".to_owned(),
    }
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(folder: &Path, name: &str, version: &str) {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        let _ = fs::remove_file(&path);
        let mut file = fs::File::create(&path).unwrap();
        // It counts how often it is asked.
        writeln!(file, "#!/bin/sh\necho x >>'{}'\necho 'postgres (PostgreSQL) {version}'", folder.join("asked").display()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn asks_again_only_when_something_changed() {
        let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bin = root.path().join("15/bin");
        program(&bin, "postgres", "15.1");
        program(&bin, "initdb", "15.1");
        let search = InstallationSearch { distribution_folders: vec![(root.path().to_owned(), "bin".into())], ..Default::default() };
        let asked = || fs::read_to_string(bin.join("asked")).unwrap().lines().count();
        let minor = || choose(cache.path(), &search, None).unwrap().version().to_string();
        assert_eq!((minor(), asked()), ("15.1".to_owned(), 1));
        assert_eq!((minor(), asked()), ("15.1".to_owned(), 1));
        // An update of the programs.
        program(&bin, "postgres", "15.22");
        assert_eq!((minor(), asked()), ("15.22".to_owned(), 2));
        // Another version beside it, which is preferred.
        program(&root.path().join("17/bin"), "postgres", "17.1");
        program(&root.path().join("17/bin"), "initdb", "17.1");
        assert_eq!(minor(), "17.1");
        assert_eq!(choose(cache.path(), &search, Some(15)).unwrap().version().major, 15);
        assert!(matches!(choose(cache.path(), &search, Some(16)), Err(Error::InstallationNotFound { .. })));
    }
}
