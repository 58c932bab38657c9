//! The user of the operating system that owns the configured cluster, for a process that is root.

use crate::config::load::Config;
use crate::config::value;
use crate::error::Result;
use crate::fs::os_user::OsUser;

/// The user that `[cluster] os_user` names.
///
/// # Errors
/// [`Error::Config`](crate::error::Error::Config) where there is no such user on this machine, and for root, as whom no
/// PostgreSQL runs.
pub fn named(config: &Config) -> Result<OsUser> {
    let name = &config.cluster.os_user;
    let wrong = |reason: &str, remedy: &str| value::wrong(&name.source, "cluster.os_user", reason, Some(remedy.to_owned()));
    let Some(user) = OsUser::lookup(&name.value)? else {
        return Err(wrong(
            &format!("there is no user `{}` on this machine", name.value),
            "install PostgreSQL, which creates `postgres`, or set `[cluster] os_user` to the user who owns the cluster",
        ));
    };
    if user.uid == 0 {
        return Err(wrong("PostgreSQL does not run as root", "name another user, such as `postgres`"));
    }
    Ok(user)
}

/// Whom servers and their helpers run as, where this process is root; else nothing, since they run as who we are.
///
/// # Errors
/// As [`named`].
pub fn instead_of_root(config: &Config) -> Result<Option<OsUser>> {
    rustix::process::geteuid().is_root().then(|| named(config)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::SourceFile;
    use crate::config::sources::Sources;
    use crate::error::ErrorKind;

    fn of(user: &str) -> Config {
        let text = format!("[cluster]\nos_user = '{user}'\n");
        let file = Some(SourceFile { path: "/etc/p.toml".into(), text });
        Config::load(&Sources { file, working_directory: "/".into(), ..Sources::default() }).unwrap()
    }

    #[test]
    fn a_user_that_cannot_run_a_server_is_told_with_its_place() {
        for (name, reason) in [("no-such-user", "there is no user `no-such-user`"), ("root", "does not run as root")] {
            let error = named(&of(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(
                error.to_string().starts_with("/etc/p.toml, line 2, `cluster.os_user`") && error.to_string().contains(reason),
                "{error}"
            );
            assert!(error.remedy().is_some());
            assert_eq!(instead_of_root(&of(name)).is_err(), rustix::process::geteuid().is_root());
        }
    }
}
