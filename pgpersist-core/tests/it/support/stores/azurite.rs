//! Azurite: Microsoft's own emulator of Azure Blob Storage. It holds requests against their signatures.

use std::process::Command;

use super::process::ServerProcess;
use super::rclone::Rclone;
use super::{ACCOUNT, ACCOUNT_KEY, Protocol, StoreServer, below, folder, installed};

#[track_caller]
pub(crate) fn start() -> Option<StoreServer> {
    let program = installed::program("azurite", "node_modules/.bin/azurite-blob")?;
    let rclone = Rclone::find()?;
    let folder = folder();
    let data = below(folder.path(), "data");
    let process = ServerProcess::start(folder.path(), |port| {
        let mut command = Command::new(&program);
        command
            .args([
                "--disableTelemetry",
                "--silent",
                "--skipApiVersionCheck",
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                &port.to_string(),
                "--location",
            ])
            .arg(&data);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCOUNT_KEY}"));
        command
    });
    let server = StoreServer::new(Protocol::Azure, process, folder);
    rclone.of(&server).run(&["mkdir", &rclone.of(&server).path("")]);
    Some(server)
}
