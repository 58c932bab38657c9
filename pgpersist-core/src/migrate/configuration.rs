//! Configuration files come along into the data directory, with their paths rewritten, so that it needs nothing outside.
//!
//! Source: *Setting Parameters* and *File Locations*, PostgreSQL 17. Files named by settings are relative to the data
//! directory, included ones to the file that includes them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::migrate::access_rules;
use crate::pg::quote;

/// The main configuration file.
pub(crate) const MAIN: &str = "postgresql.conf";
const AUTO: &str = "postgresql.auto.conf";
/// The file for what stood on the server's command line.
const COMMAND_LINE: &str = "command-line.conf";
/// PostgreSQL's own limit on nested includes.
const DEEPEST: usize = 10;

/// One active line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its name in small letters; for includes the directive.
    pub(crate) name: String,
    /// Its value, without quotes.
    pub(crate) value: String,
}

impl Setting {
    /// Reads a line; `None` for comments, empty lines and what makes no sense. See `guc-file.l`.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        if name.is_empty() || rest.is_empty() || rest.starts_with('#') {
            return None;
        }
        let value = match rest.strip_prefix('\'') {
            Some(quoted) => unquote(quoted)?,
            None => rest.split(|c: char| c.is_whitespace() || c == '#').next().unwrap_or_default().to_owned(),
        };
        Some(Self { name: name.to_ascii_lowercase(), value })
    }
}

fn unquote(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\'' if characters.peek() == Some(&'\'') => {
                characters.next();
                value.push('\'');
            }
            '\'' => return Some(value),
            '\\' => value.push(characters.next()?),
            c => value.push(c),
        }
    }
    None
}

/// What was brought along.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// The files that were written, relative to the data directory.
    pub files: Vec<PathBuf>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// The port that the configuration names.
    pub port: Option<u16>,
}

/// A configuration that is ready to be written into a data directory.
#[derive(Debug)]
pub(crate) struct Gathered {
    carried: Carried,
    pending: Vec<Pending>,
}

#[derive(Debug)]
enum Pending {
    Folder(PathBuf),
    File(PathBuf, Vec<u8>),
}

/// Gathers a configuration: the file `main` and all that it includes or names, and what stood on the server's command line.
/// `source` is the data directory that it served; what lies in it comes along by itself. Touches nothing.
///
/// # Errors
/// [`Error::File`]; [`Error::Invalid`] for includes without end; `Unsafe` for access rules in files that stay behind.
pub(crate) fn gather(main: &Path, source: &Path, command_line: &[(String, String)]) -> Result<Gathered> {
    let mut carrier = Carrier {
        source,
        command_line,
        written: BTreeMap::new(),
        carried: Carried::default(),
        pending: Vec::new(),
        hba: None,
        ident: None,
        ssl: false,
        ssl_lost: None,
    };
    let folder = main.parent().unwrap_or(Path::new("/"));
    let mut text = carrier.render(main, Path::new(MAIN), folder, 0)?;
    // Read last by the server too, so what it says wins.
    let auto = source.join(AUTO);
    if auto.exists() {
        carrier.file(&auto, Path::new(AUTO), source, 0)?;
    }
    if let Some(include) = carrier.command_line()? {
        text.extend_from_slice(&include);
    }
    for (setting, name) in [(carrier.hba.clone(), "pg_hba.conf"), (carrier.ident.clone(), "pg_ident.conf")] {
        let from = setting.unwrap_or_else(|| folder.join(name));
        carrier.access_rules(&from, name)?;
    }
    let text = carrier.without_lost_ssl(text)?;
    carrier.write(Path::new(MAIN), text);
    Ok(Gathered { carried: carrier.carried, pending: carrier.pending })
}

impl Gathered {
    /// Writes it into a data directory, durably, `postgresql.conf` last.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn write(self, target: &Path) -> Result<Carried> {
        for pending in self.pending {
            match pending {
                Pending::Folder(place) => durable::create_directory(&target.join(place), 0o700)?,
                Pending::File(place, bytes) => {
                    let path = target.join(place);
                    if fs::read(&path).ok().as_deref() != Some(&bytes) {
                        durable::write(&path, &bytes, 0o600)?;
                    }
                }
            }
        }
        Ok(self.carried)
    }
}

struct Carrier<'a> {
    source: &'a Path,
    /// What stood on the server's command line, where it beat every file.
    command_line: &'a [(String, String)],
    /// Places in the target that are taken, and by which file.
    written: BTreeMap<PathBuf, PathBuf>,
    carried: Carried,
    pending: Vec<Pending>,
    hba: Option<PathBuf>,
    ident: Option<PathBuf>,
    ssl: bool,
    ssl_lost: Option<String>,
}

impl Carrier<'_> {
    /// Rewrites one file to `place` in the target; `folder` is what its includes are relative to.
    fn file(&mut self, from: &Path, place: &Path, folder: &Path, depth: usize) -> Result<()> {
        let text = self.render(from, place, folder, depth)?;
        self.write(place, text);
        Ok(())
    }

    fn render(&mut self, from: &Path, place: &Path, folder: &Path, depth: usize) -> Result<Vec<u8>> {
        if depth > DEEPEST {
            return Err(Error::invalid(
                format!("{} is included more than {DEEPEST} levels deep", from.display()),
                "mend the configuration, which no server can read, and repeat",
            ));
        }
        let bytes = fs::read(from).map_err(|e| Error::file("read", from, e))?;
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            lines.push(match Setting::parse(line) {
                // The server's command line beat it, and would not beat it as a file.
                Some(setting) if place == Path::new(AUTO) && self.is_on_command_line(&setting.name) => {
                    [b"# the server was started with another value: ", line].concat()
                }
                Some(setting) => match self.line(&setting, place, folder, depth)? {
                    Line::Keep => line.to_vec(),
                    Line::Value(value) => render_setting(&setting.name, &value)?,
                    Line::Drop => [b"# not needed in its new place: ", line].concat(),
                },
                None => line.to_vec(),
            });
        }
        Ok(lines.join(&b'\n'))
    }

    fn line(&mut self, setting: &Setting, place: &Path, folder: &Path, depth: usize) -> Result<Line> {
        let value = Path::new(&setting.value);
        Ok(match setting.name.as_str() {
            "include" | "include_if_exists" => self.include(&folder.join(value), place, depth)?,
            "include_dir" => self.include_folder(&folder.join(value), place, depth)?,
            "hba_file" => {
                self.hba = Some(self.source.join(value));
                Line::Drop
            }
            "ident_file" => {
                self.ident = Some(self.source.join(value));
                Line::Drop
            }
            "data_directory" | "external_pid_file" | "stats_temp_directory" => Line::Drop,
            "log_directory" if value.is_absolute() => Line::Drop,
            "ssl_cert_file" | "ssl_key_file" | "ssl_ca_file" | "ssl_crl_file" | "ssl_dh_params_file" => self.certificate(setting)?,
            "ssl_crl_dir" | "krb_server_keyfile" if value.is_absolute() && !value.starts_with(self.source) => {
                self.carried
                    .warnings
                    .push(format!("{} = '{}' lies outside the data directory and was not brought along", setting.name, setting.value));
                Line::Keep
            }
            "ssl" => {
                self.ssl |= matches!(setting.value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t" | "y");
                Line::Keep
            }
            "port" => {
                self.carried.port = setting.value.parse().ok().or(self.carried.port);
                Line::Keep
            }
            _ => Line::Keep,
        })
    }

    fn include(&mut self, from: &Path, place: &Path, depth: usize) -> Result<Line> {
        if !from.is_file() {
            return Ok(Line::Keep);
        }
        let to = self.place_of(from, None);
        self.file(from, &to, from.parent().unwrap_or(Path::new("/")), depth + 1)?;
        Ok(Line::Value(seen_from(place, &to)))
    }

    fn include_folder(&mut self, from: &Path, place: &Path, depth: usize) -> Result<Line> {
        let mut names = match fs::read_dir(from) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Line::Drop),
            Err(error) => return Err(Error::file("list", from, error)),
        };
        names.retain(|name| name.to_str().is_some_and(|name| name.ends_with(".conf") && !name.starts_with('.')));
        names.sort();
        let folder = self.place_of(from, None);
        self.written.insert(folder.clone(), from.to_owned());
        self.pending.push(Pending::Folder(folder.clone()));
        for name in names {
            let file = from.join(&name);
            if file.is_file() {
                self.file(&file, &folder.join(&name), from, depth + 1)?;
            }
        }
        Ok(Line::Value(seen_from(place, &folder)))
    }

    fn certificate(&mut self, setting: &Setting) -> Result<Line> {
        let value = Path::new(&setting.value);
        if setting.value.is_empty() || value.is_relative() {
            return Ok(Line::Keep);
        }
        match fs::read(value) {
            Ok(bytes) => {
                let place = self.place_of(value, Some(OsStr::new(&setting.name)));
                if !value.starts_with(self.source) {
                    self.written.insert(place.clone(), value.to_owned());
                    self.write(&place, bytes);
                }
                Ok(Line::Value(place))
            }
            Err(error) => {
                self.ssl_lost = Some(format!("{} = '{}' ({error})", setting.name, setting.value));
                Ok(Line::Drop)
            }
        }
    }

    /// The settings of the command line as a file of their own, which the main file includes; returns that line.
    fn command_line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut latest: BTreeMap<&str, &str> = BTreeMap::new();
        latest.extend(self.command_line.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let place = self.free_place(OsStr::new(COMMAND_LINE), OsStr::new("later"), Path::new(COMMAND_LINE));
        let mut text = b"# What the server was started with before `pgpersist migrate`, on its command line.\n".to_vec();
        let heading = text.len();
        for (name, value) in latest {
            let setting = Setting { name: name.to_owned(), value: value.to_owned() };
            let value = match self.line(&setting, &place, self.source, 0)? {
                // The port is part of pgpersist's own configuration.
                Line::Keep if name == "port" => continue,
                Line::Keep => PathBuf::from(value),
                Line::Value(value) => value,
                Line::Drop => continue,
            };
            text.extend_from_slice(&render_setting(name, &value)?);
            text.push(b'\n');
        }
        if text.len() == heading {
            return Ok(None);
        }
        let include = render_setting("include_if_exists", &place)?;
        self.write(&place, text);
        Ok(Some([b"\n", &include[..], b"\t# the server's command line\n"].concat()))
    }

    fn is_on_command_line(&self, name: &str) -> bool {
        self.command_line.iter().any(|(other, _)| other == name)
    }

    /// `pg_hba.conf` and `pg_ident.conf` have names of their own in every data directory.
    fn access_rules(&mut self, from: &Path, name: &str) -> Result<()> {
        let bytes = match fs::read(from) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.carried.warnings.push(format!("{} does not exist, so the new place has no {name} of its own", from.display()));
                return Ok(());
            }
            Err(error) => return Err(Error::file("read", from, error)),
        };
        access_rules::refuse_outside(from, &bytes, self.source, name)?;
        if from != self.source.join(name) {
            self.write(Path::new(name), bytes);
        }
        Ok(())
    }

    /// What needs a certificate that could not be read would keep the server from starting.
    fn without_lost_ssl(&mut self, text: Vec<u8>) -> Result<Vec<u8>> {
        let Some(lost) = self.ssl_lost.take().filter(|_| self.ssl) else { return Ok(text) };
        self.carried.warnings.push(format!("TLS is off in the new place, since its files could not be brought along: {lost}"));
        let off = |mut text: Vec<u8>| {
            text.extend_from_slice(b"\nssl = off\t# its certificate or key could not be brought along\n");
            text
        };
        // What ALTER SYSTEM set is read last.
        let auto = self.pending.iter_mut().find_map(|pending| match pending {
            Pending::File(place, bytes) if place == Path::new(AUTO) => Some(bytes),
            _ => None,
        });
        if let Some(bytes) = auto
            && bytes.split(|byte| *byte == b'\n').filter_map(Setting::parse).any(|setting| setting.name == "ssl")
        {
            *bytes = off(std::mem::take(bytes));
        }
        Ok(off(text))
    }

    /// Where a file goes: what lies in the source keeps its place, the rest gets its own name, or one that is free.
    fn place_of(&self, from: &Path, prefix: Option<&OsStr>) -> PathBuf {
        let from = plain(from);
        if let Ok(inside) = from.strip_prefix(self.source) {
            return inside.to_owned();
        }
        let name = from.file_name().unwrap_or_default();
        self.free_place(name, prefix.unwrap_or(OsStr::new("from-outside")), &from)
    }

    /// A name that no other file has, neither in the source nor among those that are to be written.
    fn free_place(&self, name: &OsStr, prefix: &OsStr, from: &Path) -> PathBuf {
        let taken = |place: &Path| match self.written.get(place) {
            Some(other) => other != from,
            None => self.source.join(place).exists() || [MAIN, AUTO, "pg_hba.conf", "pg_ident.conf"].iter().any(|n| place == Path::new(n)),
        };
        let mut place = PathBuf::from(name);
        let mut number = 1;
        while taken(&place) {
            number += 1;
            let mut other = prefix.to_owned();
            other.push(format!("-{number}-"));
            other.push(name);
            place = PathBuf::from(other);
        }
        place
    }

    fn write(&mut self, place: &Path, bytes: Vec<u8>) {
        self.written.entry(place.to_owned()).or_insert_with(|| self.source.join(place));
        self.carried.files.push(place.to_owned());
        self.pending.push(Pending::File(place.to_owned(), bytes));
    }
}

enum Line {
    Keep,
    Value(PathBuf),
    Drop,
}

fn render_setting(name: &str, value: &Path) -> Result<Vec<u8>> {
    let value = value.to_str().and_then(quote::setting);
    let value =
        value.ok_or_else(|| Error::invalid(format!("the path in `{name}` cannot be written down"), "rename the file that it names"))?;
    let sign = if name.starts_with("include") { "" } else { "= " };
    Ok(format!("{name} {sign}{value}").into_bytes())
}

/// How a file at `place` names the one at `to`, both in the data directory: includes are relative to their file.
fn seen_from(place: &Path, to: &Path) -> PathBuf {
    let above = place.components().count().saturating_sub(1);
    (0..above).map(|_| Component::ParentDir).collect::<PathBuf>().join(to)
}

/// A path without `.` and `..`, as far as its text tells.
fn plain(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
