//! `postmaster.pid`: which process serves a data directory, and how to reach it.
//!
//! Source: `src/include/utils/pidfile.h` and `CreateLockFile` in `miscinit.c`, PostgreSQL 14 to 18. The server adds lines while
//! it starts; each is complete once its line break is there. The file outlives a killed server, and its number may then belong
//! to any other process.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The name of the file in the data directory.
pub const POSTMASTER_PID: &str = "postmaster.pid";

/// What `postmaster.pid` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostmasterPid {
    /// The process number, in the PID namespace of the server.
    pub pid: i32,
    /// Whether it is a single-user backend (`postgres --single`), which writes its number negated and takes no connections.
    pub standalone: bool,
    /// The data directory as the server knows it.
    pub data_directory: PathBuf,
    /// When the postmaster started, in seconds since 1970.
    pub started_at: i64,
    /// The port, which is also part of the socket's name.
    pub port: Option<u16>,
    /// The first folder of Unix sockets; `None` when it is not written yet or there is none.
    pub socket_directory: Option<PathBuf>,
    /// The first address that it listens on, `*` for all; `None` when it is not written yet or TCP is off.
    pub listen_address: Option<String>,
    /// Key and id of the shared memory segment that holds the server's own interlock.
    pub shared_memory: Option<(u64, u64)>,
    /// `starting`, `stopping`, `ready` or `standby`, without the blanks that pad it.
    pub status: Option<String>,
}

/// Why bytes are no `postmaster.pid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostmasterPidError {
    /// Empty or cut off: the server is about to write it, or its disk was full.
    #[error("postmaster.pid ends before its third line")]
    Incomplete,
    /// A line is not what belongs there.
    #[error("line {line} of postmaster.pid is no {expected}")]
    Wrong {
        /// The line, from 1.
        line: u8,
        /// What belongs there.
        expected: &'static str,
    },
}

impl PostmasterPid {
    /// Reads the bytes of a `postmaster.pid`. The first three lines must be there; the others may be missing or senseless.
    ///
    /// # Errors
    /// [`PostmasterPidError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PostmasterPidError> {
        // What follows the last line break is not complete.
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        lines.pop();
        let [pid, data_directory, started_at, ..] = lines[..] else { return Err(PostmasterPidError::Incomplete) };
        let wrong = |line, expected| PostmasterPidError::Wrong { line, expected };
        let pid: i32 = number(pid).ok_or(wrong(1, "process number"))?;
        if pid == 0 || pid == i32::MIN {
            return Err(wrong(1, "process number"));
        }
        if data_directory.is_empty() {
            return Err(wrong(2, "data directory"));
        }
        let text =
            |line: usize| lines.get(line - 1).map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned()).filter(|t| !t.is_empty());
        let shared_memory = text(7).and_then(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        });
        Ok(Self {
            pid: pid.abs(),
            standalone: pid < 0,
            data_directory: path(data_directory),
            started_at: number(started_at).ok_or(wrong(3, "start time"))?,
            port: lines.get(3).copied().and_then(number),
            socket_directory: lines.get(4).copied().filter(|line| !line.is_empty()).map(path),
            listen_address: text(6),
            shared_memory,
            status: text(8),
        })
    }

    /// Whether the server said that it takes connections: as a primary, or as a standby that has become consistent.
    pub fn is_ready(&self) -> bool {
        matches!(self.status.as_deref(), Some("ready" | "standby"))
    }
}

fn number<T: std::str::FromStr>(line: &[u8]) -> Option<T> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

fn path(line: &[u8]) -> PathBuf {
    OsStr::from_bytes(line).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUNNING: &[u8] = b"4711\n/app/pgdata\n1768384800\n5432\n/tmp\n127.0.0.1\n   151393         0\nready   \n";

    #[test]
    fn a_running_server_is_read_whole() {
        let read = PostmasterPid::parse(RUNNING).unwrap();
        let expected = PostmasterPid {
            pid: 4711,
            standalone: false,
            data_directory: "/app/pgdata".into(),
            started_at: 1_768_384_800,
            port: Some(5432),
            socket_directory: Some("/tmp".into()),
            listen_address: Some("127.0.0.1".into()),
            shared_memory: Some((151_393, 0)),
            status: Some("ready".into()),
        };
        assert_eq!(read, expected);
        assert!(read.is_ready());
    }

    #[test]
    fn a_starting_server_has_fewer_lines() {
        let read = PostmasterPid::parse(b"4711\n/app/pgdata\n1768384800\n5432\n\n").unwrap();
        assert_eq!((read.port, read.socket_directory, read.listen_address, read.status), (Some(5432), None, None, None));
        let single = PostmasterPid::parse(b"-4711\n/app/pgdata\n1768384800\n").unwrap();
        assert_eq!((single.pid, single.standalone, single.port), (4711, true, None));
    }

    #[test]
    fn a_line_without_its_break_does_not_count() {
        assert_eq!(PostmasterPid::parse(b"4711\n/app/pgdata\n17683"), Err(PostmasterPidError::Incomplete));
        assert_eq!(PostmasterPid::parse(b"4711\n/app/pgdata\n1768384800\n54").unwrap().port, None);
        assert_eq!(PostmasterPid::parse(b""), Err(PostmasterPidError::Incomplete));
    }

    #[test]
    fn senseless_lines_are_named() {
        for (bytes, line) in
            [(&b"0\n/d\n1\n"[..], 1), (b"x\n/d\n1\n", 1), (b"-2147483648\n/d\n1\n", 1), (b"1\n\n1\n", 2), (b"1\n/d\nnow\n", 3)]
        {
            assert!(matches!(PostmasterPid::parse(bytes), Err(PostmasterPidError::Wrong { line: l, .. }) if l == line), "{line}");
        }
    }

    proptest! {
        #[test]
        fn every_beginning_is_read_or_refused(length in 0..RUNNING.len()) {
            if let Ok(read) = PostmasterPid::parse(&RUNNING[..length]) {
                prop_assert_eq!(read.pid, 4711);
                prop_assert!(read.port.is_none_or(|port| port == 5432));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, tail: Vec<u8>) {
            let _ = PostmasterPid::parse(&bytes);
            let _ = PostmasterPid::parse(&[b"1\n/d\n1\n", &tail[..]].concat());
        }
    }
}
