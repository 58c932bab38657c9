//! Settings that somebody hands to `postgres` on its command line: `-c name=value` and `--name=value`, as its manual has
//! them (*postgres*, PostgreSQL 17).

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// What pgpersist sets itself, and where to set it instead.
const OURS: [(&str, &str); 8] = [
    ("data_directory", "set `[cluster] data_directory`, or `-D` before the `--`"),
    ("config_file", "put an `include` into the `postgresql.conf` of the data directory"),
    ("port", "set `[cluster] port`"),
    ("fsync", "leave it out: a cluster that is to last keeps it on; throw-away clusters come from `pgpersist temp`"),
    ("full_page_writes", "leave it out: a cluster that is to last keeps it on"),
    ("logging_collector", "leave it out: pgpersist keeps and rotates the server's log"),
    ("log_destination", "leave it out: pgpersist reads the server's log from its stderr"),
    ("external_pid_file", "leave it out: `pgpersist status --json` tells the process id"),
];

/// Reads such arguments as names and values; of two that say the same, the last counts.
///
/// # Errors
/// `Invalid` for what is no setting, and for settings that pgpersist answers for itself.
pub fn settings(arguments: &[String]) -> Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let setting = match argument.as_str() {
            "-c" => rest.next().map(String::as_str),
            text => text.strip_prefix("--").or_else(|| text.strip_prefix("-c")),
        };
        let Some((name, value)) = setting.and_then(|setting| setting.split_once('=')) else {
            return Err(Error::invalid(
                format!("`{argument}` is no setting for postgres"),
                "write settings as `-c name=value` or `--name=value`; everything else is pgpersist's to say",
            ));
        };
        // The server reads `--shared-buffers` as `shared_buffers`.
        let name = name.replace('-', "_").to_ascii_lowercase();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
            return Err(Error::invalid(format!("`{name}` is no name of a setting"), "remove it"));
        }
        if let Some((_, remedy)) = OURS.iter().find(|(ours, _)| *ours == name) {
            return Err(Error::invalid(format!("`{name}` is not set on the command line of postgres"), *remedy));
        }
        settings.insert(name, value.to_owned());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<BTreeMap<String, String>> {
        settings(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reads_what_postgres_reads() {
        let read = read("-c work_mem=8MB -cmax_connections=7 --shared-buffers=1GB --WORK_MEM=9MB -c search_path=a=b").unwrap();
        let text: Vec<String> = read.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["max_connections=7", "search_path=a=b", "shared_buffers=1GB", "work_mem=9MB"]);
    }

    #[test]
    fn what_would_be_another_server_is_refused() {
        for line in ["-D /else", "--single", "-p 5433", "-c", "-c fsync=off", "--data-directory=/else", "--=x", "-F", "postgres", "--a b=c"]
        {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
