//! What becomes of root, as whom no PostgreSQL runs: it makes the folders, and then goes on as the cluster's user as a whole. So
//! server, files and sessions are that user's, and the server knows him by `peer`, without a password.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::lchown;
use std::path::Path;

use pgpersist_core::config::environment;
use pgpersist_core::config::load::Config;
use pgpersist_core::config::sources::Sources;
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::server::continue_as::{THIS_PROGRAM, continue_as};
use pgpersist_core::{Error, Result, configured};

/// Returns for every user but root; in place of root's process comes one of the configured user.
pub(crate) fn settle(sources: &Sources, config: &Config) -> Result<()> {
    let Some(user) = configured::os_user::instead_of_root(config)? else { return Ok(()) };
    let stores = configured::stores::folders(config);
    let places =
        config.data_directory()?.parent().into_iter().chain(stores.iter().map(AsRef::as_ref)).chain(config.log_directory.as_deref());
    for place in places {
        make(place, &user)?;
    }
    // What root read is what counts: the user may not be able to read it.
    let mut handed = vec![(environment::WORKING_DIRECTORY.into(), sources.working_directory.clone().into_os_string())];
    if let Some(file) = &sources.file {
        handed.push((environment::CONFIG.into(), file.path.clone().into_os_string()));
        handed.push((environment::CONFIG_TEXT.into(), file.text.clone().into()));
    }
    let never: Infallible = continue_as(&user, OsStr::new(THIS_PROGRAM), std::env::args_os().skip(1), handed)?;
    match never {}
}

/// Makes a folder of the user's where there is none; one that is there stays as it is. What leads to it is to be root's alone:
/// where others can rename, they choose what is handed over.
fn make(folder: &Path, user: &OsUser) -> Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above).map_err(|error| Error::file("create", above, error))?;
    }
    match fs::create_dir(folder) {
        Ok(()) => lchown(folder, Some(user.uid), Some(user.gid)).map_err(|error| Error::file("hand over", folder, error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::file("create", folder, error)),
    }
}
