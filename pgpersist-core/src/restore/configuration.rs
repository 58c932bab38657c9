//! The configuration of a restored cluster lies in its data directory, whole, so that the server starts with it: what lay outside, as on
//! Debian, comes in, and the settings that named it are rewritten.
//!
//! Source: *File Locations*, *Managing Configuration File Contents* and *The pg_hba.conf File*, PostgreSQL 17. Files named by settings are
//! relative to the data directory, included ones to the file that includes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::migrate::access_rules;
use crate::migrate::configuration::Setting;
use crate::pg::quote;
use crate::repo::manifest::OutsideFile;

/// The main file.
pub const MAIN: &str = "postgresql.conf";
/// Who may log in.
const ACCESS: &str = "pg_hba.conf";
/// Who may log in as whom.
const IDENTS: &str = "pg_ident.conf";
/// PostgreSQL's own limit on nested includes.
const DEEPEST: u32 = 10;
/// Settings that name files of the machine that the backup was made on.
const TLS: [&str; 5] = ["ssl_cert_file", "ssl_key_file", "ssl_ca_file", "ssl_crl_file", "ssl_dh_params_file"];

/// What is to be written into a restored data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Files by their paths in the data directory.
    pub files: BTreeMap<String, String>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// What is known of the data directory that it is made for.
pub struct Restored<'a> {
    /// Its own `postgresql.conf`, where it has one.
    pub main: Option<&'a str>,
    /// The names at its top.
    pub names: &'a BTreeSet<String>,
    /// Whether a file of this machine can be read.
    pub readable: &'a dyn Fn(&Path) -> bool,
}

/// Brings in what lay outside.
pub fn bring_in(outside: &[OutsideFile], restored: &Restored<'_>) -> Configuration {
    let mut carrier = Carrier { outside, restored, places: BTreeMap::new(), made: Configuration::default(), tls: false, tls_lost: None };
    carrier.main();
    for (setting, name) in [("hba_file", ACCESS), ("ident_file", IDENTS)] {
        if let Some(file) = outside.iter().find(|file| file.setting == setting) {
            // In force whatever lay in the data directory under this name, and under no other: a relative path in the setting would count
            // from the folder that the server is started in.
            let text = carrier.rules(file);
            carrier.made.files.insert(name.to_owned(), text);
        }
    }
    if !restored.names.contains(ACCESS) && !carrier.made.files.contains_key(ACCESS) {
        carrier
            .made
            .warnings
            .push(format!("the backup has no {ACCESS}: the restored one lets in the cluster's own user alone, through the socket"));
        carrier.made.files.insert(ACCESS.to_owned(), "# The backup had none.\nlocal all all peer\n".to_owned());
    }
    carrier.made
}

struct Carrier<'a> {
    outside: &'a [OutsideFile],
    restored: &'a Restored<'a>,
    /// Where what lay outside goes, by where it lay.
    places: BTreeMap<PathBuf, String>,
    made: Configuration,
    tls: bool,
    tls_lost: Option<String>,
}

enum Line {
    Keep,
    Value(String),
    Drop,
}

impl<'a> Carrier<'a> {
    fn main(&mut self) {
        let (outside, restored) = (self.outside, self.restored);
        let text = match (outside.iter().find(|file| file.setting == "config_file"), restored.main) {
            // It was in force, whatever lies in the data directory.
            (Some(file), _) => self.settings(&file.content, Path::new(&file.location).parent(), "", 0),
            (None, Some(text)) => self.settings(text, None, "", 0),
            (None, None) => {
                self.made
                    .warnings
                    .push(format!("the backup has no {MAIN}: the restored one says nothing, and PostgreSQL's defaults are in force"));
                "# The backup had none.\n".to_owned()
            }
        };
        let text = match self.tls_lost.take().filter(|_| self.tls) {
            Some(lost) => {
                self.made.warnings.push(format!("TLS is off, since its files are not on this machine: {lost}"));
                format!("{text}\nssl = off\t# its certificate or key is not on this machine\n")
            }
            None => text,
        };
        if self.restored.main != Some(text.as_str()) {
            self.made.files.insert(MAIN.to_owned(), text);
        }
    }

    /// A file of settings; `folder` is where it lay, `None` for the data directory, and `up` leads from where it will lie to the data directory.
    fn settings(&mut self, text: &str, folder: Option<&Path>, up: &str, depth: u32) -> String {
        let mut lines = Vec::new();
        for line in text.split('\n') {
            let rewritten = match Setting::parse(line.as_bytes()) {
                Some(setting) => match self.line(&setting, folder, depth) {
                    Line::Keep => None,
                    Line::Value(value) if setting.name.starts_with("include") => {
                        quote::setting(&format!("{up}{value}")).map(|value| format!("{} {value}", setting.name))
                    }
                    Line::Value(value) => quote::setting(&value).map(|value| format!("{} = {value}", setting.name)),
                    Line::Drop => Some(format!("# not in force since the restore: {line}")),
                },
                None => None,
            };
            lines.push(rewritten.unwrap_or_else(|| line.to_owned()));
        }
        lines.join("\n")
    }

    fn line(&mut self, setting: &Setting, folder: Option<&Path>, depth: u32) -> Line {
        let value = Path::new(&setting.value);
        let named = match folder {
            Some(folder) => folder.join(value),
            None => value.to_owned(),
        };
        match setting.name.as_str() {
            "include" | "include_if_exists" => self.include(&named, setting.name == "include", depth),
            "include_dir" => self.include_folder(&named, depth),
            "hba_file" => self.named(value, "hba_file", ACCESS),
            "ident_file" => self.named(value, "ident_file", IDENTS),
            "data_directory" | "external_pid_file" | "stats_temp_directory" => Line::Drop,
            "log_directory" if value.is_absolute() && !(self.restored.readable)(value) => Line::Drop,
            name if TLS.contains(&name) && value.is_absolute() && !(self.restored.readable)(value) => {
                self.tls_lost = Some(format!("{name} = '{}'", setting.value));
                Line::Drop
            }
            "ssl" => {
                self.tls |= matches!(setting.value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t" | "y");
                Line::Keep
            }
            _ => Line::Keep,
        }
    }

    fn include(&mut self, named: &Path, must_be_there: bool, depth: u32) -> Line {
        let Some(file) = self.find(named) else {
            return self.not_brought(named, must_be_there);
        };
        if depth >= DEEPEST {
            return Line::Drop;
        }
        let place = self.place_of(file);
        if !self.made.files.contains_key(&place) {
            let text = self.settings(&file.content, Path::new(&file.location).parent(), "", depth + 1);
            self.made.files.insert(place.clone(), text);
        }
        Line::Value(place)
    }

    fn include_folder(&mut self, named: &Path, depth: u32) -> Line {
        let outside = self.outside;
        let inside: Vec<&'a OutsideFile> = outside.iter().filter(|file| Path::new(&file.location).parent() == Some(named)).collect();
        if inside.is_empty() {
            // A folder with nothing in it, and one that was in the data directory.
            return if named.is_absolute() { Line::Drop } else { Line::Keep };
        }
        if depth >= DEEPEST {
            return Line::Drop;
        }
        let folder = self.free(named.file_name().map_or_else(|| "conf.d".to_owned(), |name| name.to_string_lossy().into_owned()), named);
        for file in inside {
            let name = Path::new(&file.location).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let text = self.settings(&file.content, Some(named), "../", depth + 1);
            self.made.files.insert(format!("{folder}/{name}"), text);
        }
        Line::Value(folder)
    }

    /// A setting that names a file of access rules.
    fn named(&mut self, value: &Path, setting: &str, name: &str) -> Line {
        if self.outside.iter().any(|file| file.setting == setting) {
            return Line::Drop;
        }
        // What is not there keeps the server from starting.
        if value.is_absolute() && !(self.restored.readable)(value) {
            self.made.warnings.push(format!("{setting} named {}, which is not part of the backup: {name} is in force", value.display()));
            return Line::Drop;
        }
        Line::Keep
    }

    /// Rules, with what they include in the place where they will find it.
    fn rules(&mut self, file: &OutsideFile) -> String {
        let folder = Path::new(&file.location).parent().unwrap_or(Path::new("/")).to_owned();
        let mut text = file.content.clone();
        for named in access_rules::included(&file.content) {
            let inside = named.is_relative() && named.components().all(|part| matches!(part, Component::Normal(_)));
            let place = match (self.find(&folder.join(&named)), named.to_str()) {
                (Some(other), Some(shown)) if inside && !self.is_taken(shown) => Some((other, shown, shown.to_owned())),
                // A path is no word that could stand for something else as well.
                (Some(other), Some(shown)) if shown.contains('/') => Some((other, shown, self.place_of(other))),
                _ => None,
            };
            match place {
                Some((other, shown, place)) => {
                    text = text.replace(shown, &place);
                    self.made.files.insert(place, other.content.clone());
                }
                None => {
                    let warning = format!("{} includes {}, which is not part of the backup", file.location, named.display());
                    self.made.warnings.push(warning);
                }
            }
        }
        text
    }

    fn not_brought(&mut self, named: &Path, must_be_there: bool) -> Line {
        if !named.is_absolute() || !must_be_there || (self.restored.readable)(named) {
            return Line::Keep;
        }
        self.made.warnings.push(format!("the configuration includes {}, which is not part of the backup", named.display()));
        Line::Drop
    }

    fn find(&self, location: &Path) -> Option<&'a OutsideFile> {
        let outside = self.outside;
        outside.iter().find(|file| Path::new(&file.location) == location)
    }

    fn place_of(&mut self, file: &OutsideFile) -> String {
        let location = Path::new(&file.location);
        let name = location.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.free(name, location)
    }

    /// A name at the top of the data directory that nothing has; always the same one for what lay in one place.
    fn free(&mut self, name: String, location: &Path) -> String {
        if let Some(place) = self.places.get(location) {
            return place.clone();
        }
        let mut place = name.clone();
        let mut number = 1;
        while self.is_taken(&place) {
            number += 1;
            place = format!("from-outside-{number}-{name}");
        }
        self.places.insert(location.to_owned(), place.clone());
        place
    }

    fn is_taken(&self, place: &str) -> bool {
        [MAIN, ACCESS, IDENTS, "postgresql.auto.conf", "pgpersist.conf"].contains(&place)
            || self.restored.names.contains(place)
            || self.made.files.contains_key(place)
            || self.places.values().any(|other| other == place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(files: &[(&str, &str, &str)]) -> Vec<OutsideFile> {
        let file = |(setting, location, content): &(&str, &str, &str)| OutsideFile {
            setting: (*setting).to_owned(),
            location: (*location).to_owned(),
            content: (*content).to_owned(),
        };
        files.iter().map(file).collect()
    }

    fn brought(files: &[(&str, &str, &str)], main: Option<&str>, names: &[&str]) -> Configuration {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        bring_in(&outside(files), &Restored { main, names: &names, readable: &|path| path.starts_with("/here") })
    }

    #[test]
    fn debians_configuration_comes_into_the_data_directory() {
        let main = "data_directory = '/var/lib/postgresql/15/main'\nhba_file = '/etc/pg/pg_hba.conf'\nident_file = '/etc/pg/pg_ident.conf'\n\
                    external_pid_file = '/run/x.pid'\nport = 5433\nssl = on\nssl_cert_file = '/etc/ssl/snakeoil.pem'\n\
                    include_dir = 'conf.d'\ninclude_if_exists 'absent.conf'\ninclude '/etc/shared/more.conf'\n";
        let brought = brought(
            &[
                ("config_file", "/etc/pg/postgresql.conf", main),
                ("hba_file", "/etc/pg/pg_hba.conf", "local all all peer\nlocal @dbs all peer\n"),
                ("ident_file", "/etc/pg/pg_ident.conf", "# none\n"),
                ("include", "/etc/pg/conf.d/b.conf", "work_mem = 8MB\ninclude 'inner.conf'\n"),
                ("include", "/etc/pg/conf.d/inner.conf", "x.y = 1\n"),
                ("include", "/etc/shared/more.conf", "jit = off\n"),
                ("include", "/etc/pg/dbs", "shop\n"),
            ],
            None,
            &["PG_VERSION", "postgresql.auto.conf", "more.conf"],
        );
        let names: Vec<&str> = brought.files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "conf.d/b.conf",
                "conf.d/inner.conf",
                "dbs",
                "from-outside-2-more.conf",
                "inner.conf",
                "pg_hba.conf",
                "pg_ident.conf",
                "postgresql.conf"
            ]
        );
        let text = &brought.files["postgresql.conf"];
        for line in
            ["port = 5433", "ssl = on", "include_dir 'conf.d'", "include_if_exists 'absent.conf'", "include 'from-outside-2-more.conf'"]
        {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert!(text.ends_with("ssl = off\t# its certificate or key is not on this machine\n"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("hba_file") || line.starts_with("data_directory")), "{text}");
        assert!(brought.files["conf.d/b.conf"].contains("include '../inner.conf'"));
        assert_eq!(brought.files["pg_hba.conf"], "local all all peer\nlocal @dbs all peer\n");
        assert_eq!(brought.warnings, ["TLS is off, since its files are not on this machine: ssl_cert_file = '/etc/ssl/snakeoil.pem'"]);
    }

    #[test]
    fn a_data_directory_with_all_of_it_stays_as_it_is() {
        let main = "port = 5432\ninclude 'more.conf'\nssl_cert_file = '/here/server.crt'\nhba_file = 'rules.conf'\n";
        let none = brought(&[], Some(main), &["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "more.conf", "rules.conf"]);
        assert_eq!(none, Configuration::default());
    }

    #[test]
    fn rules_that_were_in_force_are_in_force_although_others_lie_about() {
        let brought = brought(
            &[("hba_file", "/etc/pg_hba.conf", "local all all reject\n")],
            Some("hba_file = '/etc/pg_hba.conf'\n"),
            &["postgresql.conf", "pg_hba.conf"],
        );
        assert_eq!(brought.files["postgresql.conf"], "# not in force since the restore: hba_file = '/etc/pg_hba.conf'\n");
        assert_eq!(brought.files["pg_hba.conf"], "local all all reject\n");
        assert!(brought.warnings.is_empty(), "{:?}", brought.warnings);
    }

    #[test]
    fn a_backup_without_a_configuration_gets_the_least_that_starts() {
        let brought = brought(&[], None, &["PG_VERSION"]);
        assert_eq!(brought.files.keys().collect::<Vec<_>>(), ["pg_hba.conf", "postgresql.conf"]);
        assert_eq!(brought.warnings.len(), 2);
    }
}
