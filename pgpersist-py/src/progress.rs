//! A Python callable as a [`ProgressSink`].

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use tokio::sync::Notify;

use pgpersist_core::progress::{Event, ProgressSink};

/// Tells a callable `(kind, text, done, total)`, keeps the warnings, and remembers the first exception that it throws.
#[derive(Debug)]
pub(crate) struct Told {
    listener: Py<PyAny>,
    /// Whether bytes are told, too. Nobody who is not asked for them pays for the way into the interpreter.
    with_bytes: bool,
    warnings: Mutex<Vec<String>>,
    thrown: Mutex<Option<PyErr>>,
    news: Notify,
}

impl Told {
    pub(crate) fn shared(listener: Py<PyAny>, with_bytes: bool) -> Arc<Self> {
        Arc::new(Self { listener, with_bytes, warnings: Mutex::default(), thrown: Mutex::default(), news: Notify::new() })
    }

    /// The warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an exception of the listener.
    pub(crate) async fn thrown(&self) -> PyErr {
        loop {
            let news = self.news.notified();
            if let Some(thrown) = self.take_thrown() {
                return thrown;
            }
            news.await;
        }
    }

    /// The exception of the listener, if there is one.
    pub(crate) fn take_thrown(&self) -> Option<PyErr> {
        self.thrown.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn call(&self, kind: &str, text: Option<&str>, done: Option<u64>, total: Option<u64>) {
        // Without an interpreter, as at its end, there is nobody to be told.
        let called = Python::try_attach(|py| self.listener.call1(py, (kind, text, done, total)).map(drop));
        if let Some(Err(thrown)) = called {
            self.thrown.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(thrown);
            self.news.notify_one();
        }
    }
}

impl ProgressSink for Told {
    fn event(&self, event: Event) {
        match event {
            Event::Step(text) => self.call("step", Some(&text), None, None),
            Event::Bytes { done, total } if self.with_bytes => self.call("bytes", None, Some(done), total),
            Event::Warning(text) => {
                self.call("warning", Some(&text), None, None);
                self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
            _ => {}
        }
    }
}
