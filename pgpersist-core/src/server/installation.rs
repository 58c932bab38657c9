//! Finding PostgreSQL's programs, and choosing the installation that fits a data directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::pg::version::{NEWEST_MAJOR, OLDEST_MAJOR, ServerVersion};
use crate::server::brought_along;
use crate::server::spawn::clean_environment;

/// The folders where distributions put one folder for each major version, as (folder, what follows the version).
const DISTRIBUTION_FOLDERS: [(&str, &str); 3] =
    [("/usr/lib/postgresql", "bin"), ("/opt/pgpersist/postgresql", "bin"), ("/usr/local/lib/postgresql", "bin")];

/// Programs of one PostgreSQL version in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresInstallation {
    bin_directory: PathBuf,
    version: ServerVersion,
}

impl PostgresInstallation {
    /// Looks at one folder.
    ///
    /// # Errors
    /// A text that says why it is no installation: the search tells all of them when nothing fits.
    pub fn at(bin_directory: &Path) -> std::result::Result<Self, String> {
        let postgres = bin_directory.join("postgres");
        if !postgres.is_file() {
            return Err(format!("{}: no `postgres` in it", bin_directory.display()));
        }
        let mut command = Command::new(&postgres);
        clean_environment(&mut command);
        let output =
            command.arg("--version").env("LC_ALL", "C").output().map_err(|e| format!("{}: could not run it: {e}", postgres.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.parse().map_err(|e| format!("{}: {e}", postgres.display()))?;
        Ok(Self { bin_directory: bin_directory.to_owned(), version })
    }

    /// One that was looked at before and has not changed since.
    pub(crate) fn remembered(bin_directory: PathBuf, version: ServerVersion) -> Self {
        Self { bin_directory, version }
    }

    /// The folder of the programs.
    pub fn bin_directory(&self) -> &Path {
        &self.bin_directory
    }

    /// The version that `postgres --version` told.
    pub fn version(&self) -> ServerVersion {
        self.version
    }

    /// The path of one program, such as `initdb`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when this build comes without it.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.bin_directory.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::not_found(
            format!("PostgreSQL {} in {} comes without `{name}`", self.version, self.bin_directory.display()),
            format!("install the client programs (Debian: `apt-get install postgresql-client-{}`)", self.version.major),
        ))
    }
}

/// Where to look for installations. Built by [`InstallationSearch::from_environment`]; tests build their own.
#[derive(Debug, Clone, Default)]
pub struct InstallationSearch {
    /// The folder that the configuration names. When set, nothing else is tried.
    pub configured: Option<PathBuf>,
    /// The `pg_config` program that `PG_CONFIG` names.
    pub pg_config: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// Folders with one subfolder for each major version, and what follows the version.
    pub distribution_folders: Vec<(PathBuf, PathBuf)>,
    /// The folder of programs that came along with this program; see [`bring_along`](brought_along::bring_along).
    pub brought_along: Option<PathBuf>,
}

/// What a search found, in the order of preference, and what it tried in vain.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Installations, the preferred ones first.
    pub installations: Vec<PostgresInstallation>,
    /// Each place that was no installation, and why.
    pub tried: Vec<String>,
}

impl InstallationSearch {
    /// The configured folder, `PG_CONFIG`, `PATH`, the distributions' folders, unpacked bundles, what came along, in this order.
    pub fn from_environment(configured: Option<PathBuf>) -> Self {
        let mut distribution_folders: Vec<(PathBuf, PathBuf)> =
            DISTRIBUTION_FOLDERS.iter().map(|(folder, after)| (PathBuf::from(folder), PathBuf::from(after))).collect();
        if let Some(home) = std::env::var_os("HOME") {
            distribution_folders.push((PathBuf::from(home).join(".cache/pgpersist/postgresql"), PathBuf::from("bin")));
        }
        Self {
            configured,
            pg_config: std::env::var_os("PG_CONFIG").map(PathBuf::from),
            path: std::env::var_os("PATH"),
            distribution_folders,
            brought_along: brought_along::folder(),
        }
    }

    /// Looks everywhere. Blocking: runs `postgres --version` in each place.
    pub fn find(&self) -> Found {
        let mut found = Found::default();
        for folder in self.candidates(&mut found.tried) {
            // A link to `postgres` alone, as in /usr/local/bin, stands for the folder where its companions are.
            let program = folder.join("postgres").canonicalize().ok();
            let folder = program.as_deref().and_then(Path::parent).map_or(folder, Path::to_owned);
            if found.installations.iter().any(|known| known.bin_directory == folder) {
                continue;
            }
            match PostgresInstallation::at(&folder) {
                Ok(installation) => found.installations.push(installation),
                Err(reason) => found.tried.push(reason),
            }
        }
        found
    }

    /// The installation for a new cluster: the first supported one in the order of preference, and among the
    /// distribution's the newest.
    ///
    /// # Errors
    /// [`Error::InstallationNotFound`] with all that was tried.
    pub fn for_new_cluster(&self) -> Result<PostgresInstallation> {
        let found = self.find();
        let wanted = || format!("{OLDEST_MAJOR} to {NEWEST_MAJOR}");
        let Some(installation) = found.installations.iter().find(|i| i.version.is_supported() && i.bin_directory.join("initdb").is_file())
        else {
            return Err(not_found(wanted(), found));
        };
        Ok(installation.clone())
    }

    /// The installation whose major version is the data directory's.
    ///
    /// # Errors
    /// [`Error::WrongMajor`] when only other majors are there; [`Error::InstallationNotFound`] when there are none at all.
    pub fn for_cluster(&self, directory: &Path, major: u32) -> Result<PostgresInstallation> {
        let found = self.find();
        if let Some(installation) = found.installations.iter().find(|i| i.version.major == major) {
            return Ok(installation.clone());
        }
        if found.installations.is_empty() {
            return Err(not_found(major.to_string(), found));
        }
        let programs =
            found.installations.iter().map(|i| format!("{} ({})", i.version, i.bin_directory.display())).collect::<Vec<_>>().join(", ");
        Err(Error::WrongMajor { directory: directory.to_owned(), cluster_major: major, programs })
    }

    /// A client program for a server of this version: of the same major where it is there, else of the nearest newer one.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] when every one is older than the server; [`Error::InstallationNotFound`] when there is none.
    pub fn client(&self, name: &str, server: ServerVersion) -> Result<(PathBuf, ServerVersion)> {
        let found = self.find();
        let mut having: Vec<_> = found.installations.iter().filter(|i| i.bin_directory.join(name).is_file()).collect();
        having.sort_by_key(|i| i.version.major);
        if let Some(fitting) = having.iter().find(|i| i.version.major >= server.major) {
            return Ok((fitting.bin_directory.join(name), fitting.version));
        }
        match having.last() {
            Some(newest) => Err(Error::VersionMismatch {
                program: format!("{} in {}", name, newest.bin_directory.display()),
                program_version: newest.version,
                other: "the server".to_owned(),
                other_version: server,
                remedy: Some(format!(
                    "install the client programs of PostgreSQL {} (Debian: `apt-get install postgresql-client-{0}`)",
                    server.major
                )),
            }),
            None => Err(not_found(format!("{} with `{name}`", server.major), found)),
        }
    }

    fn candidates(&self, tried: &mut Vec<String>) -> Vec<PathBuf> {
        if let Some(configured) = &self.configured {
            return vec![configured.clone()];
        }
        let mut candidates = Vec::new();
        if let Some(pg_config) = &self.pg_config {
            match bin_directory_of(pg_config) {
                Ok(folder) => candidates.push(folder),
                Err(reason) => tried.push(reason),
            }
        }
        let mut on_path = false;
        for folder in self.path.as_deref().map(std::env::split_paths).into_iter().flatten() {
            if folder.join("postgres").is_file() {
                on_path = true;
                candidates.push(folder);
            } else if self.pg_config.is_none() && folder.join("pg_config").is_file() {
                match bin_directory_of(&folder.join("pg_config")) {
                    Ok(folder) => {
                        on_path = true;
                        candidates.push(folder);
                    }
                    Err(reason) => tried.push(reason),
                }
            }
        }
        if !on_path {
            tried.push("PATH: neither `postgres` nor `pg_config` in it".to_owned());
        }
        for (folder, after) in &self.distribution_folders {
            let mut majors: Vec<(u32, PathBuf)> = std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join(after))))
                .collect();
            if majors.is_empty() {
                tried.push(format!("{}: no version in it", folder.display()));
            }
            majors.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
            candidates.extend(majors.into_iter().map(|(_, path)| path));
        }
        if let Some(folder) = &self.brought_along {
            match brought_along::reachable(folder) {
                Ok(folder) => candidates.push(folder),
                Err(error) => {
                    let causes: String = error.causes().iter().map(|cause| format!(": {cause}")).collect();
                    tried.push(format!("{}: {error}{causes}", folder.display()));
                }
            }
        }
        candidates
    }
}

fn bin_directory_of(pg_config: &Path) -> std::result::Result<PathBuf, String> {
    let output = Command::new(pg_config).arg("--bindir").output().map_err(|e| format!("{}: could not run it: {e}", pg_config.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || text.is_empty() {
        return Err(format!("{}: `--bindir` told nothing ({})", pg_config.display(), output.status));
    }
    Ok(PathBuf::from(text))
}

fn not_found(wanted: String, found: Found) -> Error {
    let mut tried = found.tried;
    tried.extend(found.installations.iter().map(|i| format!("{}: is {}", i.bin_directory.display(), i.version)));
    Error::InstallationNotFound { wanted, tried }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake(folder: &Path, version: &str, programs: &[&str]) {
        std::fs::create_dir_all(folder).unwrap();
        for program in programs {
            let path = folder.join(program);
            std::io::Write::write_all(
                &mut std::fs::File::create(&path).unwrap(),
                format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n").as_bytes(),
            )
            .unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn search(root: &Path) -> InstallationSearch {
        InstallationSearch { distribution_folders: vec![(root.to_owned(), PathBuf::from("bin"))], ..Default::default() }
    }

    #[test]
    fn chooses_the_major_of_the_data_directory_and_names_both_when_it_is_missing() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("15/bin"), "15.18", &["postgres", "initdb"]);
        fake(&root.path().join("17/bin"), "17.2", &["postgres", "initdb", "pg_dump"]);
        let search = search(root.path());
        assert_eq!(search.for_cluster(Path::new("/data"), 15).unwrap().version().minor, 18);
        assert_eq!(search.for_new_cluster().unwrap().version().major, 17);
        let error = search.for_cluster(Path::new("/data"), 16).unwrap_err();
        assert!(error.to_string().contains("PostgreSQL 16") && error.to_string().contains("17.2"), "{error}");
    }

    #[test]
    fn a_link_to_postgres_leads_to_its_companions() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("15/bin"), "15.18", &["postgres", "initdb"]);
        let links = root.path().join("links");
        std::fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(root.path().join("15/bin/postgres"), links.join("postgres")).unwrap();
        let search = InstallationSearch { path: Some(links.into_os_string()), ..Default::default() };
        let found = search.for_new_cluster().unwrap();
        assert_eq!(found.bin_directory(), root.path().join("15/bin").canonicalize().unwrap());
    }

    #[test]
    fn clients_of_a_newer_major_serve_and_older_ones_do_not() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("15/bin"), "15.18", &["postgres"]);
        fake(&root.path().join("17/bin"), "17.2", &["postgres", "pg_dump"]);
        let search = search(root.path());
        assert_eq!(search.client("pg_dump", ServerVersion { major: 15, minor: 1 }).unwrap().1.major, 17);
        assert!(matches!(search.client("pg_dump", ServerVersion { major: 18, minor: 0 }), Err(Error::VersionMismatch { .. })));
    }

    #[test]
    fn says_all_it_tried() {
        let root = tempfile::tempdir().unwrap();
        let error = search(&root.path().join("nowhere")).for_new_cluster().unwrap_err();
        assert!(error.remedy().unwrap().contains("nowhere: no version in it"), "{:?}", error.remedy());
    }
}
