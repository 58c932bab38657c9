//! A socket that one process listens on.

use std::fmt::Debug;
use std::ops::Deref;
use std::os::fd::AsFd;

use rustix::net::{Shutdown, shutdown};

/// A listener that stops to listen when it is dropped, also while a child that was forked meanwhile has a copy of the descriptor:
/// clients would connect to that, and wait for an answer.
#[derive(Debug)]
pub(crate) struct Listening<L: AsFd + Debug> {
    listener: L,
    process: u32,
}

impl<L: AsFd + Debug> Listening<L> {
    pub(crate) fn new(listener: L) -> Self {
        Self { listener, process: std::process::id() }
    }
}

impl<L: AsFd + Debug> Deref for Listening<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.listener
    }
}

impl<L: AsFd + Debug> Drop for Listening<L> {
    fn drop(&mut self) {
        // Dropped in such a child, it goes on to be the parent's.
        if self.process == std::process::id() {
            // The descriptor is closed in any case.
            let _ = shutdown(&self.listener, Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn nobody_listens_any_more_though_a_copy_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let unix = Listening::new(UnixListener::bind(&path).unwrap());
        let tcp = Listening::new(TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let address = tcp.local_addr().unwrap();
        let _copies = (unix.try_clone().unwrap(), tcp.try_clone().unwrap());
        assert!(UnixStream::connect(&path).is_ok() && TcpStream::connect(address).is_ok());
        drop((unix, tcp));
        assert!(UnixStream::connect(&path).is_err() && TcpStream::connect(address).is_err());
        // Its port is free for the next one.
        assert_eq!(TcpListener::bind(address).unwrap().local_addr().unwrap(), address);
    }
}
