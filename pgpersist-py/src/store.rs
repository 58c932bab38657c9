//! `BackupStore`: where objects live, ours and Python's own.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::Mutex;

use crate::exceptions;
use crate::home::Home;
use crate::operation::{Answer, Operation, document, nothing, value_answer};
use crate::progress::Told;
use crate::python_store::PythonStore;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::store::check::run::{CheckOptions, check};
use pgpersist_core::store::local::LocalBackupStore;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey, Upload, open};

/// A store, whichever it is.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeStore {
    store: AnyStore,
}

/// One of ours, or an object of Python's.
#[derive(Debug, Clone)]
pub(crate) enum AnyStore {
    Ours(Arc<dyn BackupStore>),
    Python(PythonStore),
}

impl AnyStore {
    /// The store for the operation that runs here.
    pub(crate) fn here(&self) -> Arc<dyn BackupStore> {
        self.at(Home::current())
    }

    /// The store for an operation with this home.
    pub(crate) fn at(&self, home: Home) -> Arc<dyn BackupStore> {
        match self {
            Self::Ours(store) => store.clone(),
            Self::Python(store) => Arc::new(store.at(home)),
        }
    }
}

impl NativeStore {
    pub(crate) fn any(&self) -> AnyStore {
        self.store.clone()
    }

    pub(crate) fn of(store: AnyStore) -> Self {
        Self { store }
    }

    fn holding(store: Arc<dyn BackupStore>) -> Self {
        Self::of(AnyStore::Ours(store))
    }

    fn asking<T, F>(&self, py: Python<'_>, what: &'static str, key: &str, ask: F) -> PyResult<Operation>
    where
        T: Future<Output = Result<Answer>> + Send + 'static,
        F: FnOnce(Arc<dyn BackupStore>, ObjectKey) -> T + Send + 'static,
    {
        let key = key.parse::<ObjectKey>().map_err(|error| exceptions::made(py, &error))?;
        let store = self.store.clone();
        Ok(Operation::new(what, async move { ask(store.here(), key).await }))
    }
}

#[pymethods]
impl NativeStore {
    /// A folder.
    #[staticmethod]
    fn local(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let store = LocalBackupStore::open(path).map_err(|error| exceptions::made(py, &error))?;
        Ok(Self::holding(Arc::new(store)))
    }

    /// What a URL names.
    #[staticmethod]
    fn open(py: Python<'_>, url: &str) -> PyResult<Self> {
        let store = url.parse().and_then(|url| open::open(&url)).map_err(|error| exceptions::made(py, &error))?;
        Ok(Self::holding(store))
    }

    /// A map in this process.
    #[staticmethod]
    fn memory() -> Self {
        Self::holding(Arc::new(MemoryBackupStore::new()))
    }

    /// A Python object; `shown` names it for people, `uploads` tells whether it has `upload`.
    #[staticmethod]
    fn python(object: &Bound<'_, PyAny>, shown: &str, uploads: bool) -> Self {
        Self { store: AnyStore::Python(PythonStore::new(object, shown, uploads)) }
    }

    fn __str__(&self) -> String {
        match &self.store {
            AnyStore::Ours(store) => store.to_string(),
            AnyStore::Python(store) => store.to_string(),
        }
    }

    fn put(&self, py: Python<'_>, key: &str, data: &[u8]) -> PyResult<Operation> {
        let data = Bytes::copy_from_slice(data);
        self.asking(py, "storing an object", key, |store, key| async move { store.put(&key, data).await.map(|()| nothing()) })
    }

    fn put_if_absent(&self, py: Python<'_>, key: &str, data: &[u8]) -> PyResult<Operation> {
        let data = Bytes::copy_from_slice(data);
        self.asking(py, "storing an object", key, |store, key| async move { store.put_if_absent(&key, data).await.map(|()| nothing()) })
    }

    fn get(&self, py: Python<'_>, key: &str) -> PyResult<Operation> {
        self.asking(py, "reading an object", key, |store, key| async move { store.get(&key).await.map(bytes) })
    }

    fn get_range(&self, py: Python<'_>, key: &str, start: u64, end: u64) -> PyResult<Operation> {
        let range = Range { start, end };
        self.asking(py, "reading an object", key, |store, key| async move { store.get_range(&key, range).await.map(bytes) })
    }

    fn head(&self, py: Python<'_>, key: &str) -> PyResult<Operation> {
        self.asking(py, "looking at an object", key, |store, key| async move { Ok(value_answer(document(&store.head(&key).await?)?)) })
    }

    fn delete(&self, py: Python<'_>, key: &str) -> PyResult<Operation> {
        self.asking(py, "deleting an object", key, |store, key| async move { store.delete(&key).await.map(|()| nothing()) })
    }

    fn list(&self, prefix: String) -> Operation {
        let store = self.store.clone();
        Operation::new("listing objects", async move {
            let listed: Vec<_> = store.here().list(&prefix).try_collect().await?;
            Ok(value_answer(document(&listed)?))
        })
    }

    /// What it can really do, found out by trying.
    fn check(&self, throughput_bytes: Option<u64>, listener: Py<PyAny>, with_bytes: bool) -> Operation {
        let (store, told) = (self.store.clone(), Told::shared(listener, with_bytes));
        Operation::told("`store check`", told.clone(), async move {
            let report = check(&store.here(), &CheckOptions { throughput_bytes }, told.as_ref()).await?;
            Ok(value_answer(document(&report)?))
        })
    }

    /// Begins an object of unknown size: a `NativeUpload`.
    fn upload(&self, py: Python<'_>, key: &str) -> PyResult<Operation> {
        self.asking(py, "storing an object", key, |store, key| async move {
            let upload = Arc::new(Mutex::new(Some(store.upload(&key).await?)));
            let answer: Answer = Box::new(move |py| Ok(Py::new(py, NativeUpload { upload })?.into_any()));
            Ok(answer)
        })
    }
}

/// An object in the making. Dropped before it is finished, it leaves nothing.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeUpload {
    upload: Arc<Mutex<Option<Box<dyn Upload>>>>,
}

#[pymethods]
impl NativeUpload {
    fn write(&self, data: &[u8]) -> Operation {
        let (upload, data) = (self.upload.clone(), Bytes::copy_from_slice(data));
        Operation::new("storing an object", async move {
            // Taken for the moment: one that has failed, or was cancelled in the middle, is void.
            let mut slot = upload.lock().await;
            let mut upload = slot.take().ok_or_else(void)?;
            upload.write(data).await?;
            *slot = Some(upload);
            Ok(nothing())
        })
    }

    fn finish(&self) -> Operation {
        let upload = self.upload.clone();
        Operation::new("storing an object", async move {
            let upload = upload.lock().await.take().ok_or_else(void)?;
            Ok(value_answer(document(&upload.finish().await?)?))
        })
    }

    /// Gives it up.
    fn abort(&self) -> Operation {
        let upload = self.upload.clone();
        Operation::new("giving up an object", async move {
            drop(upload.lock().await.take());
            Ok(nothing())
        })
    }
}

fn void() -> Error {
    Error::invalid("the upload has ended, or has failed", "begin another one")
}

fn bytes(bytes: Bytes) -> Answer {
    Box::new(move |py| Ok(PyBytes::new(py, &bytes).into_any().unbind()))
}
