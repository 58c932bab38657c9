//! What a program prints → its rows counted → gzip → SHA-256 → store, as one stream in bounded memory.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::logical::copy_scan::{CopyScan, Scanned};
use crate::logical::gzip;
use crate::progress::{Event, ProgressSink};
use crate::server::program::Program;
use crate::store::{BackupStore, ObjectKey};
use crate::workers;

/// How many compressed blocks may wait for the store: 4 MiB at most.
const WAITING_BLOCKS: usize = 4;

/// What was stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
    pub(super) uncompressed_bytes: u64,
    pub(super) duration: Duration,
    pub(super) scanned: Scanned,
}

/// Runs `program` and stores what it prints under `key`, compressed. The key shows nothing until the program ended well,
/// its output was whole, and all of it is durable.
///
/// `stall` is how long a program may print nothing.
///
/// # Errors
/// [`Error::Program`] when the program failed or was killed; [`Error::Damaged`] when its output stops short; what the store
/// says. The program is gone then, and so is what was stored.
pub(super) async fn store_output(
    program: &Program,
    name: &str,
    store: &dyn BackupStore,
    key: &ObjectKey,
    threads: NonZeroUsize,
    stall: Duration,
    progress: &dyn ProgressSink,
) -> Result<Stored> {
    let begin = Instant::now();
    // The store first: when it is full or not there, the server need not be troubled.
    let mut upload = store.upload(key).await?;
    let (running, stdout) = program.spawn_source()?;
    let (send, mut members) = mpsc::channel::<Bytes>(WAITING_BLOCKS);
    let pipe = format!("the output of {name}");
    // A task of its own, so that compressing goes on while this waits for the store. It ends with the pipe: when the
    // program does, which is killed when this future is dropped.
    let compressing = tokio::spawn(workers::run(move || {
        let mut scan = CopyScan::new();
        let mut hash = Sha256::new();
        let uncompressed_bytes = gzip::compress(
            stdout,
            &pipe,
            threads,
            |block| scan.feed(block),
            |member| {
                hash.update(&member);
                send.blocking_send(member).map_err(|_| Error::Cancelled { what: "compressing".to_owned() })
            },
        )?;
        Ok((uncompressed_bytes, scan.finish(), hexadecimal(&hash.finalize())))
    }));
    let mut size_bytes = 0;
    let stored = loop {
        match tokio::time::timeout(stall, members.recv()).await {
            Ok(None) => break Ok(()),
            Ok(Some(member)) => {
                size_bytes += member.len() as u64;
                if let Err(error) = upload.write(member).await {
                    break Err(error);
                }
                progress.event(Event::Bytes { done: size_bytes, total: None });
            }
            Err(_) => {
                break Err(Error::Deadline {
                    what: format!("{name} printed nothing"),
                    after: stall,
                    remedy: Some("look for locks in pg_stat_activity, and run it again".to_owned()),
                });
            }
        }
    };
    if let Err(error) = stored {
        drop(members);
        running.kill().await;
        // It has no news: it ended because we stopped listening.
        let _ = compressing.await;
        return Err(error);
    }
    running.finish().await?;
    let (uncompressed_bytes, scanned, sha256) = compressing.await.map_err(|error| Error::Bug(format!("compressing failed: {error}")))??;
    if !scanned.has_trailer || scanned.is_cut_off {
        return Err(Error::damaged(
            format!("the output of {name} ends before its last line, though {name} reported success"),
            "run it again; if it happens again, run the same pg_dump by hand and look at the end of what it prints",
        ));
    }
    let meta = upload.finish().await?;
    if meta.size_bytes != size_bytes {
        return Err(Error::damaged(
            format!("{key} has {} bytes in the store, and {size_bytes} were written", meta.size_bytes),
            format!("delete {key} and look at the store"),
        ));
    }
    Ok(Stored { size_bytes, sha256, uncompressed_bytes, duration: begin.elapsed(), scanned })
}

/// As `sha256sum` prints it.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
