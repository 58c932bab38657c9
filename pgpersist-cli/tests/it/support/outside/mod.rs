//! All that a machine in a cloud asks by name: its metadata, the services that give tokens, and the store itself. A proxy that HTTP_PROXY and
//! HTTPS_PROXY lead to stands for all of them, and shows a certificate for each name; it can be asked directly as well.
//!
//! Every connection carries one request. All that came is remembered.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The authority that has signed the certificate, which is for the names of some services and `localhost`. They are good for nothing else.
pub(crate) const AUTHORITY: &str = include_str!("ca.pem");
const CERTIFICATE: &str = include_str!("server.pem");
const KEY: &str = include_str!("server.key");

/// The first byte of what TLS begins with.
const HANDSHAKE: u8 = 0x16;
const LONGEST_HEAD: usize = 64 << 10;
/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was asked, and of whom.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The name, with a port if it has one.
    pub(crate) host: String,
    pub(crate) is_encrypted: bool,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Reply {
    /// This status and this document.
    Document(u16, String),
    /// What the server of this port says when it is asked for this target.
    From { port: u16, target: String },
    /// Nothing, ever.
    Silence,
}

impl Reply {
    pub(crate) fn ok(document: impl Into<String>) -> Self {
        Self::Document(200, document.into())
    }

    pub(crate) fn nothing() -> Self {
        Self::Document(404, "<html>not found</html>".to_owned())
    }
}

impl Asked {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What it brings.
    pub(crate) fn body(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A value of its query, or of the form that it brings, as it was sent.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
        let pairs = format!("{query}&{}", self.body());
        pairs.split('&').filter_map(|pair| pair.split_once('=')).find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
    }

    /// Reads one; nothing when the connection ends before it.
    fn read(stream: &mut impl Read, is_encrypted: bool) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let end = loop {
            let mut piece = [0; 16 << 10];
            let count = stream.read(&mut piece)?;
            if count == 0 && bytes.is_empty() {
                return Ok(None);
            }
            if count == 0 || bytes.len() > LONGEST_HEAD {
                return Err(io::Error::other("no whole head came"));
            }
            bytes.extend_from_slice(&piece[..count]);
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
        };
        let mut body = bytes.split_off(end + 4);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let mut asked = Self { host: String::new(), is_encrypted, method, target, headers: headers.collect(), body: Vec::new() };
        asked.host = asked.header("host").unwrap_or_default().to_owned();
        // A proxy is told the whole address.
        if let Some((host, path)) = asked.target.strip_prefix("http://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            (asked.host, asked.target) = (host.to_owned(), format!("/{path}"));
        }
        let length: usize = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let have = body.len();
        if have < length {
            body.resize(length, 0);
            stream.read_exact(&mut body[have..])?;
        }
        Ok(Some(Self { body, ..asked }))
    }
}

type Answering = Box<dyn FnMut(&Asked) -> Reply + Send>;

struct Shared {
    answering: Mutex<Answering>,
    asked: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
}

/// It listens on the loopback as long as it lives.
pub(crate) struct Outside {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Outside {
    /// One that answers so.
    pub(crate) fn start(answering: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
        let shared =
            Arc::new(Shared { answering: Mutex::new(Box::new(answering)), asked: Mutex::default(), is_over: AtomicBool::new(false) });
        let outside = Self { port, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, tls) = (Arc::clone(&shared), Arc::clone(&tls));
                // What a connection comes to is in what its client sees.
                std::thread::spawn(move || shared.accept(stream, tls));
            }
        });
        outside
    }

    /// What leads a program to it, past which it speaks to this machine alone.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let proxy = format!("http://127.0.0.1:{}", self.port);
        vec![("HTTP_PROXY", proxy.clone()), ("HTTPS_PROXY", proxy), ("NO_PROXY", "127.0.0.1,localhost".to_owned())]
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        locked(&self.shared.asked).clone()
    }

    /// What was asked of one name.
    pub(crate) fn asked_of(&self, host: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.host == host).collect()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn accept(&self, mut stream: TcpStream, tls: Arc<ServerConfig>) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut first = [0];
        if stream.peek(&mut first)? == 1 && first[0] == HANDSHAKE {
            return self.encrypted(stream, tls);
        }
        match Asked::read(&mut stream, false)? {
            None => Ok(()),
            // What comes next is for whoever was named, who is here as well.
            Some(asked) if asked.method == "CONNECT" => {
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
                self.encrypted(stream, tls)
            }
            Some(asked) => self.serve(asked, &mut stream),
        }
    }

    fn encrypted(&self, stream: TcpStream, tls: Arc<ServerConfig>) -> io::Result<()> {
        let mut stream = StreamOwned::new(ServerConnection::new(tls).map_err(io::Error::other)?, stream);
        let Some(asked) = Asked::read(&mut stream, true)? else { return Ok(()) };
        self.serve(asked, &mut stream)?;
        // Without it the other side takes the answer for one that was cut off.
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn serve(&self, asked: Asked, stream: &mut impl Write) -> io::Result<()> {
        locked(&self.asked).push(Asked { body: asked.body.iter().copied().take(64 << 10).collect(), ..asked.clone() });
        let reply = (locked(&self.answering))(&asked);
        match reply {
            Reply::Document(status, document) => {
                let head = format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", document.len());
                stream.write_all(head.as_bytes())?;
                if asked.method != "HEAD" {
                    stream.write_all(document.as_bytes())?;
                }
            }
            Reply::From { port, target } => stream.write_all(&ask_there(&asked, port, &target)?)?,
            Reply::Silence => {
                while !self.is_over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        stream.flush()
    }
}

/// All that the server of this port says to a request.
fn ask_there(asked: &Asked, port: u16, target: &str) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n", asked.method);
    for (name, value) in &asked.headers {
        if !["host", "connection", "proxy-connection"].contains(&name.to_ascii_lowercase().as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    server.write_all(format!("{head}\r\n").as_bytes())?;
    server.write_all(&asked.body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
