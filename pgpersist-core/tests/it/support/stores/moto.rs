//! moto: S3 as Amazon does it, conditions included; it looks at no signature.

use std::process::Command;

use super::process::ServerProcess;
use super::{BUCKET, Protocol, StoreServer, folder, installed, plain_request};

#[track_caller]
pub(crate) fn start() -> Option<StoreServer> {
    let program = installed::program("moto", "bin/moto_server")?;
    let folder = folder();
    let process = ServerProcess::start(folder.path(), |port| {
        let mut command = Command::new(&program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command
    });
    let request = format!("PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", process.port);
    let answer = plain_request(process.port, &request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Some(StoreServer::new(Protocol::S3, process, folder))
}
