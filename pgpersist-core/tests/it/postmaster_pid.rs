//! The `postmaster.pid` of real servers, on every major version found.

use std::path::{Path, PathBuf};

use pgpersist_core::pg::postmaster_pid::{POSTMASTER_PID, PostmasterPid};

use crate::support::installation::{Installation, succeed};
use crate::support::scratch::Scratch;

/// A server without TCP, whose socket is in the folder above its data; stopped when this is dropped.
struct Running<'a>(&'a Installation, PathBuf);

impl<'a> Running<'a> {
    fn start(installation: &'a Installation, data_directory: &Path, sockets: &Path) -> Self {
        // Made first, so that a server that comes up too late is stopped as well.
        let running = Self(installation, data_directory.to_owned());
        let options = format!("-c listen_addresses= -c fsync=off -p 6001 -k {}", sockets.display());
        let mut command = installation.command("pg_ctl");
        command.args(["start", "-w", "-t", "60", "-o", &options, "-D"]).arg(data_directory);
        succeed(command.arg("-l").arg(sockets.join("log")));
        running
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.0.command("pg_ctl").args(["stop", "-w", "-m", "immediate", "-D"]).arg(&self.1).output();
    }
}

#[test]
fn a_running_server_is_read_and_a_stopped_one_leaves_nothing() {
    for installation in Installation::all() {
        let scratch = Scratch::new();
        let data_directory = scratch.join("data");
        installation.initdb(&data_directory, &[]);
        let running = Running::start(&installation, &data_directory, scratch.path());
        let bytes = std::fs::read(data_directory.join(POSTMASTER_PID)).unwrap();
        let read = PostmasterPid::parse(&bytes).unwrap();
        assert!(read.is_ready() && !read.standalone, "{read:?}");
        assert_eq!((read.data_directory.as_path(), read.port), (data_directory.as_path(), Some(6001)));
        assert_eq!((read.socket_directory.as_deref(), read.listen_address.as_deref()), (Some(scratch.path()), None));
        assert!(read.shared_memory.is_some());
        let program = std::fs::read_link(format!("/proc/{}/exe", read.pid)).unwrap();
        assert_eq!(program, installation.bin.join("postgres").canonicalize().unwrap());
        drop(running);
        assert!(!data_directory.join(POSTMASTER_PID).exists());
    }
}
