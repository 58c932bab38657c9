//! What `pg_hba.conf` and `pg_ident.conf` include: other files, which must not stay behind unseen, since PostgreSQL checks
//! them only when it starts, and does not start without them.
//!
//! Source: *The pg_hba.conf File* and `hba.c`, PostgreSQL 17: `include`, `include_if_exists` and `include_dir` at the begin of
//! a line since 16, and `@file` in place of a database or user in every version; each relative to the file it stands in.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// PostgreSQL's own limit on nested includes.
const DEEPEST: usize = 10;

/// Refuses rules of which a part would stay behind. A file that lies in the source and is named by a relative path comes
/// along with the rest of the source, as long as the rules themselves keep their place there.
///
/// # Errors
/// `Unsafe` with the file that would stay behind.
pub(crate) fn refuse_outside(rules: &Path, text: &[u8], source: &Path, name: &str) -> Result<()> {
    let in_place = rules == source.join(name);
    refuse(rules, text, in_place.then_some(source), 0)
}

fn refuse(rules: &Path, text: &[u8], source: Option<&Path>, depth: usize) -> Result<()> {
    let folder = rules.parent().unwrap_or(Path::new("/"));
    for named in included(&String::from_utf8_lossy(text)) {
        let inside = named.is_relative() && !named.components().any(|part| part == Component::ParentDir);
        if source.is_none() || !inside || depth >= DEEPEST {
            return Err(Error::refused(
                format!("{} includes {}, which does not come along into a new place", rules.display(), named.display()),
                format!(
                    "write what it says into {} itself, or put it beside the rules in the data directory and name it by a relative path, and repeat; nothing was touched",
                    rules.display()
                ),
            ));
        }
        let path = folder.join(named);
        let below: Vec<PathBuf> = match fs::read_dir(&path) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![path],
        };
        // One that is not there is none that could be lost.
        for (path, text) in below.into_iter().filter_map(|path| fs::read(&path).ok().map(|text| (path, text))) {
            refuse(&path, &text, source, depth + 1)?;
        }
    }
    Ok(())
}

/// The files and folders that the active lines name.
pub(crate) fn included(text: &str) -> Vec<PathBuf> {
    let mut named = Vec::new();
    for line in text.replace("\\\n", "").lines() {
        let active = line.split('#').next().unwrap_or_default();
        let mut words = active.split_whitespace();
        if let (Some("include" | "include_if_exists" | "include_dir"), Some(_)) = (words.next(), words.next()) {
            let path = active.trim_start().split_once(char::is_whitespace).map_or("", |(_, path)| path.trim());
            named.push(PathBuf::from(path.trim_matches('"')));
            continue;
        }
        let tokens = active.split([' ', '\t', ',']).filter_map(|token| token.strip_prefix('@'));
        named.extend(tokens.map(|path| PathBuf::from(path.trim_matches('"'))).filter(|path| !path.as_os_str().is_empty()));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_include_is_found() {
        let text = "# include nothing\nlocal all @admins,\"all\" peer\n include_dir  \"more rules\"\ninclude_if_exists /etc/x\nhost @dbs \\\n @\"us\" x\n\
                    local all user@host trust # @no\n";
        assert_eq!(included(text), ["admins", "more rules", "/etc/x", "dbs", "us"].map(PathBuf::from));
    }
}
