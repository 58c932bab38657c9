//! `BackupStore`: where objects live, ours and Python's own.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::exceptions;
use crate::operation::{Answer, Operation, document, nothing, value_answer};
use pgpersist_core::error::Result;
use pgpersist_core::store::local::LocalBackupStore;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey, open};

/// A store, whichever it is.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeStore {
    store: Arc<dyn BackupStore>,
}

impl NativeStore {
    pub(crate) fn shared(&self) -> Arc<dyn BackupStore> {
        self.store.clone()
    }

    fn holding(store: Arc<dyn BackupStore>) -> Self {
        Self { store }
    }

    fn asking<T, F>(&self, what: &'static str, key: &str, ask: F) -> PyResult<Operation>
    where
        T: Future<Output = Result<Answer>> + Send + 'static,
        F: FnOnce(Arc<dyn BackupStore>, ObjectKey) -> T,
    {
        let key = Python::attach(|py| key.parse::<ObjectKey>().map_err(|error| exceptions::made(py, &error)))?;
        Ok(Operation::new(what, ask(self.store.clone(), key)))
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

    fn __str__(&self) -> String {
        self.store.to_string()
    }

    fn put(&self, key: &str, data: Vec<u8>) -> PyResult<Operation> {
        self.asking("storing an object", key, |store, key| async move { store.put(&key, Bytes::from(data)).await.map(|()| nothing()) })
    }

    fn put_if_absent(&self, key: &str, data: Vec<u8>) -> PyResult<Operation> {
        self.asking("storing an object", key, |store, key| async move {
            store.put_if_absent(&key, Bytes::from(data)).await.map(|()| nothing())
        })
    }

    fn get(&self, key: &str) -> PyResult<Operation> {
        self.asking("reading an object", key, |store, key| async move { store.get(&key).await.map(bytes) })
    }

    fn get_range(&self, key: &str, start: u64, end: u64) -> PyResult<Operation> {
        self.asking("reading an object", key, move |store, key| async move { store.get_range(&key, Range { start, end }).await.map(bytes) })
    }

    fn head(&self, key: &str) -> PyResult<Operation> {
        self.asking("looking at an object", key, |store, key| async move { Ok(value_answer(document(&store.head(&key).await?)?)) })
    }

    fn delete(&self, key: &str) -> PyResult<Operation> {
        self.asking("deleting an object", key, |store, key| async move { store.delete(&key).await.map(|()| nothing()) })
    }

    fn list(&self, prefix: String) -> Operation {
        let store = self.store.clone();
        Operation::new("listing objects", async move {
            let listed: Vec<_> = store.list(&prefix).try_collect().await?;
            Ok(value_answer(document(&listed)?))
        })
    }
}

fn bytes(bytes: Bytes) -> Answer {
    Box::new(move |py| Ok(PyBytes::new(py, &bytes).into_any().unbind()))
}
