//! s3s-fs: S3 on a folder; it holds requests against their signatures and checksums.

use std::process::Command;

use super::process::ServerProcess;
use super::{ACCESS_KEY, BUCKET, Protocol, SECRET_KEY, StoreServer, below, folder, installed};

#[track_caller]
pub(crate) fn start() -> Option<StoreServer> {
    let program = installed::program("s3s-fs", "bin/s3s-fs")?;
    let folder = folder();
    let root = below(folder.path(), "data");
    below(&root, BUCKET);
    let process = ServerProcess::start(folder.path(), |port| {
        let mut command = Command::new(&program);
        command
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(&root);
        command
    });
    let server = StoreServer::new(Protocol::S3, process, folder);
    Some(StoreServer { parts: Some(root), ..server })
}
