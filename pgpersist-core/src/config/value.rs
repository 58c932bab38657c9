//! A value with its origin, and the check of a value against its key.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::keys::{Key, Kind, Support};
use crate::encryption::recipient::Recipient;
use crate::error::{Error, Result};
use crate::pg::database_name;
use crate::quantity;
use crate::repo::manifest::KnownDamage;
use crate::schedule::cron::{self, CronSchedule};
use crate::store::url::StoreUrl;
use crate::web_url::{WebUrl, WebUrlError};

/// Where a value came from. `Display` is what `config show` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// An option of the command line, such as `--data-directory`.
    Flag(String),
    /// A program, by a value in its own code.
    Given,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => formatter.write_str(name),
            Self::Given => formatter.write_str("the program"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Its origin.
    pub source: Source,
}

/// A value as its source wrote it. Words are read by the key's kind; the others have a type of their own, which must fit.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// Text of the environment or the command line: a list's items are joined by commas.
    Word(String),
    /// A string of a file.
    Text(String),
    /// A number of a file, as written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Raw>),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

impl Raw {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Word(_) | Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(name) => name,
        }
    }

    /// What a setting of PostgreSQL reads: any scalar, as text.
    pub fn into_setting(self) -> Option<String> {
        match self {
            Self::Word(text) | Self::Text(text) | Self::Number(text) => Some(text),
            Self::Bool(value) => Some(if value { "on" } else { "off" }.to_owned()),
            Self::List(_) | Self::Other(_) => None,
        }
    }
}

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Text, a name, a path, a URL, a word.
    Text(String),
    /// A port, a count, a percentage, a size in bytes.
    Integer(u64),
    /// A duration, and how it was written.
    Duration(Duration, String),
    /// Names.
    List(Vec<String>),
}

impl Value {
    /// For `config show --json`: numbers and lists keep their type.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) | Self::Duration(_, text) => text.as_str().into(),
            Self::Integer(number) => (*number).into(),
            Self::List(items) => items.as_slice().into(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Duration(_, text) => formatter.write_str(text),
            Self::Integer(number) => number.fmt(formatter),
            Self::List(items) => formatter.write_str(&items.join(",")),
        }
    }
}

/// Checks a value against its key. Relative paths become absolute from `base`.
///
/// # Errors
/// [`Error::Config`] that names the source, the key, and what was expected.
pub fn check(key: &Key, raw: Raw, source: &Source, base: &Path) -> Result<Value> {
    if key.support == Support::Refused {
        return Err(wrong(
            source,
            key.name,
            "not in this version, and going on without it would not be what was asked for",
            Some("remove it, or wait for the version that brings it".to_owned()),
        ));
    }
    read(key.kind, raw, base).map_err(|Refusal { reason, remedy }| wrong(source, key.name, &reason, remedy))
}

/// An [`Error::Config`] at a source and key. Where nothing better is known than to mend it, the remedy says what a right one
/// looks like.
pub fn wrong(source: &Source, key: &str, reason: &str, remedy: Option<String>) -> Error {
    let place = match source {
        Source::Default => format!("the default of `{key}`"),
        Source::File { path, line } => format!("{}, line {line}, `{key}`", path.display()),
        Source::Variable(name) => format!("environment variable {name}"),
        Source::Flag(name) => format!("option {name}"),
        Source::Given => format!("`{key}`"),
    };
    Error::Config { place, reason: reason.to_owned(), remedy: Some(remedy.unwrap_or_else(|| mend(source, key))) }
}

fn mend(source: &Source, key: &str) -> String {
    let example = "`pgpersist config example` shows every key with a value that fits";
    match source {
        Source::Default => "please report this: a default should fit".to_owned(),
        Source::File { .. } => format!("mend `{key}` there; {example}"),
        Source::Variable(name) => format!("unset {name} or give it another value; {example}"),
        Source::Flag(name) => format!("give {name} another value; `--help` tells what it takes"),
        Source::Given => format!("give it another value; {example}"),
    }
}

/// Why a value does not fit, and what helps where that is not obvious.
struct Refusal {
    reason: String,
    remedy: Option<String>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, remedy: None }
    }
}

fn read(kind: Kind, raw: Raw, base: &Path) -> Result<Value, Refusal> {
    if kind == Kind::Store {
        return store(&text(raw, "a path or URL of a store")?, base);
    }
    Ok(scalar(kind, raw, base)?)
}

fn scalar(kind: Kind, raw: Raw, base: &Path) -> Result<Value, String> {
    match kind {
        Kind::Databases => databases(raw).map(Value::List),
        Kind::Recipients => recipients(raw).map(Value::List),
        Kind::KnownDamage => known_damage(raw).map(Value::List),
        Kind::Command => command(raw).map(Value::List),
        Kind::Url => {
            let url = text(raw, "an address such as `https://hooks.example.com/…`")?;
            url.parse::<WebUrl>().map(|_| Value::Text(url)).map_err(|error: WebUrlError| error.to_string())
        }
        Kind::Schedule => {
            let text = text(raw, "a schedule such as `0 2 * * *`")?;
            CronSchedule::parse(&text, cron::DEFAULT_TIME_ZONE).map(|_| Value::Text(text))
        }
        Kind::TimeZone => {
            let name = text(raw, "a time zone such as `UTC`")?;
            cron::check_time_zone(&name).map(|()| Value::Text(name))
        }
        Kind::Port => number(raw, "a port, 1 to 65535", 1..=65_535),
        Kind::Percent => number(raw, "a percentage, 1 to 100", 1..=100),
        // Bounded so that a count of days is a time that a calendar knows.
        Kind::Count => number(raw, "a whole number, 1 to 36500", 1..=36_500),
        Kind::Days => number(raw, "a whole number of days, 0 to 36500", 0..=36_500),
        Kind::Size => {
            let text = match raw {
                Raw::Number(text) | Raw::Word(text) | Raw::Text(text) => text,
                other => return Err(format!("expected a size such as `10GB`, found {}", other.type_name())),
            };
            quantity::size_bytes(&text).map(Value::Integer).map_err(|e| e.to_string())
        }
        Kind::Duration => {
            let text = text(raw, "a duration such as `26h`")?;
            quantity::duration(&text).map(|duration| Value::Duration(duration, text)).map_err(|e| e.to_string())
        }
        Kind::Address => {
            let expected = "an IP address and a port such as `127.0.0.1:9432` or `[::]:9432`";
            let text = text(raw, expected)?;
            let address: SocketAddr = text.parse().map_err(|_| format!("expected {expected}, found `{text}`"))?;
            Ok(Value::Text(address.to_string()))
        }
        Kind::Text | Kind::Store => text(raw, "text").map(Value::Text),
        Kind::Name => name(text(raw, "a name")?).map(Value::Text),
        Kind::Path => text(raw, "a path").map(|path| Value::Text(absolute(&path, base))),
        Kind::OneOf(words) => {
            let word = text(raw, "a word")?;
            if words.contains(&word.as_str()) {
                return Ok(Value::Text(word));
            }
            Err(format!("expected {}, found `{word}`", words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(" or ")))
        }
    }
}

fn text(raw: Raw, expected: &str) -> Result<String, String> {
    match raw {
        Raw::Word(text) | Raw::Text(text) if text.is_empty() => Err(format!("expected {expected}, found nothing")),
        Raw::Word(text) | Raw::Text(text) if text.contains('\0') => Err(format!("expected {expected}, found a NUL in it")),
        Raw::Word(text) | Raw::Text(text) => Ok(text),
        other => Err(format!("expected {expected}, in quotes; found {}", other.type_name())),
    }
}

fn number(raw: Raw, expected: &str, range: std::ops::RangeInclusive<u64>) -> Result<Value, String> {
    let found = match raw {
        Raw::Number(text) | Raw::Word(text) => text,
        Raw::Text(text) => return Err(format!("expected {expected}, without quotes; found the text `{text}`")),
        other => return Err(format!("expected {expected}, found {}", other.type_name())),
    };
    match found.parse() {
        Ok(number) if range.contains(&number) => Ok(Value::Integer(number)),
        _ => Err(format!("expected {expected}, found `{found}`")),
    }
}

fn databases(raw: Raw) -> Result<Vec<String>, String> {
    let names = match raw {
        Raw::Word(text) => text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
        Raw::List(items) => items.into_iter().map(|item| text(item, "a database name")).collect::<Result<Vec<_>, _>>()?,
        other => return Err(format!("expected a list of database names, such as `[\"orders\"]`, found {}", other.type_name())),
    };
    for (position, name) in names.iter().enumerate() {
        if let Err(error) = database_name::check(name) {
            return Err(format!("`{name}` is no name of a database: {error}"));
        }
        if names[..position].contains(name) {
            return Err(format!("the database `{name}` is named twice"));
        }
    }
    Ok(names)
}

fn recipients(raw: Raw) -> Result<Vec<String>, String> {
    let expected = "a list of public keys, such as `[\"age1…\"]`";
    let Raw::List(items) = raw else { return Err(format!("expected {expected}, found {}", raw.type_name())) };
    let texts = items.into_iter().map(|item| text(item, "a public key")).collect::<Result<Vec<_>, _>>()?;
    if texts.is_empty() {
        return Err(format!("expected {expected}, found none"));
    }
    for (position, text) in texts.iter().enumerate() {
        text.parse::<Recipient>().map_err(|error| error.to_string())?;
        if texts[..position].contains(text) {
            return Err(format!("{text} is named twice"));
        }
    }
    Ok(texts)
}

fn known_damage(raw: Raw) -> Result<Vec<String>, String> {
    let expected = "a list of damaged pages, such as `[\"base/5/16384:7:0123456789abcdef0123456789abcdef\"]`";
    let names: Vec<String> = match raw {
        Raw::Word(text) => text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
        Raw::List(items) => items.into_iter().map(|item| text(item, "a damaged page")).collect::<Result<_, _>>()?,
        other => return Err(format!("expected {expected}, found {}", other.type_name())),
    };
    match names.iter().find(|name| name.parse::<KnownDamage>().is_err()) {
        Some(wrong) => Err(format!("expected {expected}, found `{wrong}` in the list")),
        None => Ok(names),
    }
}

/// Of the environment, words are parted by blanks: a program with commas in its arguments is not rare.
fn command(raw: Raw) -> Result<Vec<String>, String> {
    let expected = "a program and its arguments, such as `[\"/usr/local/bin/alert\", \"--pager\"]`";
    let words = match raw {
        Raw::Word(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Raw::List(items) => items.into_iter().map(|item| argument(item, expected)).collect::<Result<Vec<_>, _>>()?,
        other => return Err(format!("expected {expected}, found {}", other.type_name())),
    };
    match words.first() {
        None => Err(format!("expected {expected}, found nothing")),
        Some(program) if program.is_empty() => Err(format!("expected {expected}, found no name of a program")),
        Some(_) if words.iter().any(|word| word.contains('\0')) => Err(format!("expected {expected}, found a NUL in it")),
        Some(_) => Ok(words),
    }
}

/// Unlike a name, an argument may be empty.
fn argument(raw: Raw, expected: &str) -> Result<String, String> {
    match raw {
        Raw::Text(text) => Ok(text),
        other => Err(format!("expected {expected}, found {} in the list", other.type_name())),
    }
}

fn name(text: String) -> Result<String, String> {
    let fits = text.len() <= 63
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if fits { Ok(text) } else { Err(format!("expected a name of up to 63 letters, digits, `.`, `_` or `-`, found `{text}`")) }
}

fn store(address: &str, base: &Path) -> Result<Value, Refusal> {
    let url: StoreUrl = address.parse().map_err(|error: Error| Refusal { reason: error.to_string(), remedy: error.remedy() })?;
    let relative = url.folder().filter(|folder| folder.is_relative());
    Ok(Value::Text(relative.map_or_else(|| address.to_owned(), |folder| absolute(&folder.to_string_lossy(), base))))
}

fn absolute(path: &str, base: &Path) -> String {
    // Both parts are text: `base` comes from a file's path or the working directory, which the loader has checked.
    base.join(path).to_string_lossy().into_owned()
}
