//! The dump that is meant, and the database that it becomes, as far as the configuration tells.

use futures_util::future::BoxFuture;

use crate::config::load::Config;
use crate::configured::stores;
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, Result};
use crate::logical::dump_source::{self, FoundDump};
use crate::logical::opening::Opening;
use crate::progress::ProgressSink;
use crate::workers;

/// Finds the dump of this name, as [`dump_source::find`] does, in the configured stores. A file needs no store to be named.
///
/// # Errors
/// As [`dump_source::find`] and [`stores::shelf`].
pub fn find<'a>(
    config: &'a Config,
    name: &'a str,
    database: Option<&'a str>,
    progress: &'a dyn ProgressSink,
) -> BoxFuture<'a, Result<FoundDump>> {
    Box::pin(async move {
        let mut found = dump_source::find(|| stores::shelf(config), name, database, progress).await?;
        if found.is_file {
            found.source.opening = opening(config).await;
        }
        Ok(found)
    })
}

/// What may open a dump from anywhere: the key of this run, and all that the stores' encryption names. That one of these cannot be
/// read matters only to a dump that needs it.
pub async fn opening(config: &Config) -> Opening {
    let own = config.own_store.iter().map(|own| own.encryption.clone());
    let configured = own.chain(config.stores.iter().map(|store| store.encryption.clone()));
    let given = EncryptionSettings { identity_file: config.reading.identity_file.clone(), ..EncryptionSettings::default() };
    let all: Vec<_> = std::iter::once(given).chain(configured).collect();
    let read = workers::run(move || {
        let mut identities = Vec::new();
        for settings in all {
            identities.extend(settings.identities()?);
        }
        Ok(identities)
    });
    match read.await {
        Ok(identities) => Opening::with(identities),
        Err(error) => Opening::without_keys(&error),
    }
}

/// The database that it becomes: the wanted one, else the one it was made of, else the one configured database.
///
/// # Errors
/// `Invalid` where nothing tells.
pub fn database(config: &Config, found: &FoundDump, wanted: Option<&str>) -> Result<String> {
    let only = match &config.cluster.databases[..] {
        [one] => Some(one.as_str()),
        _ => None,
    };
    wanted.or(found.database.as_deref()).or(only).map(str::to_owned).ok_or_else(|| {
        Error::invalid(
            format!("nothing tells which database `{}` was made of", found.name),
            "say with `-d DATABASE` which database to make",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::SourceFile;
    use crate::config::sources::Sources;

    fn config(databases: &str) -> Config {
        let file = Some(SourceFile { path: "/etc/p.toml".into(), text: format!("[cluster]\ndatabases = {databases}\n") });
        Config::load(&Sources { file, working_directory: "/".into(), ..Sources::default() }).unwrap()
    }

    #[test]
    fn a_name_that_is_given_beats_the_recorded_one_and_that_the_configured_one() {
        let mut found = FoundDump::of_a_stranger("-", "standard input", Box::new(std::io::empty()));
        found.database = Some("recorded".into());
        let one = config("['configured']");
        assert_eq!(database(&one, &found, Some("wanted")).unwrap(), "wanted");
        assert_eq!(database(&one, &found, None).unwrap(), "recorded");
        found.database = None;
        assert_eq!(database(&one, &found, None).unwrap(), "configured");
        let error = database(&config("['a', 'b']"), &found, None).unwrap_err();
        assert_eq!(error.to_string(), "nothing tells which database `-` was made of");
    }
}
