//! Passes on what the server writes into its log file, so that `kubectl logs` shows it.
//!
//! The file stays what the server writes to: a pipe would end with the agent, and the server goes on without one when the
//! agent is killed. The next agent goes on reading where that one is now.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::agent::log::{AgentLog, Speaker};
use crate::error::Result;
use crate::pg::log_line::{Severity, severity};
use crate::server::log_file::LogFile;
use crate::workers;

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// How often it is looked at for its size: a log that grew too large is rotated under the server.
const ROTATION: Duration = Duration::from_secs(30);
/// How much is read at once. A longer line comes in pieces.
const PIECE_BYTES: usize = 64 * 1024;

/// A position in a log that grows, is renamed, or is emptied.
#[derive(Debug)]
struct LogRelay {
    log: LogFile,
    offset: u64,
    inode: u64,
    /// The beginning of a line that is not whole yet.
    partial: Vec<u8>,
    severity: Severity,
}

/// The relay at work. Dropping it lets it end by itself.
#[derive(Debug)]
pub(crate) struct RunningRelay {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

/// Passes on what comes after `offset`, and keeps the log within its bounds.
pub(crate) fn start(log: LogFile, offset: u64, to: Option<Arc<dyn AgentLog>>) -> RunningRelay {
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut relay = LogRelay { log, offset, inode: 0, partial: Vec::new(), severity: Severity::Log };
        let mut rotated = Instant::now();
        loop {
            let last = tokio::time::timeout(PERIOD, &mut stopped).await.is_ok();
            let rotate = rotated.elapsed() >= ROTATION;
            if rotate {
                rotated = Instant::now();
            }
            let to = to.clone();
            let look = workers::run(move || {
                relay.pass_on(to.as_deref());
                // A rotation that fails is tried again; the health of the disk is told elsewhere.
                if rotate && relay.log.rotate_under_server().is_ok() {
                    relay.begin_anew_if_emptied();
                }
                if last {
                    relay.flush(to.as_deref());
                }
                Result::Ok(relay)
            });
            match look.await {
                Ok(same) if !last => relay = same,
                _ => return,
            }
        }
    });
    RunningRelay { stop, task }
}

impl RunningRelay {
    /// Passes on what is there, and ends.
    pub(crate) async fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

impl LogRelay {
    /// Passes on all whole lines that are new.
    fn pass_on(&mut self, to: Option<&dyn AgentLog>) {
        let Some(to) = to else { return };
        // A log that is not there has nothing to tell.
        let _ = self.read_new(to);
    }

    fn read_new(&mut self, to: &dyn AgentLog) -> io::Result<()> {
        let metadata = std::fs::metadata(self.log.path())?;
        if self.inode != 0 && self.inode != metadata.ino() || metadata.len() < self.offset {
            self.offset = 0;
        }
        self.inode = metadata.ino();
        if metadata.len() == self.offset {
            return Ok(());
        }
        let mut file = File::open(self.log.path())?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            self.offset += count as u64;
            self.take(&piece[..count], to);
        }
    }

    fn take(&mut self, mut bytes: &[u8], to: &dyn AgentLog) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.partial.extend_from_slice(&bytes[..end]);
            self.say(to);
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() >= PIECE_BYTES {
            self.say(to);
        }
    }

    fn say(&mut self, to: &dyn AgentLog) {
        let line = String::from_utf8_lossy(&self.partial);
        self.severity = severity(&line, self.severity);
        to.line(Speaker::Server, self.severity, &line);
        self.partial.clear();
    }

    fn flush(&mut self, to: Option<&dyn AgentLog>) {
        if let (Some(to), false) = (to, self.partial.is_empty()) {
            self.say(to);
        }
    }

    fn begin_anew_if_emptied(&mut self) {
        if self.log.size() < self.offset {
            self.offset = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Lines(Mutex<Vec<String>>);

    impl AgentLog for Lines {
        fn line(&self, _: Speaker, severity: Severity, text: &str) {
            self.0.lock().unwrap().push(format!("{} {text}", severity.as_str()));
        }
    }

    #[tokio::test]
    async fn every_line_is_passed_on_once_whatever_becomes_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogFile::in_folder(folder.path());
        let lines = Arc::new(Lines::default());
        let mut file = log.open().unwrap();
        writeln!(file, "LOG:  before").unwrap();
        let relay = start(log.clone(), log.size(), Some(lines.clone()));
        let wait_for = |count: usize| {
            let lines = lines.clone();
            async move {
                for _ in 0..100 {
                    if lines.0.lock().unwrap().len() >= count {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        write!(file, "ERROR:  one\n\tand more\nLOG:  ha").unwrap();
        wait_for(2).await;
        writeln!(file, "lf").unwrap();
        wait_for(3).await;
        // As a rotation under the server does it; the file is shorter afterwards.
        file.set_len(0).unwrap();
        writeln!(file, "LOG:  anew").unwrap();
        wait_for(4).await;
        std::process::Command::new("mv").arg(log.path()).arg(folder.path().join("old")).status().unwrap();
        let mut file = log.open().unwrap();
        writeln!(file, "LOG:  a file that is quite as long as the one before").unwrap();
        write!(file, "FATAL:  no end").unwrap();
        wait_for(5).await;
        relay.finish().await;
        let heard = lines.0.lock().unwrap().clone();
        assert_eq!(
            heard,
            [
                "ERROR ERROR:  one",
                "ERROR \tand more",
                "LOG LOG:  half",
                "LOG LOG:  anew",
                "LOG LOG:  a file that is quite as long as the one before",
                "FATAL FATAL:  no end"
            ]
        );
    }
}
