//! A client of HTTP that sends what it is told to, also what no client should.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8(bytes.to_vec()).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// A header's value; names are compared as HTTP compares them.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON: {e}\n{self:?}"))
    }
}

/// A port of the loopback that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends these bytes and reads what comes until the end.
pub(crate) fn try_send(port: u16, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(port)?;
    // A server that has seen enough may close before all is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// The same, where an answer must come.
#[track_caller]
pub(crate) fn send(port: u16, bytes: &[u8]) -> Answer {
    let answer = try_send(port, bytes).unwrap();
    Answer::parse(&answer).unwrap_or_else(|| panic!("no answer of HTTP: {}", String::from_utf8_lossy(&answer)))
}

/// Asks with this method, with these headers (each ended by `\r\n`).
#[track_caller]
pub(crate) fn ask(port: u16, method: &str, path: &str, headers: &str) -> Answer {
    send(port, format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n").as_bytes())
}

/// Asks as a probe does.
#[track_caller]
pub(crate) fn get(port: u16, path: &str) -> Answer {
    ask(port, "GET", path, "")
}

/// The status, where somebody listens.
pub(crate) fn status(port: u16, path: &str) -> Option<u16> {
    let bytes = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    try_send(port, bytes.as_bytes()).ok().and_then(|answer| Answer::parse(&answer)).map(|answer| answer.status)
}
