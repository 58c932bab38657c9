//! What a program prints → its rows counted → gzip → encrypted, where it is to be → SHA-256 → store, as one stream in bounded memory.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::encryption::encryptor::Encryptor;
use crate::encryption::recipient::Recipient;
use crate::error::{Error, Result};
use crate::logical::copy_scan::{CopyScan, Scanned};
use crate::logical::gzip;
use crate::logical::place::Place;
use crate::progress::{Event, ProgressSink};
use crate::server::program::Program;
use crate::store::{BackupStore, ObjectKey};
use crate::workers;

/// How many compressed blocks may wait for the store: 4 MiB at most.
const WAITING_BLOCKS: usize = 4;

/// How many compressed blocks may wait to be encrypted, where they are: 2 MiB at most.
const WAITING_TO_BE_SEALED: usize = 2;

/// How the output of a program is stored.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    /// Under which key.
    pub(super) key: ObjectKey,
    /// Where it belongs, which it says of itself.
    pub(super) place: Place,
    /// To whom it is encrypted; nobody, where it is not.
    pub(super) recipients: Vec<Recipient>,
}

/// What was stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
    pub(super) uncompressed_bytes: u64,
    pub(super) duration: Duration,
    pub(super) scanned: Scanned,
}

/// Runs `program` and stores what it prints, compressed. The key shows nothing until the program ended well,
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
    envelope: Envelope,
    threads: NonZeroUsize,
    stall: Duration,
    progress: &dyn ProgressSink,
) -> Result<Stored> {
    let begin = Instant::now();
    // The store first: when it is full or not there, the server need not be troubled.
    let mut upload = store.upload(&envelope.key).await?;
    let (running, stdout) = program.spawn_source()?;
    let (send, mut members) = mpsc::channel::<Bytes>(WAITING_BLOCKS);
    let pipe = format!("the output of {name}");
    let key = envelope.key.clone();
    // A task of its own, so that compressing goes on while this waits for the store. It ends with the pipe: when the
    // program does, which is killed when this future is dropped.
    let compressing = tokio::spawn(workers::run(move || {
        let mut scan = CopyScan::new();
        let mut comment = Some(envelope.place.comment());
        let (uncompressed_bytes, sha256) = sealing(&envelope.recipients, send, |take| {
            gzip::compress(
                stdout,
                &pipe,
                threads,
                |block| scan.feed(block),
                |member| match comment.take() {
                    Some(comment) => take(gzip::with_comment(&member, &comment)?),
                    None => take(member),
                },
            )
        })?;
        Ok((uncompressed_bytes, scan.finish(), sha256))
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

/// Hands what `write` produces to the store's side, encrypted where there are recipients: on a thread of its own, so that
/// compressing goes on meanwhile. Returns what `write` does, and the SHA-256 of what was handed over.
fn sealing<T>(
    recipients: &[Recipient],
    send: mpsc::Sender<Bytes>,
    write: impl FnOnce(&mut dyn FnMut(Bytes) -> Result<()>) -> Result<T>,
) -> Result<(T, String)> {
    let mut hashed = Hashed { hash: Sha256::new(), send };
    if recipients.is_empty() {
        let written = write(&mut |bytes| hashed.take(bytes))?;
        return Ok((written, hashed.finish()));
    }
    let mut header = Vec::new();
    let encryptor = Encryptor::begin(recipients, &mut header)?;
    let (queue, waiting) = sync_channel::<Bytes>(WAITING_TO_BE_SEALED);
    thread::scope(|scope| {
        let sealed = scope.spawn(move || seal(encryptor, header, &waiting, hashed));
        let written = write(&mut |bytes| queue.send(bytes).map_err(|_| ended()));
        // Tells the other thread that this was all.
        drop(queue);
        let sealed = sealed.join().unwrap_or_else(|_| Err(Error::Bug("the encrypting thread panicked".to_owned())));
        match (written, sealed) {
            (Ok(written), Ok(sha256)) => Ok((written, sha256)),
            // That nobody takes what is written has a reason, and it is that.
            (Err(Error::Cancelled { .. }), Err(error)) | (Ok(_), Err(error)) | (Err(error), _) => Err(error),
        }
    })
}

fn seal(mut encryptor: Encryptor, header: Vec<u8>, waiting: &Receiver<Bytes>, mut hashed: Hashed) -> Result<String> {
    hashed.take(header.into())?;
    while let Ok(member) = waiting.recv() {
        let mut out = Vec::new();
        encryptor.update(&member, &mut out)?;
        if !out.is_empty() {
            hashed.take(out.into())?;
        }
    }
    let mut out = Vec::new();
    encryptor.finish(&mut out)?;
    hashed.take(out.into())?;
    Ok(hashed.finish())
}

/// What goes to the store, hashed as it passes.
struct Hashed {
    hash: Sha256,
    send: mpsc::Sender<Bytes>,
}

impl Hashed {
    fn take(&mut self, bytes: Bytes) -> Result<()> {
        self.hash.update(&bytes);
        self.send.blocking_send(bytes).map_err(|_| ended())
    }

    fn finish(self) -> String {
        hexadecimal(&self.hash.finalize())
    }
}

fn ended() -> Error {
    Error::Cancelled { what: "compressing".to_owned() }
}

/// As `sha256sum` prints it.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
