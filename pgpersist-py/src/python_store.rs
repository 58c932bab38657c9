//! `BackupStore` implemented by a Python object.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyTuple};
use time::OffsetDateTime;

use crate::home::Home;
use crate::python_call::{Given, Method, class_of, defect};
use crate::python_upload::{PulledUpload, SpooledUpload};
use pgpersist_core::error::{Error, Result};
use pgpersist_core::store::{BackupStore, ObjectKey, ObjectMeta, Upload};

/// A Python object that has the methods of a store. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct PythonStore {
    given: Arc<Given>,
    home: Home,
    shown: Arc<str>,
    /// Whether it has a method `upload`; else the library collects what is uploaded.
    uploads: bool,
}

impl PythonStore {
    /// `shown` names it for people.
    pub(crate) fn new(object: &Bound<'_, PyAny>, shown: &str, uploads: bool) -> Self {
        Self { given: Arc::new(Given::new(object, "store")), home: Home::Background, shown: shown.into(), uploads }
    }

    /// The same for one operation, whose coroutines run there.
    pub(crate) fn at(&self, home: Home) -> Self {
        Self { home, ..self.clone() }
    }

    /// Calls a method with a key and perhaps more.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        method: &'static str,
        arguments: impl FnOnce(Python<'_>) -> PyResult<Py<PyTuple>> + Send + 'static,
        understand: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    ) -> Result<T> {
        self.given.call(&self.home, Method::named(method), arguments, understand).await
    }

    /// It has done what a store must not.
    pub(crate) fn defect(&self, method: &str, fault: &str) -> Error {
        defect(&self.given, method, fault)
    }

    /// Stores bytes by one of the two methods that take them.
    async fn store(&self, method: &'static str, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let key = key.to_string();
        self.call(method, move |py| (key, PyBytes::new(py, &bytes)).into_pyobject(py).map(Bound::unbind), |_| Ok(())).await
    }

    async fn listing(&self, prefix: &str) -> Result<Arc<Given>> {
        let (prefix, given) = (prefix.to_owned(), self.given.clone());
        let understand = move |answer: &Bound<'_, PyAny>| {
            let listing =
                answer.py().import(intern!(answer.py(), "pgpersist._calls"))?.call_method1(intern!(answer.py(), "listing"), (answer,))?;
            Ok(Arc::new(given.part(listing)))
        };
        self.call("list", move |py| (prefix,).into_pyobject(py).map(Bound::unbind), understand).await
    }
}

impl fmt::Display for PythonStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

#[async_trait]
impl BackupStore for PythonStore {
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        self.store("put", key, bytes).await
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        self.store("put_if_absent", key, bytes).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        let key = key.to_string();
        self.call("get", move |py| (key,).into_pyobject(py).map(Bound::unbind), bytes).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let Some(length) = range.end.checked_sub(range.start) else {
            return Err(Error::invalid(format!("the range {}..{} of {key} ends before it starts", range.start, range.end), ""));
        };
        let text = key.to_string();
        let found = self.call("get_range", move |py| (text, range.start, range.end).into_pyobject(py).map(Bound::unbind), bytes).await?;
        if found.len() as u64 > length {
            return Err(self.defect("get_range", &format!("{} bytes of {key}, and {length} were asked for", found.len())));
        }
        Ok(found)
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let text = key.to_string();
        self.call("head", move |py| (text,).into_pyobject(py).map(Bound::unbind), meta).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>> {
        // Taken in batches: a way into the interpreter for each object would be slow, and one for all of them large.
        let take = move |listing: Arc<Given>| async move {
            let method = Method::named("take").told_as("list");
            let metas = |taken: &Bound<'_, PyAny>| taken.try_iter()?.map(|one| meta(&one?)).collect::<PyResult<Vec<_>>>();
            let batch = listing.call(&self.home, method, |py| Ok(PyTuple::empty(py).unbind()), metas).await?;
            let more = (!batch.is_empty()).then(|| (stream::iter(batch.into_iter().map(Ok)), listing));
            Ok::<_, Error>(more)
        };
        stream::once(self.listing(prefix)).map_ok(move |listing| stream::try_unfold(listing, take).try_flatten()).try_flatten().boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let key = key.to_string();
        self.call("delete", move |py| (key,).into_pyobject(py).map(Bound::unbind), |_| Ok(())).await
    }

    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        if self.uploads {
            return Ok(Box::new(PulledUpload::begin(self.clone(), key.clone())));
        }
        Ok(Box::new(SpooledUpload::begin(self.clone(), key.clone())?))
    }
}

fn bytes(answer: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = answer.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    if answer.is_instance_of::<PyByteArray>() || answer.is_instance_of::<PyMemoryView>() {
        let bytes = answer.py().get_type::<PyBytes>().call1((answer,))?;
        return Ok(Bytes::copy_from_slice(bytes.cast::<PyBytes>()?.as_bytes()));
    }
    Err(PyTypeError::new_err(format!("expected bytes, found {}", class_of(answer))))
}

/// What an `ObjectMeta` of Python's tells.
pub(crate) fn meta(answer: &Bound<'_, PyAny>) -> PyResult<ObjectMeta> {
    let Ok(told) = answer.getattr(intern!(answer.py(), "_told")) else {
        return Err(PyTypeError::new_err(format!("expected an ObjectMeta, found {}", class_of(answer))));
    };
    let (key, size_bytes, microseconds): (String, u64, i64) = told.call0()?.extract()?;
    let key: ObjectKey = key.parse().map_err(|fault: Error| PyValueError::new_err(fault.to_string()))?;
    let modified = OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1000);
    let modified = modified.map_err(|_| PyValueError::new_err(format!("modified of {key} is no moment")))?;
    Ok(ObjectMeta { key, size_bytes, modified })
}
