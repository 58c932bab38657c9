//! How the clients of a process that is root get into a cluster that it has made: by a map of `peer`.
//!
//! `peer` lets each user of the machine in as the role of its own name, and a backend in a container is root, as whom no
//! PostgreSQL runs. Root can become the superuser's own user at any time, so to let it in gives nothing away. See *User Name
//! Maps*, PostgreSQL 17.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::on_behalf::as_owner;

/// The map's name.
pub(crate) const MAP: &str = "pgpersist";

/// Lets root in as the superuser through the socket of a cluster that was just made, and everybody else as before. Blocking.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn grant(directory: &Path, superuser: &str) -> Result<()> {
    let edit = |name: &str, edited: &dyn Fn(&str) -> String| {
        let path = directory.join(name);
        let text = fs::read_to_string(&path).map_err(|e| Error::file("read", &path, e))?;
        durable::write(&path, edited(&text).as_bytes(), 0o600)
    };
    as_owner(directory, || {
        edit("pg_ident.conf", &|text| with_map(text, superuser))?;
        edit("pg_hba.conf", &with_map_named)
    })
}

fn with_map(text: &str, superuser: &str) -> String {
    let superuser = superuser.replace('"', "\"\"");
    format!(
        "{}\n\n# Whoever is root of this machine can become the cluster's user anyway; the second line is what peer does without a map.\n\
         {MAP}\troot\t\"{superuser}\"\n{MAP}\t/^(.*)$\t\\1\n",
        text.trim_end()
    )
}

fn with_map_named(text: &str) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let by_peer = words.next() == Some("local") && words.next_back() == Some("peer");
        if by_peer { format!("{} map={MAP}\n", line.trim_end()) } else { format!("{line}\n") }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_peer_gets_the_map() {
        let text =
            "# local DATABASE USER METHOD peer\nlocal   all   all   peer\nhost all all 127.0.0.1/32 scram-sha-256\nlocal x y trust\n";
        let expected = text.replace("all   all   peer", "all   all   peer map=pgpersist");
        assert_eq!(with_map_named(text), expected);
    }

    #[test]
    fn a_superuser_may_have_any_name() {
        let text = with_map("# MAPNAME\n", "o\"brien jr");
        assert!(
            text.starts_with("# MAPNAME\n\n# ") && text.ends_with("pgpersist\troot\t\"o\"\"brien jr\"\npgpersist\t/^(.*)$\t\\1\n"),
            "{text}"
        );
    }
}
