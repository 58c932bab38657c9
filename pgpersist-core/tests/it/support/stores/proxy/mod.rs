//! What stands between a store and us and does harm: a proxy that hands requests on, or does to them what its rules say.
//!
//! Every connection carries one request. A rule chooses requests by what they ask for and by number or by chance; chance comes from
//! a seed. All that came is remembered.

pub(crate) mod faults;
mod http;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pgpersist_core::clock::{Clock, SystemClock};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use time::format_description::well_known::Rfc2822;

use faults::{Fault, Random, Rule};
use http::Answer;
pub(crate) use http::Request;

/// The authority that has signed the certificate of [`Proxy::encrypted`], which is for `localhost`. They are good for nothing else.
pub(crate) const AUTHORITY: &str = include_str!("../../../../../../pgpersist-cli/tests/it/run/hooks/tls/ca.pem");
const CERTIFICATE: &str = include_str!("../../../../../../pgpersist-cli/tests/it/run/hooks/tls/server.pem");
const KEY: &str = include_str!("../../../../../../pgpersist-cli/tests/it/run/hooks/tls/server.key");

/// A request that came, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) request: Request,
    pub(crate) fault: Option<Fault>,
    /// What the server behind answered; 0 when it was not asked or did not answer.
    pub(crate) status: u16,
}

struct Shared {
    upstream: u16,
    rules: Mutex<Vec<Rule>>,
    random: Mutex<Random>,
    seen: Mutex<Vec<Seen>>,
    /// The first answer to each list.
    lists: Mutex<HashMap<String, Answer>>,
    gathering: Mutex<Gathering>,
    is_over: AtomicBool,
}

/// Requests that are held until several are there.
#[derive(Debug, Default)]
struct Gathering {
    now: usize,
    most: usize,
    is_complete: bool,
}

/// How long requests are held that stay alone.
const GATHERED_WITHIN: Duration = Duration::from_secs(20);
/// How long each is held besides, so that one too many shows.
const GATHERED_FOR: Duration = Duration::from_millis(200);

/// It listens on the loopback as long as it lives.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    scheme: &'static str,
    shared: Arc<Shared>,
}

impl Proxy {
    /// One before the server of this port. Without rules it hands on what comes.
    pub(crate) fn before(upstream: u16, seed: u64) -> Self {
        Self::listen(upstream, seed, None)
    }

    /// The same, which speaks TLS to us.
    pub(crate) fn encrypted(upstream: u16) -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Self::listen(upstream, 0, Some(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())))
    }

    fn listen(upstream: u16, seed: u64, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            upstream,
            rules: Mutex::default(),
            random: Mutex::new(Random(seed)),
            seen: Mutex::default(),
            lists: Mutex::default(),
            gathering: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let proxy = Self { port, scheme, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                // What a connection comes to is in what its client sees.
                std::thread::spawn(move || {
                    let socket = stream.try_clone()?;
                    stream.set_nodelay(true)?;
                    match tls {
                        None => shared.serve(stream, &socket),
                        Some(tls) => shared.serve(StreamOwned::new(ServerConnection::new(tls).map_err(io::Error::other)?, stream), &socket),
                    }
                });
            }
        });
        proxy
    }

    /// Where it is reached.
    pub(crate) fn endpoint(&self) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}", self.scheme, self.port)
    }

    /// From now on these rules hold, of which the first that hits counts, and no others.
    pub(crate) fn rule(&self, rules: Vec<Rule>) {
        *locked(&self.shared.rules) = rules;
    }

    /// All that came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        locked(&self.shared.seen).clone()
    }

    /// How many of those that were held until they are several were there at once.
    pub(crate) fn most_together(&self) -> usize {
        locked(&self.shared.gathering).most
    }

    /// How many were hit so far.
    pub(crate) fn hits(&self) -> usize {
        locked(&self.shared.seen).iter().filter(|seen| seen.fault.is_some()).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn serve(&self, mut stream: impl Read + Write, socket: &TcpStream) -> io::Result<()> {
        let Some(mut request) = Request::read_head(&mut stream)? else { return Ok(()) };
        let fault = self.judge(&request);
        let place = {
            let mut seen = locked(&self.seen);
            // Bodies would fill the memory.
            seen.push(Seen { request: request.without_body(), fault, status: 0 });
            seen.len() - 1
        };
        if fault == Some(Fault::ResetWhileSent) {
            return reset(socket);
        }
        request.read_body(&mut stream)?;
        match fault {
            Some(Fault::Silence) => return self.wait_for_the_end(socket),
            Some(Fault::Reset) => return reset(socket),
            Some(Fault::FlippedOnTheWay) => flip(&mut request.body),
            Some(Fault::FewerAtOnce { entries }) => request.limit_entries(entries),
            Some(Fault::Together { count }) => self.gather(count),
            _ => {}
        }
        let made = fault.and_then(|fault| made_up(fault, &request));
        let is_made_up = made.is_some();
        let mut answer = match made {
            Some(answer) => answer,
            None => self.forward(&request)?,
        };
        if !is_made_up {
            locked(&self.seen)[place].status = answer.status();
        }
        if request.is_list() && answer.status() == 200 {
            let first = locked(&self.lists).entry(request.target.clone()).or_insert_with(|| answer.clone()).clone();
            if fault == Some(Fault::Stale) {
                answer = first;
            }
        }
        if request.method == "HEAD" {
            answer.body.clear();
        }
        let half = answer.body.len() / 2;
        match fault {
            Some(Fault::LostAnswer) => return reset(socket),
            Some(Fault::Flipped) => flip(&mut answer.body),
            Some(Fault::WholeForPart) => answer.make_whole(),
            Some(Fault::Shortened) => {
                answer.body.truncate(half);
                answer.set("Content-Length", &half.to_string());
            }
            Some(Fault::WrongChecksums) => {
                answer.replace(|name| name == "etag", "\"00000000000000000000000000000000\"");
                answer.replace(|name| name.contains("checksum") || name == "x-goog-hash" || name == "content-md5", "AAAAAA==");
            }
            Some(Fault::ClockAhead { seconds }) => answer.set("Date", &date(seconds)),
            // Before its client knows, who may send the next one then.
            Some(Fault::Together { .. }) => locked(&self.gathering).now -= 1,
            _ => {}
        }
        stream.write_all(&answer.head())?;
        match fault {
            Some(Fault::ResetWithin | Fault::CutShort) => {
                stream.write_all(&answer.body[..half])?;
                stream.flush()?;
                if fault == Some(Fault::ResetWithin) {
                    // What is on its way arrives before the reset, which would take it along.
                    std::thread::sleep(Duration::from_millis(20));
                    return reset(socket);
                }
            }
            Some(Fault::Dripped) => {
                for byte in &answer.body {
                    if self.is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    stream.write_all(&[*byte])?;
                    stream.flush()?;
                    std::thread::sleep(Duration::from_millis(250));
                }
            }
            _ => {
                stream.write_all(&answer.body)?;
                stream.flush()?;
            }
        }
        let _ = socket.shutdown(Shutdown::Write);
        Ok(())
    }

    /// Holds a request until so many are there. Once they have been, those that come later pass soon.
    fn gather(&self, count: usize) {
        {
            let mut gathering = locked(&self.gathering);
            gathering.now += 1;
            gathering.most = gathering.most.max(gathering.now);
            gathering.is_complete |= gathering.now >= count;
        }
        let end = Instant::now() + GATHERED_WITHIN;
        while !locked(&self.gathering).is_complete && Instant::now() < end && !self.is_over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(GATHERED_FOR);
    }

    fn judge(&self, request: &Request) -> Option<Fault> {
        let mut random = locked(&self.random);
        locked(&self.rules).iter_mut().find_map(|rule| rule.judge(request, &mut random))
    }

    fn forward(&self, request: &Request) -> io::Result<Answer> {
        let mut upstream = TcpStream::connect(("127.0.0.1", self.upstream))?;
        upstream.set_nodelay(true)?;
        upstream.set_read_timeout(Some(Duration::from_secs(120)))?;
        request.write(&mut upstream)?;
        Answer::read(&mut upstream, request)
    }

    /// Until the other side gives up, or we end.
    fn wait_for_the_end(&self, socket: &TcpStream) -> io::Result<()> {
        let mut socket = socket;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        while !self.is_over.load(Ordering::SeqCst) {
            match socket.read(&mut [0; 1024]) {
                Ok(0) => return Ok(()),
                Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer that the server behind has no part in.
fn made_up(fault: Fault, request: &Request) -> Option<Answer> {
    match fault {
        Fault::Refuse { status, code } => {
            let body =
                if code.is_empty() { String::new() } else { format!("<Error><Code>{code}</Code><Message>made up</Message></Error>") };
            Some(Answer::made(status, &[("x-ms-error-code", code)], &body))
        }
        Fault::Say { status, code, message } => {
            let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
            Some(Answer::made(status, &[("x-ms-error-code", code)], &body))
        }
        Fault::SlowDown { retry_after_s } => {
            let body = "<Error><Code>SlowDown</Code><Message>made up</Message></Error>";
            Some(Answer::made(503, &[("Retry-After", &retry_after_s.to_string())], body))
        }
        Fault::Redirect { region } => {
            let body = "<Error><Code>PermanentRedirect</Code><Message>made up</Message></Error>";
            Some(Answer::made(301, &[("x-amz-bucket-region", region)], body))
        }
        Fault::RedirectTo { port } => Some(Answer::made(307, &[("Location", &format!("http://localhost:{port}{}", request.target))], "")),
        Fault::FailedWithin200 => {
            let body = "<?xml version=\"1.0\"?>\n\n   <Error><Code>InternalError</Code><Message>made up</Message></Error>";
            Some(Answer::made(200, &[], body))
        }
        _ => None,
    }
}

/// What such a clock shows now, as a header tells it.
fn date(seconds_ahead: i64) -> String {
    (SystemClock.now() + time::Duration::seconds(seconds_ahead)).format(&Rfc2822).unwrap()
}

fn flip(body: &mut [u8]) {
    if let Some(byte) = body.get_mut(body.len() / 2) {
        *byte ^= 1;
    }
}

/// Ends a connection so that the other side is told that it broke.
fn reset(socket: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
    Ok(())
}
