//! `gcs_server.py`: Google Cloud Storage as far as a store of backups needs it; a program of our own, since no other speaks its XML.

use std::process::Command;

use super::process::ServerProcess;
use super::{BUCKET, Protocol, StoreServer, folder, installed};

const PROGRAM: &str = include_str!("gcs_server.py");

/// The key of [`signing_account`]. It is good for nothing else.
pub(crate) const SIGNING_KEY: &str = include_str!("signing.key");

/// Its lists have so many entries a page: few, so that tests see several.
const PAGE: &str = "7";

#[track_caller]
pub(crate) fn start() -> Option<StoreServer> {
    start_with(&[])
}

/// One that wants a token, which our client does not have.
#[track_caller]
pub(crate) fn start_locked() -> Option<StoreServer> {
    start_for("somebody-else")
}

/// One that lets in whoever has this token.
#[track_caller]
pub(crate) fn start_for(token: &str) -> Option<StoreServer> {
    start_with(&["--token", token])
}

/// The file of a service account that signs its tokens itself, with [`SIGNING_KEY`].
pub(crate) fn signing_account(email: &str) -> String {
    let key = SIGNING_KEY.replace('\n', "\\n");
    format!(
        r#"{{"type": "service_account", "client_email": "{email}", "private_key_id": "key-1", "private_key": "{key}", "token_uri": "https://oauth2.googleapis.com/token"}}"#
    )
}

/// Takes from all credentials the right to delete, and so to replace, as Google's roles for those who only write have it, or gives
/// it back.
#[track_caller]
pub(crate) fn may_delete(server: &StoreServer, may: bool) {
    let rights = if may { "all" } else { "writer" };
    let answer = server.plain("PUT", &format!("/{BUCKET}?rights={rights}"), &[], "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[track_caller]
fn start_with(arguments: &[&str]) -> Option<StoreServer> {
    let folder = folder();
    let mut command = Command::new(installed::python());
    command.args(["-c", PROGRAM, BUCKET, "--page-size", PAGE]).args(arguments);
    let process = ServerProcess::start_telling(folder.path(), command);
    Some(StoreServer::new(Protocol::Gcs, process, folder))
}
