//! What commands share: options, configuration, output, progress, consent.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::args::{Common, Format};
use crate::output::Output;
use crate::progress::Progress;
use pgpersist_core::config::environment;
use pgpersist_core::config::load::Config;
use pgpersist_core::config::sources::{Flag, Sources};
use pgpersist_core::error::{Error, Result};

/// What one run of a command has at hand.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) common: Common,
    pub(crate) output: Output,
    /// Also a [`ProgressSink`](pgpersist_core::progress::ProgressSink) for operations of the library.
    pub(crate) progress: Arc<Progress>,
    flags: Vec<Flag>,
    reading: Reading,
    loaded: OnceLock<(Sources, Config)>,
}

/// What a command's options say of encrypted dumps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) identity: Option<PathBuf>,
    pub(crate) accepts_unencrypted: bool,
}

impl Context {
    /// `flags` are the command's own options that set keys, `reading` what they say of encrypted dumps.
    pub(crate) fn new(common: Common, mut flags: Vec<Flag>, reading: Reading) -> Result<Self> {
        if let Some(directory) = &common.data_directory {
            let values = vec![text(directory, "--data-directory")?];
            flags.push(Flag { key: "cluster.data_directory", option: "--data-directory", values });
        }
        if !common.store.is_empty() {
            flags.push(Flag { key: "store.url", option: "--store", values: common.store.clone() });
        }
        let format = common.format()?;
        let progress = Arc::new(Progress::new(&common, format == Format::Json));
        let output = Output::new(format, progress.clone());
        Ok(Self { common, output, progress, flags, reading, loaded: OnceLock::new() })
    }

    /// The configuration; read at the first call, so that commands that need none work beside a broken one.
    pub(crate) fn config(&self) -> Result<&Config> {
        Ok(&self.loaded()?.1)
    }

    /// The same options with the configuration of now. A file that root read and handed over is read by who we are now.
    pub(crate) fn reloaded(&self) -> Result<Self> {
        let variables = std::env::vars_os().filter(|(name, _)| name != environment::CONFIG_TEXT);
        let loaded = OnceLock::from(self.load(variables)?);
        let output = Output::new(self.output.format(), self.progress.clone());
        Ok(Self {
            common: self.common.clone(),
            output,
            progress: self.progress.clone(),
            flags: self.flags.clone(),
            reading: self.reading.clone(),
            loaded,
        })
    }

    /// What the configuration was made of, for handing it over.
    pub(crate) fn sources(&self) -> Result<&Sources> {
        Ok(&self.loaded()?.0)
    }

    /// Asks for what destroys or moves something: with `--yes` it goes on, without the plan is shown and the exit code is 5.
    pub(crate) fn consent(&self, action: impl Into<String>, plan: Vec<String>) -> Result<()> {
        if self.common.yes { Ok(()) } else { Err(Error::ConsentNeeded { action: action.into(), plan }) }
    }

    fn loaded(&self) -> Result<&(Sources, Config)> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let loaded = self.load(std::env::vars_os())?;
        Ok(self.loaded.get_or_init(|| loaded))
    }

    fn load(&self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(Sources, Config)> {
        let here = std::env::current_dir().map_err(|e| Error::file("find", Path::new("the current directory"), e))?;
        let sources = Sources::gather(self.common.config.as_deref(), variables, &here, self.flags.clone())?;
        let mut config = Config::load(&sources)?;
        config.reading.identity_file = self.reading.identity.as_ref().map(|file| sources.working_directory.join(file));
        config.reading.accepts_unencrypted = self.reading.accepts_unencrypted;
        Ok((sources, config))
    }
}

fn text(path: &Path, option: &str) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::invalid(format!("the path of {option} is not UTF-8: {}", path.display()), "rename the directory"))
}
