//! What a server was started with, apart from its files: the settings on its command line, which beat every file and would
//! be lost with it.
//!
//! Source: `CreateOptsFile` in `miscinit.c` and `PostmasterMain` in `postmaster.c`, PostgreSQL 17: `postmaster.opts` holds the
//! program and its arguments, each in double quotes, none escaped. It stays when the server has ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file, in the data directory.
const OPTIONS_FILE: &str = "postmaster.opts";
/// pgpersist sets these for each server that it starts, so what they were makes no difference.
const ALWAYS_OURS: [&str; 4] = ["fsync", "full_page_writes", "logging_collector", "log_destination"];
/// What a command line of pgpersist always holds.
const MARK_OF_OURS: [&str; 2] = ["logging_collector=off", "log_destination=stderr"];

/// The settings of one command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CommandLine {
    /// The `postgresql.conf` that it names.
    pub(crate) config_file: Option<PathBuf>,
    /// Names and values to be brought along, in their order, later ones before earlier ones.
    pub(crate) settings: Vec<(String, String)>,
    /// What is left behind and is a loss, for people.
    pub(crate) left_behind: Vec<String>,
    /// Where the socket was, if somebody chose it: a place that may go with the old one, so it is told and not brought along.
    pub(crate) socket: Option<String>,
}

impl CommandLine {
    /// Reads that of the last start; an empty one where no server was started yet.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn of(directory: &Path) -> Result<Self> {
        let path = directory.join(OPTIONS_FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Self::default()),
            Err(error) => Err(Error::file("read", path, error)),
        }
    }

    /// What becomes of the socket, for people.
    pub(crate) fn about_socket(&self) -> Option<String> {
        let socket = self.socket.as_ref()?;
        Some(format!(
            "leave the socket's folder {socket} of the last start behind: unix_socket_directories in [cluster.settings] keeps it, if clients look for it there"
        ))
    }

    fn parse(text: &str) -> Self {
        let arguments = text.trim_end_matches('\n').split_once(" \"").map_or("", |(_, rest)| rest);
        let arguments: Vec<&str> = arguments.strip_suffix('"').unwrap_or(arguments).split("\" \"").collect();
        let ours = MARK_OF_OURS.iter().all(|mark| arguments.contains(mark));
        let mut line = Self::default();
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            line.take(argument, &mut rest, ours);
        }
        line
    }

    fn take<'a>(&mut self, argument: &'a str, rest: &mut impl Iterator<Item = &'a str>, ours: bool) {
        if let Some(setting) = argument.strip_prefix("--") {
            return self.set_text(setting, ours);
        }
        let Some(letter) = argument.strip_prefix('-').and_then(|option| option.chars().next()) else { return };
        let attached = &argument[1 + letter.len_utf8()..];
        if let 'F' | 'i' | 'l' = letter {
            match letter {
                'i' => self.set("listen_addresses", "*", ours),
                'l' => self.set("ssl", "on", ours),
                _ => {}
            }
            // Options without a value may stand together, as in `-il`.
            if !attached.is_empty() {
                self.take(&format!("-{attached}"), &mut std::iter::empty(), ours);
            }
            return;
        }
        let with_value = matches!(letter, 'B' | 'C' | 'c' | 'D' | 'd' | 'f' | 'h' | 'k' | 'N' | 'p' | 'r' | 'S' | 't' | 'W');
        let value = if with_value && attached.is_empty() { rest.next().unwrap_or_default() } else { attached };
        match letter {
            'c' => self.set_text(value, ours),
            'B' => self.set("shared_buffers", value, ours),
            'h' => self.set("listen_addresses", value, ours),
            'k' => self.set("unix_socket_directories", value, ours),
            'N' => self.set("max_connections", value, ours),
            'p' => self.set("port", value, ours),
            'S' => self.set("work_mem", value, ours),
            'D' => {}
            _ => self.left_behind.push(format!("the server was started with `{argument}`, an option for developers, which is left behind")),
        }
    }

    fn set_text(&mut self, text: &str, ours: bool) {
        if let Some((name, value)) = text.split_once('=') {
            self.set(name, value, ours);
        }
    }

    fn set(&mut self, name: &str, value: &str, ours: bool) {
        let name = name.replace('-', "_").to_ascii_lowercase();
        match name.as_str() {
            "config_file" => self.config_file = Some(PathBuf::from(value)),
            name if ALWAYS_OURS.contains(&name) => {}
            // pgpersist itself names another folder where the configured one cannot be written.
            "unix_socket_directories" if ours => {}
            "unix_socket_directories" => self.socket = Some(value.to_owned()),
            _ => self.settings.push((name, value.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &CommandLine) -> Vec<(&str, &str)> {
        line.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn every_way_to_write_a_setting_is_understood() {
        let line = CommandLine::parse(
            "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/var/lib/my data\" \"-c\" \"work_mem=7MB\" \"--max-connections=33\" \"-p5433\" \"-N\" \"44\" \
             \"-cconfig_file=/etc/x.conf\" \"-B\" \"2000\" \"-il\" \"-c\" \"fsync=off\" \"-c\" \"search_path=a, \"b\"\" \"-k\" \"/tmp/x\" \"-d\" \"2\"\n",
        );
        assert_eq!(line.config_file.as_deref(), Some(Path::new("/etc/x.conf")));
        assert_eq!(
            settings(&line),
            [
                ("work_mem", "7MB"),
                ("max_connections", "33"),
                ("port", "5433"),
                ("max_connections", "44"),
                ("shared_buffers", "2000"),
                ("listen_addresses", "*"),
                ("ssl", "on"),
                ("search_path", "a, \"b\"")
            ]
        );
        assert_eq!(line.left_behind.len(), 1, "{:?}", line.left_behind);
        assert!(line.left_behind[0].contains("`-d`"));
        assert_eq!(line.socket.as_deref(), Some("/tmp/x"));
    }

    #[test]
    fn what_pgpersist_sets_itself_is_no_loss() {
        let line = CommandLine::parse(
            "/bin/postgres \"-D\" \"/d\" \"-c\" \"fsync=on\" \"-c\" \"full_page_writes=on\" \"-c\" \"logging_collector=off\" \
             \"-c\" \"log_destination=stderr\" \"-c\" \"unix_socket_directories=/s\"\n",
        );
        assert_eq!(line, CommandLine::default());
    }

    #[test]
    fn no_file_is_an_empty_command_line() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(CommandLine::of(folder.path()).unwrap(), CommandLine::default());
        for text in ["", "/bin/postgres\n", "\"", "/bin/postgres \"", "/bin/postgres \"-\" \"--\" \"-c\""] {
            assert_eq!(CommandLine::parse(text).settings, Vec::new(), "{text}");
        }
    }
}
