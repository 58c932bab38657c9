//! Every key of the configuration, in one table: what it holds, its default, and whether this version uses it.

use crate::schedule::cron;

/// What a key holds, and so what its value is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Any text but an empty one.
    Text,
    /// A name that becomes part of paths and finding names: letters, digits, `.`, `_`, `-`.
    Name,
    /// A path; a relative one counts from the file that names it, or from the working directory.
    Path,
    /// A path or URL of a store; relative as [`Kind::Path`].
    Store,
    /// A TCP port, which also names the socket.
    Port,
    /// An IP address and a TCP port to listen on, such as `127.0.0.1:9432`; port 0 takes any that is free.
    Address,
    /// A whole number, at least 1.
    Count,
    /// A whole number of days; 0 has a meaning of its own.
    Days,
    /// Percent, 1 to 100.
    Percent,
    /// A duration with its unit, such as `26h`.
    Duration,
    /// A size, such as `10GB`.
    Size,
    /// A cron expression of five fields.
    Schedule,
    /// A time zone of the IANA database.
    TimeZone,
    /// A list of database names.
    Databases,
    /// A list of public keys of age.
    Recipients,
    /// A list of damaged pages that are known.
    KnownDamage,
    /// A program and its arguments, as a list.
    Command,
    /// An address that is called, `http://…` or `https://…`; what follows its host is never shown.
    Url,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// How far this version honours a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It is used.
    Used,
    /// It is part of the contract and checked, but nothing reads it yet: `config check` warns.
    Later,
    /// It is part of the contract, and going on without it would betray who set it: refused.
    Refused,
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// `section.key`.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The default as text, where there is one.
    pub default: Option<&'static str>,
    /// Whether this version uses it.
    pub support: Support,
}

const fn used(name: &'static str, kind: Kind, default: Option<&'static str>) -> Key {
    Key { name, kind, default, support: Support::Used }
}

const fn later(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, default: None, support: Support::Later }
}

/// All keys with one value each, in the order in which they are shown. The free table `[cluster.settings]` and the lists
/// `[[store]]`, `[[drill.check]]` and `[[health.probe]]` have rules of their own.
pub const KEYS: &[Key] = &[
    used("cluster.name", Kind::Name, Some("main")),
    used("cluster.data_directory", Kind::Path, None),
    used("cluster.port", Kind::Port, Some("5432")),
    used("cluster.databases", Kind::Databases, Some("")),
    used("cluster.os_user", Kind::Text, Some("postgres")),
    used("cluster.when_missing", Kind::OneOf(&["refuse", "restore"]), Some("refuse")),
    used("cluster.ballast", Kind::Size, None),
    used("cluster.bin_directory", Kind::Path, None),
    used("log.directory", Kind::Path, None),
    used("schedule.time_zone", Kind::TimeZone, Some(cron::DEFAULT_TIME_ZONE)),
    used("schedule.jitter", Kind::Duration, None),
    used("schedule.attempts", Kind::Count, Some("4")),
    used("schedule.retry_wait", Kind::Duration, Some("1m")),
    used("dump.schedule", Kind::Schedule, None),
    used("dump.deadline", Kind::Duration, Some("12h")),
    used("backup.schedule", Kind::Schedule, None),
    used("backup.deadline", Kind::Duration, Some("12h")),
    used("backup.full_read_days", Kind::Days, Some("7")),
    used("backup.known_damage", Kind::KnownDamage, None),
    // No default: what nobody asked to drop is kept.
    used("retention.keep_days", Kind::Count, None),
    used("retention.keep_last", Kind::Count, None),
    used("retention.keep_daily", Kind::Count, None),
    used("retention.keep_weekly", Kind::Count, None),
    used("retention.keep_monthly", Kind::Count, None),
    used("retention.max_bytes", Kind::Size, None),
    used("sync.schedule", Kind::Schedule, Some("23 * * * *")),
    used("sync.deadline", Kind::Duration, Some("12h")),
    later("wal.ship_interval", Kind::Duration),
    used("drill.restore", Kind::Schedule, None),
    used("drill.deadline", Kind::Duration, Some("12h")),
    used("health.listen", Kind::Address, None),
    used("health.token_file", Kind::Path, None),
    used("health.dump_max_age", Kind::Duration, Some("26h")),
    used("health.backup_max_age", Kind::Duration, Some("26h")),
    used("health.drill_max_age", Kind::Duration, Some("35d")),
    used("health.disk_warn_percent", Kind::Percent, Some("85")),
    used("health.disk_fail_percent", Kind::Percent, Some("95")),
    used("health.disk_full_warn", Kind::Duration, Some("45d")),
    used("health.disk_full_fail", Kind::Duration, Some("3d")),
    used("hooks.command", Kind::Command, None),
    used("hooks.webhook", Kind::Url, None),
    used("hooks.webhook_file", Kind::Path, None),
    used("hooks.webhook_token_file", Kind::Path, None),
    used("hooks.ca_file", Kind::Path, None),
    used("hooks.interval", Kind::Duration, Some("1m")),
    used("hooks.deadline", Kind::Duration, Some("30s")),
    used("hooks.heartbeat", Kind::Url, None),
    used("hooks.heartbeat_interval", Kind::Duration, Some("1m")),
];

/// The keys of one `[[store]]`.
pub const STORE_KEYS: &[Key] = &[
    used("store.url", Kind::Store, None),
    used("store.encryption.recipients", Kind::Recipients, None),
    used("store.encryption.passphrase_file", Kind::Path, None),
    used("store.encryption.identity_file", Kind::Path, None),
    // Of what `[retention]` says a store with any of these takes nothing.
    used("store.keep_days", Kind::Count, None),
    used("store.keep_last", Kind::Count, None),
    used("store.keep_daily", Kind::Count, None),
    used("store.keep_weekly", Kind::Count, None),
    used("store.keep_monthly", Kind::Count, None),
    used("store.max_bytes", Kind::Size, None),
];
/// The table below a store's keys that says how it is encrypted.
pub const STORE_ENCRYPTION: &str = "store.encryption";

/// The keys of one `[[health.probe]]`; all are needed.
pub const PROBE_KEYS: &[Key] = &[
    used("health.probe.name", Kind::Name, None),
    used("health.probe.database", Kind::Text, None),
    used("health.probe.sql", Kind::Text, None),
];

/// The keys of one `[[drill.check]]`; all are needed.
pub const CHECK_KEYS: &[Key] = &[
    used("drill.check.name", Kind::Name, None),
    used("drill.check.database", Kind::Text, None),
    used("drill.check.sql", Kind::Text, None),
];

/// The prefix of the keys of the free table.
pub const SETTINGS: &str = "cluster.settings";

/// The key of this name, whichever list it belongs to.
pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// The step that helps with an unknown key: where it belongs, or the nearest known one.
pub fn suggestion(unknown: &str) -> String {
    let (section, word) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let nearest = names()
        .into_iter()
        .map(|name| (distance(unknown, section, word, &name), name))
        .filter(|(distance, _)| *distance <= 2.max(word.chars().count() / 3))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, name)) => match name.rsplit_once('.') {
            Some((known_section, known)) if known_section == section => format!("did you mean `{known}`?"),
            Some((known_section, known)) if known == word => format!("did you mean `{known}` in `[{known_section}]`?"),
            _ => format!("did you mean `{name}`?"),
        },
        None => "`pgpersist config example` shows every key".to_owned(),
    }
}

fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(STORE_KEYS).chain(PROBE_KEYS).chain(CHECK_KEYS)
}

/// Every name that may stand in a file: keys, and the sections that hold them.
fn names() -> Vec<String> {
    let mut names: Vec<String> = all().map(|key| key.name.to_owned()).collect();
    names.push(SETTINGS.to_owned());
    let sections: Vec<String> = names.iter().filter_map(|name| name.rsplit_once('.')).map(|(section, _)| section.to_owned()).collect();
    names.extend(sections);
    names
}

/// How far a known name is from an unknown one: the words count, and another section counts as one typing error.
fn distance(unknown: &str, section: &str, word: &str, known: &str) -> usize {
    let (known_section, known_word) = known.rsplit_once('.').unwrap_or(("", known));
    let whole = strsim::damerau_levenshtein(unknown, known);
    let elsewhere = usize::from(section != known_section);
    // A section and a key never replace each other unless their whole names are alike.
    if section.is_empty() != known_section.is_empty() {
        return if word == known_word { 1 } else { whole };
    }
    whole.min(strsim::damerau_levenshtein(word, known_word) + elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_key() {
        assert_eq!(suggestion("cluster.prot"), "did you mean `port`?");
        assert_eq!(suggestion("cluster.datadirectory"), "did you mean `data_directory`?");
        assert_eq!(suggestion("clustre"), "did you mean `cluster`?");
        assert_eq!(suggestion("clustre.port"), "did you mean `port` in `[cluster]`?");
    }

    #[test]
    fn a_key_in_the_wrong_section_is_sent_home() {
        assert_eq!(suggestion("cluster.keep_days"), "did you mean `keep_days` in `[retention]`?");
        assert_eq!(suggestion("keep_days"), "did you mean `keep_days` in `[retention]`?");
    }

    #[test]
    fn nothing_near_points_to_the_example() {
        assert_eq!(suggestion("cluster.xylophone"), "`pgpersist config example` shows every key");
    }
}
