//! [`Config`]: the settings as the rest of the program wants them, and the table of where each came from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::connection::ConnectionSettings;
use crate::config::keys::{self, Kind, Support};
use crate::config::layer::{Layer, StoreValues};
use crate::config::load::hooks::HooksConfig;
use crate::config::load::own_store::OwnStore;
use crate::config::load::reading::Reading;
use crate::config::sources::Sources;
use crate::config::value::{self, Raw, Source, Sourced, Value};
use crate::config::{environment, file};
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, Result};
use crate::repo::manifest::KnownDamage;
use crate::retention::Retention;
use crate::schedule;
use crate::schedule::cron::CronSchedule;
use crate::schedule::timetable::Timetable;
use crate::store::url::StoreUrl;

mod encryption;
pub mod hooks;
pub mod own_store;
pub mod reading;
mod stores;

/// What `init` does when the directory is empty and something is known about its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenMissing {
    /// Refuse, and name the two ways out. The default.
    Refuse,
    /// Restore the newest backup or dumps.
    Restore,
}

/// `[cluster]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// The cluster's name in the stores.
    pub name: String,
    /// The data directory, absolute. Without it, commands that need one say so.
    pub data_directory: Option<PathBuf>,
    /// The port.
    pub port: u16,
    /// The databases that are created when missing, dumped, and watched.
    pub databases: Vec<String>,
    /// Whom to become when started as root.
    pub os_user: Sourced<String>,
    /// What to do when the directory is empty although something is known about it.
    pub when_missing: WhenMissing,
    /// Any setting of PostgreSQL, as text.
    pub settings: BTreeMap<String, String>,
    /// How many bytes of ballast are kept on the volume, to be given back when it is full.
    pub ballast_bytes: Option<u64>,
    /// Where PostgreSQL's programs lie, when they are not to be searched for.
    pub bin_directory: Option<PathBuf>,
}

/// One `[[store]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Its address; a folder's path is absolute.
    pub url: StoreUrl,
    /// Where it was named.
    pub source: Source,
    /// What it keeps: its own rules, else those of `[retention]`.
    pub retention: Retention,
    /// To whom what lies there is encrypted, and what opens it.
    pub encryption: EncryptionSettings,
}

/// One `[[health.probe]]`: a question whose answer is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeConfig {
    /// The finding is called `probe:<name>`.
    pub name: String,
    /// The database to ask.
    pub database: String,
    /// A query that returns one value.
    pub sql: String,
}

/// `[schedule]`, and when each job is due.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleConfig {
    /// `[dump] schedule`.
    pub dump: Option<Timetable>,
    /// How long a scheduled dump may take.
    pub dump_deadline: Duration,
    /// `[backup] schedule`.
    pub backup: Option<Timetable>,
    /// How long a scheduled backup may take.
    pub backup_deadline: Duration,
    /// Retention after each scheduled dump and backup, where there is a rule.
    pub prune: Option<Timetable>,
    /// `[drill] restore`.
    pub restore_drill: Option<Timetable>,
    /// How long a scheduled restore drill may take.
    pub drill_deadline: Duration,
    /// `[sync] schedule`, and after each scheduled dump, where there is a second store.
    pub sync: Option<Timetable>,
    /// How long it may take to bring the other stores up to date.
    pub sync_deadline: Duration,
    /// Whether somebody has set `[sync] schedule`.
    pub sync_is_set: bool,
}

impl ScheduleConfig {
    /// What is to be done at its times, by the names of the jobs. Nobody who has set no schedule need have an agent: each dump by
    /// hand brings the other stores up to date.
    pub fn named(&self) -> Vec<(String, Timetable)> {
        let sync = self.sync.clone().filter(|_| self.dump.is_some() || self.sync_is_set);
        let named = [
            (schedule::DUMP, self.dump.clone()),
            (schedule::SYNC, sync),
            (schedule::BACKUP, self.backup.clone()),
            (schedule::PRUNE, self.prune.clone()),
            (schedule::RESTORE_DRILL, self.restore_drill.clone()),
        ];
        named.into_iter().filter_map(|(name, timetable)| Some((name.to_owned(), timetable?))).collect()
    }
}

/// One `[[drill.check]]`: what must be true of a restored database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckConfig {
    /// What it is called in the drill's report.
    pub name: String,
    /// The database to ask.
    pub database: String,
    /// A query that returns one row with one boolean column.
    pub sql: String,
}

/// `[backup]`: how backups are made, whoever asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupConfig {
    /// After how many days a file is read that does not look changed. With 0, each time.
    pub full_read_days: u32,
    /// Damaged pages that do not make a backup a damaged one.
    pub known_damage: Vec<KnownDamage>,
}

/// `[health]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthConfig {
    /// How old the newest dump may be.
    pub dump_max_age: Duration,
    /// How old the newest backup may be.
    pub backup_max_age: Duration,
    /// How long ago the last proven restore of a dump may be.
    pub drill_max_age: Duration,
    /// From this many percent in use on, the disk is a warning.
    pub disk_warn_percent: u8,
    /// From this many percent in use on, the disk is a failure.
    pub disk_fail_percent: u8,
    /// When the disk will be full within this time, that is a warning.
    pub disk_full_warn: Duration,
    /// When the disk will be full within this time, that is a failure.
    pub disk_full_fail: Duration,
    /// Where the agent answers HTTP; nowhere without it.
    pub listen: Option<SocketAddr>,
    /// The file with the token that opens the details of what is answered.
    pub token_file: Option<PathBuf>,
    /// The probes, in their order.
    pub probes: Vec<ProbeConfig>,
}

/// One line of `config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShownValue {
    /// The key.
    pub key: String,
    /// The value, with its type; a secret is `***`.
    pub value: serde_json::Value,
    /// Its origin.
    pub source: Source,
}

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The file that was read, where there was one.
    pub file: Option<PathBuf>,
    /// `[cluster]`.
    pub cluster: ClusterConfig,
    /// `[[store]]`, the primary first.
    pub stores: Vec<StoreConfig>,
    /// Those that are configured, also where options name others for this run.
    pub configured_stores: Vec<StoreConfig>,
    /// The program's own store, in the place of all of these; see [`Config::with_own_store`].
    pub own_store: Option<OwnStore>,
    /// `[log] directory`; without it, logs lie beside the data.
    pub log_directory: Option<PathBuf>,
    /// What `run` does at its times.
    pub schedule: ScheduleConfig,
    /// `[backup]`.
    pub backup: BackupConfig,
    /// `[retention]`.
    pub retention: Retention,
    /// `[[drill.check]]`, in their order.
    pub drill_checks: Vec<CheckConfig>,
    /// `[health]`.
    pub health: HealthConfig,
    /// `[hooks]`.
    pub hooks: HooksConfig,
    /// What one run says of encrypted dumps that it reads. No source sets it but the program itself.
    pub reading: Reading,
    /// What libpq's environment says about sessions.
    pub connection: ConnectionSettings,
    /// What is set and has no effect, each with its place.
    pub warnings: Vec<String>,
    shown: Vec<ShownValue>,
}

impl Config {
    /// Lays the sources over each other and checks them. Reads nothing but its argument.
    ///
    /// # Errors
    /// [`Error::Config`] with the place, the key, what was expected, and for an unknown key the nearest known one.
    pub fn load(sources: &Sources) -> Result<Self> {
        let base = &sources.working_directory;
        let mut layers = vec![defaults()?, environment::read_libpq(&sources.environment, base)?];
        if let Some(file) = &sources.file {
            layers.push(file::read(file)?);
        }
        layers.push(environment::read_own(&sources.environment, base)?);
        layers.push(read_flags(sources, base)?);
        layers.push(file::read_given(&sources.given, base)?);
        let connection = ConnectionSettings::read(&sources.environment, sources.password_file.clone());
        let mut config = Merged::from(layers)?.into_config(connection)?;
        config.file = sources.file.as_ref().map(|file| file.path.clone());
        config.warnings.extend(sources.warnings.iter().cloned());
        Ok(config)
    }

    /// Every value with its origin, in a fixed order. Secrets are never among them.
    pub fn values(&self) -> &[ShownValue] {
        &self.shown
    }

    /// The data directory.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the ways to name one.
    pub fn data_directory(&self) -> Result<&Path> {
        self.cluster.data_directory.as_deref().ok_or_else(|| {
            Error::invalid(
                "no data directory is named",
                "give `--data-directory DIR`, set PGDATA, or write `data_directory` into `[cluster]` of pgpersist.toml",
            )
        })
    }

    /// The primary store. There is no default: a folder that nobody chose is no place for backups.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the ways to name one.
    pub fn primary_store(&self) -> Result<&StoreConfig> {
        self.stores.first().ok_or_else(|| {
            Error::invalid(
                "no store is named",
                "give `--store /a/persistent/folder`, set PGPERSIST_STORE_URL, or write `[[store]]` into pgpersist.toml",
            )
        })
    }
}

fn defaults() -> Result<Layer> {
    let mut layer = Layer::new(PathBuf::from("/"));
    for key in keys::KEYS {
        if let Some(default) = key.default {
            layer.set(key, Raw::Word(default.to_owned()), Source::Default)?;
        }
    }
    Ok(layer)
}

fn read_flags(sources: &Sources, base: &Path) -> Result<Layer> {
    let mut layer = Layer::new(base.to_owned());
    for flag in &sources.flags {
        let source = Source::Flag(flag.option.to_owned());
        let key = keys::find(flag.key).ok_or_else(|| Error::Bug(format!("{} sets no key", flag.option)))?;
        match key.kind {
            Kind::Store => flag.values.iter().try_for_each(|text| stores::read_option(&mut layer, key, text, source.clone()))?,
            Kind::Databases => layer.set(key, Raw::List(flag.values.iter().cloned().map(Raw::Text).collect()), source)?,
            _ => flag.values.iter().try_for_each(|text| layer.set(key, Raw::Word(text.clone()), source.clone()))?,
        }
    }
    Ok(layer)
}

/// The layers, each laid over the weaker ones.
#[derive(Default)]
struct Merged {
    values: BTreeMap<&'static str, Sourced<Value>>,
    settings: BTreeMap<String, Sourced<String>>,
    stores: Vec<StoreValues>,
    /// The stores before options chose among them.
    configured_stores: Vec<StoreValues>,
    probes: Vec<Sourced<[String; 3]>>,
    checks: Vec<Sourced<[String; 3]>>,
}

impl Merged {
    fn from(layers: Vec<Layer>) -> Result<Self> {
        let mut merged = Self::default();
        for mut layer in layers {
            merged.lay_stores(&mut layer)?;
            merged.values.extend(layer.values.into_iter().map(|(key, sourced)| (key.name, sourced)));
            merged.settings.extend(layer.settings);
            merged.probes.extend(layer.probes);
            merged.checks.extend(layer.checks);
        }
        Ok(merged)
    }

    fn into_config(self, connection: ConnectionSettings) -> Result<Config> {
        self.check_limits()?;
        let retention = Retention {
            keep_days: self.number("retention.keep_days")?,
            keep_last: self.number("retention.keep_last")?,
            keep_daily: self.number("retention.keep_daily")?,
            keep_weekly: self.number("retention.keep_weekly")?,
            keep_monthly: self.number("retention.keep_monthly")?,
            max_bytes: self.integer("retention.max_bytes"),
        };
        let (stores, configured_stores) = self.stores(retention)?;
        let os_user = self.values.get("cluster.os_user").map(|s| Sourced { value: s.value.to_string(), source: s.source.clone() });
        Ok(Config {
            file: None,
            cluster: ClusterConfig {
                name: self.text("cluster.name").ok_or_else(|| no_default("cluster.name"))?,
                data_directory: self.path("cluster.data_directory"),
                port: self.number("cluster.port")?.ok_or_else(|| no_default("cluster.port"))?,
                databases: match self.values.get("cluster.databases").map(|s| &s.value) {
                    Some(Value::List(names)) => names.clone(),
                    _ => Vec::new(),
                },
                os_user: os_user.ok_or_else(|| no_default("cluster.os_user"))?,
                when_missing: match self.text("cluster.when_missing").as_deref() {
                    Some("restore") => WhenMissing::Restore,
                    _ => WhenMissing::Refuse,
                },
                settings: self.settings.iter().map(|(name, sourced)| (name.clone(), sourced.value.clone())).collect(),
                ballast_bytes: self.integer("cluster.ballast"),
                bin_directory: self.path("cluster.bin_directory"),
            },
            log_directory: self.path("log.directory"),
            schedule: self.schedule(&retention, &stores)?,
            stores,
            configured_stores,
            own_store: None,
            backup: BackupConfig {
                full_read_days: self.number("backup.full_read_days")?.ok_or_else(|| no_default("backup.full_read_days"))?,
                known_damage: match self.values.get("backup.known_damage").map(|s| &s.value) {
                    Some(Value::List(pages)) => pages.iter().map(|page| page.parse()).collect::<Result<_>>()?,
                    _ => Vec::new(),
                },
            },
            retention,
            drill_checks: questions(&self.checks, |[name, database, sql]| CheckConfig { name, database, sql }),
            health: HealthConfig {
                dump_max_age: self.duration("health.dump_max_age")?,
                backup_max_age: self.duration("health.backup_max_age")?,
                drill_max_age: self.duration("health.drill_max_age")?,
                disk_warn_percent: self.number("health.disk_warn_percent")?.ok_or_else(|| no_default("health.disk_warn_percent"))?,
                disk_fail_percent: self.number("health.disk_fail_percent")?.ok_or_else(|| no_default("health.disk_fail_percent"))?,
                disk_full_warn: self.duration("health.disk_full_warn")?,
                disk_full_fail: self.duration("health.disk_full_fail")?,
                listen: self.address("health.listen")?,
                token_file: self.path("health.token_file"),
                probes: questions(&self.probes, |[name, database, sql]| ProbeConfig { name, database, sql }),
            },
            hooks: self.hooks()?,
            reading: Reading::default(),
            warnings: self.unused(),
            shown: self.shown(&connection),
            connection,
        })
    }

    fn text(&self, key: &str) -> Option<String> {
        self.values.get(key).map(|sourced| sourced.value.to_string())
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    fn address(&self, key: &str) -> Result<Option<SocketAddr>> {
        let convert = |text: String| text.parse().map_err(|_| Error::Bug(format!("`{key}` is `{text}`, which its check let pass")));
        self.text(key).map(convert).transpose()
    }

    fn integer(&self, key: &str) -> Option<u64> {
        match self.values.get(key)?.value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    fn number<T: TryFrom<u64>>(&self, key: &str) -> Result<Option<T>> {
        let convert = |number| T::try_from(number).map_err(|_| Error::Bug(format!("`{key}` is {number}, which its check let pass")));
        self.integer(key).map(convert).transpose()
    }

    fn optional_duration(&self, key: &str) -> Option<Duration> {
        match self.values.get(key)?.value {
            Value::Duration(duration, _) => Some(duration),
            _ => None,
        }
    }

    fn duration(&self, key: &str) -> Result<Duration> {
        self.optional_duration(key).ok_or_else(|| no_default(key))
    }

    fn schedule(&self, retention: &Retention, stores: &[StoreConfig]) -> Result<ScheduleConfig> {
        let (dump, backup) = (self.timetable("dump.schedule")?, self.timetable("backup.schedule")?);
        // It follows what succeeds: of what fails, nothing is dropped.
        let prunes = *retention != Retention::default() || stores.iter().any(|store| !store.retention.is_empty());
        let first = dump.as_ref().or(backup.as_ref()).filter(|_| prunes);
        let prune = first.map(|followed| Timetable { schedule: None, ..followed.clone() });
        Ok(ScheduleConfig {
            dump,
            dump_deadline: self.duration("dump.deadline")?,
            backup,
            backup_deadline: self.duration("backup.deadline")?,
            prune,
            restore_drill: self.timetable("drill.restore")?,
            drill_deadline: self.duration("drill.deadline")?,
            sync: if self.stores.len() > 1 { self.timetable("sync.schedule")? } else { None },
            sync_deadline: self.duration("sync.deadline")?,
            sync_is_set: self.values.get("sync.schedule").is_some_and(|sourced| sourced.source != Source::Default),
        })
    }

    /// The times of the job that this key gives a schedule, with what `[schedule]` says of all jobs.
    fn timetable(&self, key: &str) -> Result<Option<Timetable>> {
        let Some(sourced) = self.values.get(key) else { return Ok(None) };
        let zone = self.text("schedule.time_zone").ok_or_else(|| no_default("schedule.time_zone"))?;
        let schedule =
            CronSchedule::parse(&sourced.value.to_string(), &zone).map_err(|reason| value::wrong(&sourced.source, key, &reason, None))?;
        Ok(Some(Timetable {
            jitter: self.optional_duration("schedule.jitter").unwrap_or_default(),
            attempts: self.number("schedule.attempts")?.ok_or_else(|| no_default("schedule.attempts"))?,
            retry_wait: self.duration("schedule.retry_wait")?,
            ..Timetable::new(schedule)
        }))
    }

    fn unused(&self) -> Vec<String> {
        let token = self.values.get("health.token_file").filter(|_| !self.values.contains_key("health.listen"));
        let token = token.map(|file| format!("`health.token_file` ({}) opens nothing without `health.listen`", file.source));
        let later = keys::KEYS.iter().filter(|key| key.support == Support::Later);
        later
            .filter_map(|key| self.values.get(key.name).map(|sourced| (key.name, &sourced.source)))
            .map(|(name, source)| format!("`{name}` ({source}) is not used by this version"))
            .chain(token)
            .chain(self.stores.iter().filter_map(encryption::unused))
            .chain(self.unused_of_hooks())
            .chain(self.unused_of_stores())
            .collect()
    }

    fn shown(&self, connection: &ConnectionSettings) -> Vec<ShownValue> {
        let mut shown = Vec::new();
        let mut show = |key: String, value: serde_json::Value, source: &Source| {
            shown.push(ShownValue { key, value, source: source.clone() });
        };
        for key in keys::KEYS {
            if let Some(sourced) = self.values.get(key.name) {
                show(key.name.to_owned(), hooks::without_secrets(key.kind, &sourced.value), &sourced.source);
            }
            // The settings of PostgreSQL follow the section they belong to.
            if key.name == "cluster.bin_directory" {
                for (name, sourced) in &self.settings {
                    let value = if holds_secret(&sourced.value) { "***" } else { &sourced.value };
                    show(format!("{}.{name}", keys::SETTINGS), value.into(), &sourced.source);
                }
                for (key, value, source) in self.shown_stores() {
                    show(key, value, &source);
                }
            }
        }
        for (list, questions) in [("drill.check", &self.checks), ("health.probe", &self.probes)] {
            for sourced in questions {
                let [name, database, sql] = &sourced.value;
                show(format!("{list}.{name}"), serde_json::json!({ "database": database, "sql": sql }), &sourced.source);
            }
        }
        for (key, value, source) in connection.shown() {
            show(key.to_owned(), value.into(), &source);
        }
        shown
    }
}

fn questions<T>(list: &[Sourced<[String; 3]>], make: impl Fn([String; 3]) -> T) -> Vec<T> {
    list.iter().map(|sourced| make(sourced.value.clone())).collect()
}

/// A setting such as `primary_conninfo` may carry a password; a false alarm costs a line of `config show`, no more.
fn holds_secret(setting: &str) -> bool {
    let lower = setting.to_ascii_lowercase();
    ["password", "passphrase", "secret", "://"].iter().any(|word| lower.contains(word))
}

fn no_default(key: &str) -> Error {
    Error::Bug(format!("`{key}` has no default"))
}

mod limits;
#[cfg(test)]
mod tests;
