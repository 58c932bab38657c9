//! s3rver: S3 without conditions: it overwrites whatever it is told not to.

use std::process::Command;

use super::process::ServerProcess;
use super::{BUCKET, Protocol, StoreServer, below, folder, installed};

#[track_caller]
pub(crate) fn start() -> Option<StoreServer> {
    let program = installed::program("s3rver", "node_modules/.bin/s3rver")?;
    let folder = folder();
    let data = below(folder.path(), "data");
    let process = ServerProcess::start(folder.path(), |port| {
        let mut command = Command::new(&program);
        command.arg("-d").arg(&data).args(["-a", "127.0.0.1", "-p", &port.to_string(), "--allow-mismatched-signatures"]);
        command.args(["--no-vhost-buckets", "--silent", "--configure-bucket", BUCKET]);
        command
    });
    let server = StoreServer::new(Protocol::S3, process, folder);
    // The one key that it knows.
    server.write("credentials", "[default]\naws_access_key_id = S3RVER\naws_secret_access_key = S3RVER\n");
    Some(server)
}
