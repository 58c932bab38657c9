//! As much of HTTP/1.1 as stands between a store and us: one request a connection, bodies of known or chunked length.

use std::io::{self, Read, Write};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An answer of the server behind.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status_line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

const LONGEST_HEAD: usize = 64 << 10;

impl Request {
    /// Reads the beginning of one; nothing when the connection ends before it.
    pub(super) fn read_head(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let Some((first, headers, rest)) = read_head(stream)? else { return Ok(None) };
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        Ok(Some(Self { method, target, headers, body: rest }))
    }

    /// Reads what is missing of its body.
    pub(super) fn read_body(&mut self, stream: &mut impl Read) -> io::Result<()> {
        let length: usize = self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if self.header("transfer-encoding").is_some() {
            return Err(io::Error::other("a request in chunks"));
        }
        let have = self.body.len();
        if have < length {
            self.body.resize(length, 0);
            stream.read_exact(&mut self.body[have..])?;
        }
        Ok(())
    }

    /// What it asks for, without what it brings.
    pub(super) fn without_body(&self) -> Self {
        let Self { method, target, headers, .. } = self;
        Self { method: method.clone(), target: target.clone(), headers: headers.clone(), body: Vec::new() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    fn asks(&self, name: &str) -> bool {
        self.query().split('&').any(|pair| pair == name || pair.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
    }

    /// Whether it lists objects, in any of the three protocols.
    pub(crate) fn is_list(&self) -> bool {
        self.method == "GET" && (self.asks("list-type") || self.query().split('&').any(|pair| pair == "comp=list"))
    }

    /// Whether it reads an object.
    pub(crate) fn is_read(&self) -> bool {
        self.method == "GET" && !self.is_list()
    }

    /// Whether it sends a part of an object.
    pub(crate) fn is_part(&self) -> bool {
        self.method == "PUT" && (self.asks("partNumber") || self.asks("blockid"))
    }

    /// Whether it deletes objects: Azure's are deleted in batches.
    pub(crate) fn is_delete(&self) -> bool {
        self.method == "DELETE" || self.query().split('&').any(|pair| pair == "comp=batch")
    }

    /// Whether it ends an upload in parts.
    pub(crate) fn is_end_of_upload(&self) -> bool {
        (self.method == "POST" && self.asks("uploadId")) || self.query().split('&').any(|pair| pair == "comp=blocklist")
    }

    /// Whether it stores an object as a whole.
    pub(crate) fn is_put(&self) -> bool {
        self.method == "PUT" && !self.is_part() && !self.is_end_of_upload()
    }

    /// Has a list tell so few entries at once.
    pub(super) fn limit_entries(&mut self, entries: usize) {
        let word = if self.asks("list-type") { "max-keys" } else { "maxresults" };
        self.target.push_str(&format!("&{word}={entries}"));
    }

    /// Sends it on, so that the connection ends with the answer.
    pub(super) fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        write_headers(&mut head, &self.headers);
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)
    }
}

impl Answer {
    /// Reads one to the end of the connection.
    pub(super) fn read(stream: &mut impl Read, to: &Request) -> io::Result<Self> {
        let (status_line, headers, mut body) = loop {
            let head = read_head(stream)?.ok_or_else(|| io::Error::other("the server said nothing"))?;
            if !head.0.contains(" 100 ") {
                break head;
            }
        };
        let has_body = to.method != "HEAD" && !status_line.contains(" 204") && !status_line.contains(" 304");
        if !has_body {
            body.clear();
            return Ok(Self { status_line, headers, body });
        }
        match find(&headers, "content-length").and_then(|text| text.parse::<usize>().ok()) {
            Some(length) => {
                let have = body.len().min(length);
                body.resize(length, 0);
                stream.read_exact(&mut body[have..])?;
            }
            None => {
                stream.read_to_end(&mut body)?;
            }
        }
        let mut answer = Self { status_line, headers, body };
        if find(&answer.headers, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            answer.body = unchunked(&answer.body)?;
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
            answer.set("Content-Length", &answer.body.len().to_string());
        }
        Ok(answer)
    }

    /// One of our own.
    pub(super) fn made(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut answer = Self { status_line: format!("HTTP/1.1 {status} Made Up"), headers, body: body.as_bytes().to_vec() };
        answer.set("Content-Length", &body.len().to_string());
        answer.set("Content-Type", "application/xml");
        answer
    }

    pub(crate) fn status(&self) -> u16 {
        self.status_line.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Makes of a part what a server sends that knows no parts.
    pub(super) fn make_whole(&mut self) {
        if self.status() == 206 {
            "HTTP/1.1 200 OK".clone_into(&mut self.status_line);
            self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-range"));
            self.body.extend_from_within(..);
            self.set("Content-Length", &self.body.len().to_string());
        }
    }

    /// Changes headers of this kind.
    pub(super) fn replace(&mut self, is_meant: impl Fn(&str) -> bool, value: &str) {
        for (name, old) in &mut self.headers {
            if is_meant(&name.to_ascii_lowercase()) {
                value.clone_into(old);
            }
        }
    }

    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.status_line);
        write_headers(&mut head, &self.headers);
        head.into_bytes()
    }
}

fn write_headers(head: &mut String, headers: &[(String, String)]) {
    for (name, value) in headers {
        if !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("keep-alive") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("Connection: close\r\n\r\n");
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

type Head = (String, Vec<(String, String)>, Vec<u8>);

/// First line, headers, and what of the body came along.
fn read_head(stream: &mut impl Read) -> io::Result<Option<Head>> {
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
    let rest = bytes.split_off(end + 4);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Ok(Some((first, headers, rest)))
}

fn unchunked(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let broken = || io::Error::other("chunks that end too early");
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").ok_or_else(broken)?;
        let size = std::str::from_utf8(&bytes[..end]).ok().and_then(|text| usize::from_str_radix(text.split(';').next()?.trim(), 16).ok());
        let size = size.ok_or_else(broken)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(bytes.get(end + 2..end + 2 + size).ok_or_else(broken)?);
        bytes = bytes.get(end + 4 + size..).ok_or_else(broken)?;
    }
}
