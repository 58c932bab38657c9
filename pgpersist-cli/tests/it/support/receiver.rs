//! A server that webhooks are posted to: keeps what comes, and answers as it is told, or never.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// The authority that has signed the certificate of [`Receiver::encrypted`], which is for `localhost`. They are good for nothing else.
pub(crate) const AUTHORITY: &str = include_str!("../run/hooks/tls/ca.pem");
const CERTIFICATE: &str = include_str!("../run/hooks/tls/server.pem");
const KEY: &str = include_str!("../run/hooks/tls/server.key");

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method, target and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Request {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    /// The next answers; when there are none left, it is 204.
    answers: Mutex<VecDeque<u16>>,
    is_silent: AtomicBool,
    is_over: AtomicBool,
}

/// It listens on the loopback as long as it lives.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        Self::listen(None)
    }

    /// Over TLS.
    pub(crate) fn encrypted() -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Self::listen(Some(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())))
    }

    fn listen(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let receiver = Self { port, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &shared),
                    Some(tls) => serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &shared),
                });
            }
        });
        receiver
    }

    /// Answers the next requests with these.
    pub(crate) fn answer(&self, answers: &[u16]) {
        self.shared.answers.lock().unwrap().extend(answers);
    }

    /// Takes requests from now on, and answers none of them.
    pub(crate) fn be_silent(&self) {
        self.shared.is_silent.store(true, Ordering::SeqCst);
    }

    /// What has come so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        locked(&self.shared.requests).clone()
    }

    /// The documents that have come which speak of this finding, each with the word of its event.
    pub(crate) fn events_of(&self, finding: &str) -> Vec<(String, Value)> {
        let documents = self.requests().into_iter().filter(|request| !request.body.is_empty()).map(|request| request.json());
        events_of(documents, finding)
    }
}

/// Those of these documents that speak of a finding, each with the word of its event.
pub(crate) fn events_of(documents: impl IntoIterator<Item = Value>, finding: &str) -> Vec<(String, Value)> {
    let speaks = |document: &Value| document["findings"].as_array().unwrap().iter().any(|found| found["name"] == finding);
    documents.into_iter().filter(speaks).map(|document| (document["event"].as_str().unwrap().to_owned(), document)).collect()
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: impl Read + Write, shared: &Shared) {
    let mut bytes = Vec::new();
    let request = loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
        let text = String::from_utf8(bytes.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let request = Request { head: head.to_owned(), body: body.to_owned() };
        let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        if request.body.len() >= length {
            break request;
        }
    };
    locked(&shared.requests).push(request);
    if shared.is_silent.load(Ordering::SeqCst) {
        while !shared.is_over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
        }
        return;
    }
    let status = locked(&shared.answers).pop_front().unwrap_or(204);
    let _ = stream.write_all(format!("HTTP/1.1 {status} Told\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n").as_bytes());
}
