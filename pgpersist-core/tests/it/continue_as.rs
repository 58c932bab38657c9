//! Root becomes another user as a whole, or fails; it never goes on as root.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use pgpersist_core::error::ErrorKind;
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::server::continue_as::continue_as;

use crate::support::skip::skip;

const CHILD: &str = "PGPERSIST_TEST_CONTINUE_AS";

/// In the child process this is where it continues; in the parent's run it only proves that unprivileged users get an
/// error.
#[test]
fn continuing_needs_root() {
    let nobody = OsUser::lookup("nobody").unwrap().unwrap();
    let child = std::env::var_os(CHILD).is_some();
    if !child && rustix::process::geteuid().is_root() {
        return;
    }
    let script = "id -u; id -G; echo $HOME $USER; pwd; echo ${XDG_RUNTIME_DIR-none} $GIVEN; grep CapEff /proc/self/status";
    let arguments = ["-c", script].map(OsString::from);
    let given = [(OsString::from("GIVEN"), OsString::from("given"))];
    let error = continue_as(&nobody, OsStr::new("/bin/sh"), arguments, given).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!child, "root could not continue: {error}");
}

#[test]
fn root_continues_as_the_user_with_nothing_left_of_root() {
    if !rustix::process::geteuid().is_root() {
        // What an unprivileged user sees is the other test's part.
        return skip("root", "only root can become another user");
    }
    let nobody = OsUser::lookup("nobody").unwrap().unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let folder = tempfile::Builder::new().permissions(closed).tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "continue_as::continuing_needs_root", "--nocapture"])
        .env(CHILD, "1")
        .env("XDG_RUNTIME_DIR", "/run/user/0")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let groups = nobody.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let expected = format!("{}\n{groups}\n{} nobody\n/\nnone given\nCapEff:\t0000000000000000\n", nobody.uid, nobody.home.display());
    assert!(text.ends_with(&expected), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
