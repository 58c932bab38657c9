//! Reads the configuration file: TOML, with the line of every value.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::keys::{self, Key};
use crate::config::layer::Layer;
use crate::config::value::{self, Raw, Source, Sourced};
use crate::error::{Error, Result};

/// The example that `pgpersist config example` prints: every key, commented.
pub const EXAMPLE: &str = include_str!("example.toml");

/// A file's name and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its absolute path; relative paths in it count from its folder.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// Reads a file's values.
///
/// # Errors
/// [`Error::Config`] that names file, line and key.
pub(crate) fn read(file: &SourceFile) -> Result<Layer> {
    read_text(&file.text, Some(&file.path), file.path.parent().unwrap_or(Path::new("/")))
}

/// Reads the values that a program gives. They go through the text of a file, so that they are checked by the same rules.
///
/// # Errors
/// [`Error::Config`] that names the key.
pub(crate) fn read_given(given: &toml::Table, base: &Path) -> Result<Layer> {
    let text = toml::to_string(given).map_err(|error| Error::Config {
        place: "the values that the program gives".to_owned(),
        reason: error.to_string(),
        remedy: Some("give text, whole numbers, true, false, lists and tables of these".to_owned()),
    })?;
    read_text(&text, None, base)
}

fn read_text(text: &str, path: Option<&Path>, base: &Path) -> Result<Layer> {
    let lines = Lines { path, text };
    let document = DeTable::parse(text).map_err(|error| lines.syntax(&error))?;
    let mut layer = Layer::new(base.to_owned());
    for (section, content) in document.get_ref() {
        let (name, source) = (section.get_ref().as_ref(), lines.source(section));
        match (name, content.get_ref()) {
            ("store", DeValue::Array(stores)) => {
                for store in stores.iter() {
                    let Some(table) = store.get_ref().as_table() else { return Err(not_tables("store", &source)) };
                    read_store(table, &lines.source(store), &lines, &mut layer)?;
                }
            }
            ("store", _) => return Err(not_tables("store", &source)),
            (_, DeValue::Table(table)) if is_section(name) => read_section(name, table, &lines, &mut layer)?,
            _ if is_section(name) => {
                return Err(value::wrong(&source, name, "expected a section", Some(format!("write `[{name}]` on a line of its own"))));
            }
            _ => return Err(unknown(name, &source)),
        }
    }
    Ok(layer)
}

fn read_section(section: &str, table: &DeTable<'_>, lines: &Lines<'_>, layer: &mut Layer) -> Result<()> {
    for (word, content) in table {
        let (name, source) = (format!("{section}.{}", word.get_ref()), lines.source(word));
        match content.get_ref() {
            DeValue::Table(settings) if name == keys::SETTINGS => read_settings("", settings, lines, layer)?,
            _ if name == keys::SETTINGS => {
                return Err(value::wrong(&source, &name, "expected a section", Some(format!("write `[{name}]` on a line of its own"))));
            }
            content => match (Questions::of(&name), content) {
                (Some(list), DeValue::Array(questions)) => {
                    for question in questions.iter() {
                        let Some(table) = question.get_ref().as_table() else { return Err(not_tables(&name, &source)) };
                        read_question(list, table, lines.source(question), lines, layer)?;
                    }
                }
                (Some(_), _) => return Err(not_tables(&name, &source)),
                (None, scalar) => layer.set(plain_key(&name, &source)?, raw(scalar), source)?,
            },
        }
    }
    Ok(())
}

/// A dotted setting, such as `pg_stat_statements.max`, arrives as a table in a table.
fn read_settings(prefix: &str, table: &DeTable<'_>, lines: &Lines<'_>, layer: &mut Layer) -> Result<()> {
    for (word, content) in table {
        let name = format!("{prefix}{}", word.get_ref());
        match content.get_ref() {
            DeValue::Table(below) => read_settings(&format!("{name}."), below, lines, layer)?,
            scalar => layer.setting(&name, raw(scalar), lines.source(word))?,
        }
    }
    Ok(())
}

fn read_store(table: &DeTable<'_>, place: &Source, lines: &Lines<'_>, layer: &mut Layer) -> Result<()> {
    let mut said = Vec::new();
    for (word, content) in table {
        let (name, source) = (format!("store.{}", word.get_ref()), lines.source(word));
        match content.get_ref() {
            DeValue::Table(below) if name == keys::STORE_ENCRYPTION => {
                if below.is_empty() {
                    return Err(value::wrong(
                        &source,
                        &name,
                        "it says to whom nothing",
                        Some("write `recipients` into it, or remove it".to_owned()),
                    ));
                }
                for (word, content) in below {
                    let (name, source) = (format!("{name}.{}", word.get_ref()), lines.source(word));
                    said.push((store_key(&name, &source)?, raw(content.get_ref()), source));
                }
            }
            _ if name == keys::STORE_ENCRYPTION => {
                return Err(value::wrong(
                    &source,
                    &name,
                    "expected a table",
                    Some("write `encryption = { recipients = [\"age1…\"] }`".to_owned()),
                ));
            }
            content => said.push((store_key(&name, &source)?, raw(content), source)),
        }
    }
    layer.store_with(said)?;
    if table.get("url").is_none() {
        return Err(value::wrong(
            place,
            "store",
            "this store has no `url`",
            Some("add `url = \"file:///a/persistent/folder\"`".to_owned()),
        ));
    }
    Ok(())
}

fn store_key(name: &str, source: &Source) -> Result<&'static Key> {
    keys::STORE_KEYS.iter().find(|key| key.name == name).ok_or_else(|| unknown(name, source))
}

/// A list of the user's own questions to databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Questions {
    Probes,
    Checks,
}

impl Questions {
    fn of(name: &str) -> Option<Self> {
        [Self::Probes, Self::Checks].into_iter().find(|list| list.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Probes => "health.probe",
            Self::Checks => "drill.check",
        }
    }

    /// What one of them is called.
    fn word(self) -> &'static str {
        match self {
            Self::Probes => "probe",
            Self::Checks => "check",
        }
    }

    fn keys(self) -> &'static [Key] {
        match self {
            Self::Probes => keys::PROBE_KEYS,
            Self::Checks => keys::CHECK_KEYS,
        }
    }

    fn list(self, layer: &mut Layer) -> &mut Vec<Sourced<[String; 3]>> {
        match self {
            Self::Probes => &mut layer.probes,
            Self::Checks => &mut layer.checks,
        }
    }
}

fn read_question(list: Questions, table: &DeTable<'_>, place: Source, lines: &Lines<'_>, layer: &mut Layer) -> Result<()> {
    let mut found: [Option<String>; 3] = [None, None, None];
    for (word, content) in table {
        let (name, source) = (format!("{}.{}", list.name(), word.get_ref()), lines.source(word));
        let position = list.keys().iter().position(|key| key.name == name).ok_or_else(|| unknown(&name, &source))?;
        let value = value::check(&list.keys()[position], raw(content.get_ref()), &source, Path::new("/"))?;
        found[position] = Some(value.to_string());
    }
    let word = list.word();
    match found {
        [Some(name), Some(database), Some(sql)] => {
            if list.list(layer).iter().any(|other| other.value[0] == name) {
                let (reason, remedy) = (format!("there are two {word}s `{name}`"), format!("give each {word} a name of its own"));
                return Err(value::wrong(&place, list.name(), &reason, Some(remedy)));
            }
            list.list(layer).push(Sourced { value: [name, database, sql], source: place });
            Ok(())
        }
        [name, database, sql] => {
            let parts = [("name", name), ("database", database), ("sql", sql)];
            let missing: Vec<String> = parts.iter().filter(|(_, part)| part.is_none()).map(|(word, _)| format!("`{word}`")).collect();
            let remedy = format!("add {} to it", missing.join(" and "));
            Err(value::wrong(&place, list.name(), &format!("a {word} needs `name`, `database` and `sql`"), Some(remedy)))
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Raw::Number(number.as_str().to_owned()),
        DeValue::Integer(_) => Raw::Other("a number that is not decimal"),
        DeValue::Float(number) => Raw::Number(number.as_str().to_owned()),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Datetime(_) => Raw::Other("a time"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

fn is_section(name: &str) -> bool {
    keys::KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

fn plain_key(name: &str, source: &Source) -> Result<&'static Key> {
    keys::KEYS.iter().find(|key| key.name == name).ok_or_else(|| unknown(name, source))
}

fn unknown(name: &str, source: &Source) -> Error {
    value::wrong(source, name, "unknown key", Some(keys::suggestion(name)))
}

fn not_tables(name: &str, source: &Source) -> Error {
    value::wrong(source, name, "there can be several of these", Some(format!("write `[[{name}]]`, with two brackets")))
}

struct Lines<'a> {
    /// The file, where it is one.
    path: Option<&'a Path>,
    text: &'a str,
}

impl Lines<'_> {
    fn source<T>(&self, spanned: &Spanned<T>) -> Source {
        match self.path {
            Some(path) => Source::File { path: path.to_owned(), line: self.line(spanned.span().start) },
            None => Source::Given,
        }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
    }

    fn syntax(&self, error: &toml::de::Error) -> Error {
        let line = error.span().map(|span| format!(", line {}", self.line(span.start))).unwrap_or_default();
        // The message alone: the library's own display quotes the line, which may hold what nobody should read in a log.
        Error::Config {
            place: self.path.map_or_else(|| "the values that the program gives".to_owned(), |path| format!("{}{line}", path.display())),
            reason: error.message().lines().collect::<Vec<_>>().join(", "),
            remedy: Some("`pgpersist config example` shows a whole file".to_owned()),
        }
    }
}
