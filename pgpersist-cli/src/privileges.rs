//! What becomes of root: it prepares the directories that the cluster's user cannot make, and then becomes that user.
//!
//! How root prepares one, and when it refuses to, is told in the library's `fs::hand_over`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use crate::context::Context;
use crate::host::Host;
use pgpersist_core::config::environment;
use pgpersist_core::config::load::Config;
use pgpersist_core::configured;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::placement::{self, Verdict};
use pgpersist_core::error::{Error, Result};
use pgpersist_core::fs::hand_over::prepare;
use pgpersist_core::fs::os_user::OsUser;

/// A folder on a command's way that root may have to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The data directory, where it lies on something that lasts; the command refuses any other, and no trace is left there.
    Data,
    /// The data directory, wherever it lies.
    DataAnywhere,
    /// The stores, where they are folders.
    Store,
    /// `[log] directory`, where it is set.
    Log,
}

impl Place {
    /// Where it is; nothing where it is not configured, or no folder.
    fn paths(self, config: &Config) -> Result<Vec<&Path>> {
        Ok(match self {
            Self::Data | Self::DataAnywhere => vec![config.data_directory()?],
            Self::Store => config.stores.iter().filter_map(|store| store.url.folder()).collect(),
            Self::Log => config.log_directory.as_deref().into_iter().collect(),
        })
    }

    fn prepare(self, config: &Config, user: &OsUser) -> Result<()> {
        for (place, path) in self.paths(config)?.into_iter().enumerate() {
            match self {
                Self::Data if placement::of(path)?.verdict == Verdict::Ephemeral => {}
                Self::Data | Self::DataAnywhere => LocalDataDirectory::open_for(path, Some(user.clone()))?.hand_over()?,
                // What is wrong with a copy is told where it is written, and keeps nobody from the primary store.
                Self::Store if place > 0 => drop(prepare(path, user)),
                Self::Store | Self::Log => prepare(path, user)?,
            }
        }
        Ok(())
    }
}

/// What a command does when it is started as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AsRoot {
    /// It stays root: it touches nothing.
    Stay,
    /// It becomes the cluster's user, after these places were prepared.
    Continue(&'static [Place]),
    /// The same, but where one of the places is still to be made, they are prepared only if a dry run of the command succeeds
    /// and no consent is missing: what is refused leaves no empty directory behind.
    ContinueOnPlan(&'static [Place]),
}

/// Who goes on with a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Who we were all the time.
    AsWeAre,
    /// The cluster's user, whom this process has become meanwhile: what root has read counts no more.
    AsAnother,
}

/// As root, prepares what the command needs and goes on as the cluster's user; else does nothing.
pub(crate) fn settle(as_root: AsRoot, host: &dyn Host, context: &Context, arguments: &[OsString]) -> Result<Settled> {
    let (mut places, on_plan) = match as_root {
        AsRoot::Stay => return Ok(Settled::AsWeAre),
        AsRoot::Continue(places) => (places, false),
        AsRoot::ContinueOnPlan(places) => (places, true),
    };
    if !rustix::process::geteuid().is_root() {
        return Ok(Settled::AsWeAre);
    }
    let config = context.config()?;
    let user = configured::os_user::named(config)?;
    if !context.common.dry_run {
        if on_plan {
            // What nobody can look into cannot be planned with: a root that was killed between making a directory and handing
            // it over leaves it so.
            for place in places {
                if place.paths(config)?.into_iter().any(is_closed_and_empty) {
                    place.prepare(config, &user)?;
                }
            }
            if any_to_be_made(places, config)? && !plan_holds(host, arguments, context.common.yes)? {
                places = &[];
            }
        }
        for place in places {
            place.prepare(config, &user)?;
        }
    }
    let sources = context.sources()?;
    let mut handed = vec![(environment::WORKING_DIRECTORY.into(), sources.working_directory.clone().into_os_string())];
    // What root found and read is what counts: the user may not be able to, or would find another file.
    match &sources.file {
        Some(file) => {
            handed.push((environment::CONFIG.into(), file.path.clone().into_os_string()));
            handed.push((environment::CONFIG_TEXT.into(), file.text.clone().into()));
        }
        None => handed.push((environment::CONFIG.into(), "/dev/null".into())),
    }
    host.continue_as(&user, arguments, handed).map(|()| Settled::AsAnother)
}

/// Whether root would have to make the directory, or hand it over empty.
fn is_to_be_made(path: &Path) -> bool {
    rustix::fs::stat(path).map_or(true, |stat| stat.st_uid == 0 && is_empty(path))
}

fn is_closed_and_empty(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & 0o005 != 0o005 && is_empty(path))
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
}

fn any_to_be_made(places: &[Place], config: &Config) -> Result<bool> {
    for place in places {
        if place.paths(config)?.into_iter().any(is_to_be_made) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a dry run of this very command line, made by the cluster's user, comes to its end, and what it plans needs no
/// consent that is not there. What it says against it, the command itself says again.
fn plan_holds(host: &dyn Host, arguments: &[OsString], consent: bool) -> Result<bool> {
    let mut command = host.this_program();
    // In front, since what comes after `--` is somebody else's.
    command.args(["--dry-run", "--json"]).args(without_format(&arguments[1..]));
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(|e| Error::file("run", command.get_program(), e))?;
    let needs_consent = serde_json::from_slice::<serde_json::Value>(&output.stdout)
        .is_ok_and(|document| document.pointer("/plan/consent_to").is_some_and(|action| !action.is_null()));
    Ok(output.status.success() && (consent || !needs_consent))
}

/// A command line without what it says about the format of its result.
fn without_format(arguments: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--") => {
                kept.push(word.clone());
                kept.extend(words.by_ref().cloned());
            }
            Some("--format") => drop(words.next()),
            Some("--json") => {}
            Some(text) if text.starts_with("--format=") => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}
