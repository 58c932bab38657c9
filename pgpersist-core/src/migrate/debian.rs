//! Debian's split layout: the data under `/var/lib/postgresql`, the configuration under `/etc/postgresql/VERSION/NAME`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::on_behalf::as_owner;
use crate::migrate::configuration::{self, Carried, Setting};
use crate::pg::quote;

/// Where Debian keeps the configuration of its clusters.
pub const ETC_ROOT: &str = "/etc/postgresql";
/// What the former version of a file in `/etc` is called after we changed it.
const FORMER: &str = "pgpersist.bak";

/// A cluster as Debian's tools know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianCluster {
    /// The major version, as the folder says it.
    pub version: String,
    /// Its name, such as `main`.
    pub name: String,
    /// The folder of its configuration.
    pub folder: PathBuf,
}

impl DebianCluster {
    /// Finds the cluster whose configuration names this data directory. Folders that may not be read are passed over.
    ///
    /// # Errors
    /// [`Error::File`] when `etc_root` is there and cannot be listed.
    pub fn find(etc_root: &Path, data_directory: &Path) -> Result<Option<Self>> {
        let wanted = data_directory.canonicalize().unwrap_or_else(|_| data_directory.to_owned());
        for version in folders(etc_root)? {
            for folder in folders(&version).unwrap_or_default() {
                let Ok(bytes) = fs::read(folder.join(configuration::MAIN)) else { continue };
                let Some(named) = last_value(&bytes, "data_directory") else { continue };
                let named = PathBuf::from(named);
                if named.canonicalize().unwrap_or(named) == wanted {
                    let text = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    return Ok(Some(Self { version: text(&version), name: text(&folder), folder }));
                }
            }
        }
        Ok(None)
    }

    /// Makes the configuration name another data directory, and keeps Debian from starting the cluster by itself at the
    /// next boot. The former versions are kept beside. Repeatable.
    ///
    /// # Errors
    /// [`Error::File`], most often since the files belong to somebody else.
    pub(crate) fn point_to(&self, data_directory: &Path) -> Result<()> {
        let main = self.folder.join(configuration::MAIN);
        let bytes = read(&main)?;
        let value = quote::setting(&data_directory.to_string_lossy())
            .ok_or_else(|| Error::invalid(format!("{} holds a line break", data_directory.display()), "name a directory without one"))?;
        replace(&main, &bytes, &with_data_directory(&bytes, &value))?;
        let start = self.folder.join("start.conf");
        let bytes = match fs::read(&start) {
            Ok(bytes) => bytes,
            // Without it the cluster starts at boot.
            Err(error) if error.kind() == io::ErrorKind::NotFound => b"auto\n".to_vec(),
            Err(error) => return Err(Error::file("read", start, error)),
        };
        replace(&start, &bytes, &without_automatic_start(&bytes))
    }

    /// How to take back what [`DebianCluster::point_to`] did, a command a line.
    pub(crate) fn undo(&self) -> Vec<String> {
        let kept = |name: &&str| self.folder.join(format!("{name}.{FORMER}")).exists();
        let back = |name| format!("mv {0}/{name}.{FORMER} {0}/{name}", self.folder.display());
        ["postgresql.conf", "start.conf"].into_iter().filter(kept).map(back).collect()
    }
}

/// Brings the configuration that Debian keeps in `/etc` into a data directory that has none, so that it needs nothing
/// outside itself. `None` when there is nothing to do: the directory has a `postgresql.conf`, or Debian's tools do not know
/// it. Blocking, durable, repeatable after a kill: `postgresql.conf` is written last.
///
/// # Errors
/// [`Error::File`]; [`Error::Invalid`] for a configuration that includes itself without end.
pub fn carry_configuration(etc_root: &Path, directory: &Path) -> Result<Option<Carried>> {
    if directory.join(configuration::MAIN).exists() {
        return Ok(None);
    }
    let Some(cluster) = DebianCluster::find(etc_root, directory)? else { return Ok(None) };
    // As its owner, who keeps the configuration: what only root can read is none of the cluster's.
    as_owner(directory, || configuration::gather(&cluster.folder.join(configuration::MAIN), directory, &[])?.write(directory).map(Some))
}

fn with_data_directory(bytes: &[u8], value: &str) -> Vec<u8> {
    let line = format!("data_directory = {value}\t\t# moved by pgpersist migrate");
    let mut found = false;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for old in bytes.split(|byte| *byte == b'\n') {
        match Setting::parse(old) {
            Some(setting) if setting.name == "data_directory" => {
                if !found {
                    lines.push(line.clone().into_bytes());
                }
                found = true;
            }
            _ => lines.push(old.to_vec()),
        }
    }
    if !found {
        lines.push(line.into_bytes());
        lines.push(Vec::new());
    }
    lines.join(&b'\n')
}

/// See `start.conf(5)` in Debian's `postgresql-common`: `auto`, `manual` or `disabled`.
fn without_automatic_start(bytes: &[u8]) -> Vec<u8> {
    let lines: Vec<Vec<u8>> = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| match String::from_utf8_lossy(line).split('#').next().unwrap_or_default().trim() {
            "auto" => b"manual".to_vec(),
            _ => line.to_vec(),
        })
        .collect();
    lines.join(&b'\n')
}

/// Writes a changed file, the former one kept beside; nothing when nothing changes.
fn replace(path: &Path, former: &[u8], new: &[u8]) -> Result<()> {
    if former == new {
        return Ok(());
    }
    let mode = fs::metadata(path).map_or(0o644, |metadata| metadata.mode() & 0o777);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".");
    beside.push(FORMER);
    durable::write(Path::new(&beside), former, mode)?;
    durable::write(path, new, mode)
}

fn last_value(bytes: &[u8], name: &str) -> Option<String> {
    bytes.split(|byte| *byte == b'\n').filter_map(Setting::parse).rfind(|setting| setting.name == name).map(|setting| setting.value)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::file("read", path, e))
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("list", path, error)),
    };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc() -> (tempfile::TempDir, DebianCluster, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/15/main");
        let data = root.path().join("lib/15/main");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&data).unwrap();
        let text = format!("# data_directory = 'x'\ndata_directory = '/old'\nport = 5433\nData_Directory '{}' # it\n", data.display());
        durable::write(&folder.join("postgresql.conf"), text.as_bytes(), 0o644).unwrap();
        durable::write(&folder.join("start.conf"), b"# how to start\n\nauto\n", 0o644).unwrap();
        let cluster = DebianCluster { version: "15".into(), name: "main".into(), folder };
        (root, cluster, data)
    }

    #[test]
    fn the_last_data_directory_counts() {
        let (root, cluster, data) = etc();
        assert_eq!(DebianCluster::find(&root.path().join("etc"), &data).unwrap(), Some(cluster));
        assert_eq!(DebianCluster::find(&root.path().join("etc"), Path::new("/old")).unwrap(), None);
        assert_eq!(DebianCluster::find(&root.path().join("nothing"), &data).unwrap(), None);
    }

    #[test]
    fn points_elsewhere_once_and_keeps_what_was() {
        let (root, cluster, _) = etc();
        let main = cluster.folder.join("postgresql.conf");
        let before = fs::read_to_string(&main).unwrap();
        let new = root.path().join("it's new");
        fs::create_dir(&new).unwrap();
        for _ in 0..2 {
            cluster.point_to(&new).unwrap();
            assert_eq!(fs::read_to_string(cluster.folder.join("postgresql.conf.pgpersist.bak")).unwrap(), before);
            assert_eq!(fs::read_to_string(cluster.folder.join("start.conf")).unwrap(), "# how to start\n\nmanual\n");
        }
        assert_eq!(DebianCluster::find(&root.path().join("etc"), &new).unwrap(), Some(cluster));
        assert_eq!(fs::read_to_string(&main).unwrap().matches("data_directory =").count(), 2);
    }
}
