//! Gathers what a configuration is made of: the file that is found, the environment, the options. Deciding what it means
//! is [`Config::load`](crate::config::load::Config::load)'s work, which reads nothing by itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::environment;
use crate::config::file::SourceFile;
use crate::config::password_file::{Outcome, PasswordFile};
use crate::error::{Error, Result};

/// Where the file lies that nobody named.
pub const SYSTEM_FILE: &str = "/etc/pgpersist/pgpersist.toml";
const LOCAL_FILE: &str = "pgpersist.toml";
/// A configuration is a page or two; more is some other file. It must also fit into one variable of the environment
/// (`MAX_ARG_STRLEN`, 128 KiB) when it is handed over.
const MAX_FILE_BYTES: u64 = 100_000;

/// An option of the command line that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The key it sets, such as `cluster.data_directory`.
    pub key: &'static str,
    /// The option, such as `--data-directory`, for messages and `config show`.
    pub option: &'static str,
    /// Its values; a list may have several.
    pub values: Vec<String>,
}

/// Everything that a configuration is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sources {
    /// The file, where there is one.
    pub file: Option<SourceFile>,
    /// The environment; variables that are not ours are ignored.
    pub environment: BTreeMap<String, String>,
    /// The options.
    pub flags: Vec<Flag>,
    /// What a program gives by itself, with the sections and keys of the file; it beats all else.
    pub given: toml::Table,
    /// The absolute directory that relative paths of environment and options count from.
    pub working_directory: PathBuf,
    /// What the password file holds.
    pub password_file: PasswordFile,
    /// What was left out although it was there, each with its reason.
    pub warnings: Vec<String>,
}

impl Sources {
    /// Looks for the file and the password file, and reads them. `--config` comes as `explicit`; the environment and the
    /// working directory are the caller's.
    ///
    /// # Errors
    /// [`Error::File`] when a named file cannot be read, or one that is found; [`Error::Config`] for what is no text, and
    /// for a `./pgpersist.toml` that somebody else could have left for root to find.
    pub fn gather(
        explicit: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        current_directory: &Path,
        flags: Vec<Flag>,
    ) -> Result<Self> {
        let environment = texts(variables)?;
        let working_directory = match environment.get(environment::WORKING_DIRECTORY) {
            Some(directory) => PathBuf::from(directory),
            None => current_directory.to_owned(),
        };
        if !working_directory.is_absolute() || working_directory.to_str().is_none() {
            return Err(Error::Config {
                place: format!("working directory {}", working_directory.display()),
                reason: "it is no absolute path in UTF-8".to_owned(),
                remedy: Some("change into another directory".to_owned()),
            });
        }
        let file = find_file(explicit, &environment, &working_directory)?;
        let mut warnings = Vec::new();
        let password_file = match password_path(&environment).map(|path| PasswordFile::read(&path)).transpose() {
            Ok(Some(Outcome::Read(entries))) => entries,
            Ok(Some(Outcome::Ignored(why))) => {
                warnings.push(why);
                PasswordFile::default()
            }
            Ok(Some(Outcome::Absent) | None) => PasswordFile::default(),
            // Most servers want no password of us; whoever needs one is told why it is not there.
            Err(error) => {
                warnings.push(error.to_string());
                PasswordFile::default()
            }
        };
        Ok(Self { file, environment, flags, given: toml::Table::new(), working_directory, password_file, warnings })
    }
}

fn texts(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<BTreeMap<String, String>> {
    let mut environment = BTreeMap::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        if !name.starts_with("PG") && name != "HOME" {
            continue;
        }
        let value = value.into_string().map_err(|_| Error::Config {
            place: format!("environment variable {name}"),
            reason: "its value is not UTF-8".to_owned(),
            remedy: Some("unset it, or write its value in UTF-8".to_owned()),
        })?;
        environment.insert(name, value);
    }
    Ok(environment)
}

fn find_file(explicit: Option<&Path>, environment: &BTreeMap<String, String>, base: &Path) -> Result<Option<SourceFile>> {
    let variable = environment.get(environment::CONFIG).filter(|path| !path.is_empty()).map(PathBuf::from);
    // Text that was handed over wins even over `--config`: it is that file, read by who was allowed to.
    if let (Some(path), Some(text)) = (&variable, environment.get(environment::CONFIG_TEXT)) {
        return Ok(Some(SourceFile { path: path.clone(), text: text.clone() }));
    }
    if let Some(path) = explicit.map(Path::to_owned).or(variable) {
        let path = base.join(path);
        if path == Path::new("/dev/null") {
            return Ok(None);
        }
        let file = File::open(&path).map_err(|e| Error::file("read the configuration", &path, e))?;
        return read(file, path).map(Some);
    }
    for (path, found_here) in [(base.join(LOCAL_FILE), true), (PathBuf::from(SYSTEM_FILE), false)] {
        match File::open(&path) {
            Ok(file) => {
                if found_here {
                    refuse_bait(&file, &path)?;
                }
                return read(file, path).map(Some);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Error::file("read the configuration", &path, error)),
        }
    }
    Ok(None)
}

/// A file in the current directory can be anybody's, and it says which programs to run: root uses only its own unasked.
fn refuse_bait(file: &File, path: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let metadata = file.metadata().map_err(|e| Error::file("look at", path, e))?;
    if metadata.uid() == 0 && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::Config {
        place: path.display().to_string(),
        reason: "it was found here, others than root can write it, and this is root".to_owned(),
        remedy: Some(format!("name it with `--config {}` if you trust it", path.display())),
    })
}

fn read(file: File, path: PathBuf) -> Result<SourceFile> {
    let wrong = |reason: &str| Error::Config {
        place: path.display().to_string(),
        reason: reason.to_owned(),
        remedy: Some("name another file with `--config FILE`; `pgpersist config example` shows a whole one".to_owned()),
    };
    let metadata = file.metadata().map_err(|e| Error::file("look at", &path, e))?;
    if metadata.is_dir() {
        return Err(wrong("it is a directory; a configuration is a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::file("read the configuration", &path, e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong("it is larger than 100 kB, so it is no configuration"));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text"))?;
    Ok(SourceFile { path, text })
}

fn password_path(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| environment.get(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    set("PGPASSFILE").or_else(|| set("HOME").map(|home| home.join(".pgpass")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    fn write(path: &Path, text: &str) {
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn gather(explicit: Option<&Path>, variables: &[(&str, &str)], directory: &Path) -> Result<Sources> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Sources::gather(explicit, variables, directory, Vec::new())
    }

    #[test]
    fn the_named_file_beats_the_variable_and_the_variable_beats_the_found_one() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pgpersist.toml", "variable.toml", "option.toml"] {
            write(&folder.path().join(name), "");
        }
        let found = |explicit, variables: &[_]| gather(explicit, variables, folder.path()).unwrap().file.unwrap().path;
        let variable = [("PGPERSIST_CONFIG", "variable.toml")];
        assert_eq!(found(Some(Path::new("option.toml")), &variable), folder.path().join("option.toml"));
        assert_eq!(found(None, &variable), folder.path().join("variable.toml"));
        assert_eq!(found(None, &[]), folder.path().join("pgpersist.toml"));
        assert_eq!(gather(None, &[("PGPERSIST_CONFIG", "/dev/null")], folder.path()).unwrap().file, None);
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error_and_not_a_default() {
        let error = gather(Some(Path::new("absent.toml")), &[], Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "could not read the configuration /absent.toml");
    }

    #[test]
    fn root_uses_no_found_file_that_others_can_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpersist.toml");
        write(&path, "");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let refused = gather(None, &[], folder.path()).is_err();
        assert_eq!(refused, rustix::process::geteuid().is_root());
        assert!(gather(Some(&path), &[], folder.path()).is_ok());
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("binary");
        File::create(&path).unwrap().write_all(b"\xff\xfe").unwrap();
        assert!(gather(Some(&path), &[], folder.path()).unwrap_err().to_string().contains("not UTF-8"));
        assert!(gather(Some(folder.path()), &[], folder.path()).unwrap_err().to_string().contains("directory"));
    }
}
