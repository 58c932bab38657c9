//! Objects of unknown size on their way into a Python store.
//!
//! A store that has `upload` reads them from a source, as files are read, at its own pace. For one that has not they are
//! collected, beyond a size in a temporary file, and put at the end. Memory is bounded either way: by [`QUEUE`] pieces of
//! [`PIECE`] bytes, or by what the collector keeps in memory.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::operation::{Answer, Operation, nothing};
use crate::python_store::PythonStore;
use crate::thrown;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::store::{BackupStore, ObjectKey, ObjectMeta, Upload};
use pgpersist_core::workers;

/// How many pieces wait for the store.
const QUEUE: usize = 4;
/// How large they are at most.
const PIECE: usize = 1 << 20;

enum Piece {
    Bytes(Bytes),
    /// The object is whole. A queue that ends without this was given up.
    End,
}

/// What a store's `upload` reads from.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeSource {
    pieces: Arc<Mutex<Pieces>>,
}

struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

#[pymethods]
impl NativeSource {
    /// The next bytes; `None` at the end; `CancelledError` when the object will never be whole.
    fn next(&self) -> Operation {
        let pieces = self.pieces.clone();
        Operation::new("the upload", async move {
            let mut pieces = pieces.lock().await;
            if pieces.ended {
                return Ok(nothing());
            }
            match pieces.receiver.recv().await {
                Some(Piece::Bytes(bytes)) => {
                    let answer: Answer = Box::new(move |py| Ok(PyBytes::new(py, &bytes).into_any().unbind()));
                    Ok(answer)
                }
                Some(Piece::End) => {
                    pieces.ended = true;
                    Ok(nothing())
                }
                None => Err(Error::Cancelled { what: "the upload".to_owned() }),
            }
        })
    }
}

/// An upload that the store's own method reads.
pub(crate) struct PulledUpload {
    store: PythonStore,
    key: ObjectKey,
    size_bytes: u64,
    sender: Option<mpsc::Sender<Piece>>,
    call: JoinHandle<Result<()>>,
}

impl PulledUpload {
    pub(crate) fn begin(store: PythonStore, key: ObjectKey) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let pieces = Arc::new(Mutex::new(Pieces { receiver, ended: false }));
        let (theirs, text) = (store.clone(), key.to_string());
        let call = tokio::spawn(async move {
            let native = pieces.clone();
            let arguments = move |py: Python<'_>| {
                let native = Py::new(py, NativeSource { pieces: native })?;
                let source = py.import(intern!(py, "pgpersist._upload"))?.getattr(intern!(py, "UploadSource"))?.call1((native,))?;
                (text, source).into_pyobject(py).map(Bound::unbind)
            };
            theirs.call("upload", arguments, |_| Ok(())).await?;
            let is_read = pieces.lock().await.ended;
            if is_read { Ok(()) } else { Err(theirs.defect("upload", "it returned before it had read the whole object")) }
        });
        Self { store, key, size_bytes: 0, sender: Some(sender), call }
    }

    async fn send(&mut self, piece: Piece) -> Result<()> {
        let Some(sender) = &self.sender else { return Err(self.void()) };
        tokio::select! {
            biased;
            ended = &mut self.call => {
                self.sender = None;
                Err(outcome(ended).err().unwrap_or_else(|| self.void()))
            }
            // Pieces are received until the call has ended.
            sent = sender.send(piece) => sent.map_err(|_| self.void()),
        }
    }

    fn void(&self) -> Error {
        self.store.defect("upload", "it has ended before the object did")
    }
}

#[async_trait]
impl Upload for PulledUpload {
    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        self.size_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let piece = bytes.split_to(PIECE.min(bytes.len()));
            self.send(Piece::Bytes(piece)).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectMeta> {
        self.send(Piece::End).await?;
        outcome((&mut self.call).await)?;
        whole(&self.store, "upload", &self.key, self.size_bytes).await
    }
}

impl Drop for PulledUpload {
    fn drop(&mut self) {
        // A coroutine is cancelled by this; a method that blocks reads on, and hears that there will be no end.
        self.call.abort();
    }
}

fn outcome(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| Err(Error::Bug(format!("an upload was lost: {error}"))))
}

/// What the store tells of an object that it has just taken. One of another size is none.
async fn whole(store: &PythonStore, method: &str, key: &ObjectKey, size_bytes: u64) -> Result<ObjectMeta> {
    let meta = store.head(key).await?;
    if meta.size_bytes == size_bytes {
        return Ok(meta);
    }
    Err(store.defect(method, &format!("it was given {size_bytes} bytes of {key}, and has {}", meta.size_bytes)))
}

/// An upload that the library collects for the store.
pub(crate) struct SpooledUpload {
    store: PythonStore,
    key: ObjectKey,
    spool: Arc<Py<PyAny>>,
    size_bytes: u64,
}

impl SpooledUpload {
    pub(crate) fn begin(store: PythonStore, key: ObjectKey) -> Result<Self> {
        let made = Python::try_attach(|py| {
            let spool = py.import(intern!(py, "pgpersist._upload"))?.getattr(intern!(py, "Spool"))?.call0();
            spool.map(Bound::unbind)
        });
        let spool = made.unwrap_or_else(|| Err(gone())).map_err(own)?;
        Ok(Self { store, key, spool: Arc::new(spool), size_bytes: 0 })
    }
}

#[async_trait]
impl Upload for SpooledUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.size_bytes += bytes.len() as u64;
        let spool = self.spool.clone();
        workers::run(move || {
            let written = Python::try_attach(|py| spool.call_method1(py, intern!(py, "write"), (PyBytes::new(py, &bytes),)).map(drop));
            written.unwrap_or_else(|| Err(gone())).map_err(own)
        })
        .await
    }

    async fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        let (spool, key) = (self.spool.clone(), self.key.to_string());
        let arguments = move |py: Python<'_>| (key, spool.call_method0(py, intern!(py, "data"))?).into_pyobject(py).map(Bound::unbind);
        self.store.call("put_if_absent", arguments, |_| Ok(())).await?;
        whole(&self.store, "put_if_absent", &self.key, self.size_bytes).await
    }
}

/// The collector's own trouble, such as a full disk.
fn own(exception: PyErr) -> Error {
    let made = Python::try_attach(|py| thrown::raised(py, "collector of an upload", "write", exception));
    made.unwrap_or_else(|| Error::Cancelled { what: "the upload".to_owned() })
}

fn gone() -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err("the interpreter is ending")
}
