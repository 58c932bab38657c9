//! The user of the operating system that owns a cluster, as `/etc/passwd` and `/etc/group` know it.
//!
//! The files are read directly (`passwd(5)`, `group(5)`): a statically linked program cannot ask the C library's switch,
//! and a server's own user is a local one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A user, with everything that becoming this user needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsUser {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: PathBuf,
}

impl OsUser {
    /// Looks a user up by name; `None` when there is no such user.
    ///
    /// # Errors
    /// [`Error::File`] when the files cannot be read.
    pub fn lookup(name: &str) -> Result<Option<Self>> {
        Self::found(|passwd| parse_passwd(passwd, name))
    }

    /// Looks a user up by number; `None` when this machine knows no name for it.
    ///
    /// # Errors
    /// [`Error::File`] when the files cannot be read.
    pub fn with_id(uid: u32) -> Result<Option<Self>> {
        Self::found(|passwd| parse_passwd(passwd, name_of(passwd, uid)?))
    }

    fn found(find: impl FnOnce(&str) -> Option<Self>) -> Result<Option<Self>> {
        let read = |path: &str| match fs::read(path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => Err(Error::file("read", Path::new(path), error)),
        };
        let Some(user) = find(&read("/etc/passwd")?) else { return Ok(None) };
        // An image without groups is odd but usable: the primary group comes from the user's own line.
        let group = read("/etc/group").unwrap_or_default();
        Ok(Some(user.with_groups(&group)))
    }

    fn with_groups(mut self, group: &str) -> Self {
        self.groups.extend(parse_group(group, &self.name).into_iter().filter(|gid| *gid != self.gid));
        self
    }
}

/// The login name of the user that this process runs as; `None` when its number has none.
///
/// # Errors
/// [`Error::File`] when `/etc/passwd` cannot be read.
pub fn current_name() -> Result<Option<String>> {
    let path = Path::new("/etc/passwd");
    let bytes = fs::read(path).map_err(|e| Error::file("read", path, e))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(name_of(&text, rustix::process::geteuid().as_raw()).map(str::to_owned))
}

/// The role that whoever runs this process logs in as unless something else is said, as with psql: the one of its own name. For
/// root, as whom no PostgreSQL runs, and for a user without a name, it is `postgres`.
pub fn default_role() -> String {
    let own = if rustix::process::geteuid().is_root() { None } else { current_name().ok().flatten() };
    own.unwrap_or_else(|| "postgres".to_owned())
}

/// The first name of this number in the text of `/etc/passwd`.
fn name_of(text: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    text.lines().find(|line| line.split(':').nth(2) == Some(uid.as_str())).and_then(|line| line.split(':').next())
}

/// The user of this name in the text of `/etc/passwd`, without supplementary groups.
fn parse_passwd(text: &str, name: &str) -> Option<OsUser> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) || name.is_empty() {
            return None;
        }
        let _password = fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let _comment = fields.next()?;
        let home = PathBuf::from(fields.next()?);
        Some(OsUser { name: name.to_owned(), uid, gid, groups: vec![gid], home })
    })
}

/// The groups that list this user as a member in the text of `/etc/group`, in its order.
fn parse_group(text: &str, name: &str) -> Vec<u32> {
    let member = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == name).then_some(gid)
    };
    text.lines().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\npostgres2:x:1:1::/:/bin/sh\npostgres:x:101:103:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n";
    const GROUP: &str = "root:x:0:\nssl-cert:x:102:postgres\npostgres:x:103:\nbackup:x:34:somebody,postgres\nbroken:x:x:postgres\n";

    #[test]
    fn a_user_is_found_with_all_groups_the_primary_one_first() {
        let user = parse_passwd(PASSWD, "postgres").unwrap().with_groups(GROUP);
        assert_eq!((user.uid, user.gid, user.home.to_str().unwrap()), (101, 103, "/var/lib/postgresql"));
        assert_eq!(user.groups, [103, 102, 34]);
    }

    #[test]
    fn nobody_is_found_by_half_a_name() {
        assert_eq!(parse_passwd(PASSWD, "postgre"), None);
        assert_eq!(parse_passwd(PASSWD, ""), None);
        assert_eq!(parse_passwd(PASSWD, "broken"), None);
        assert_eq!((name_of(PASSWD, 101), name_of(PASSWD, 10)), (Some("postgres"), None));
    }

    proptest! {
        #[test]
        fn no_file_causes_a_panic(text in "[a-c:0-9,\n]{0,60}") {
            let _ = parse_passwd(&text, "a");
            let _ = parse_group(&text, "a");
        }
    }
}
