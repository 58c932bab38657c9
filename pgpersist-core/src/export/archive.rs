//! [`Archive`]: an export as one stream of tar.
//!
//! Source: *pax Interchange Format* and *ustar Interchange Format*, POSIX.1-2017, `pax`. What ustar has no room for, a name of more than 100 bytes or a file
//! of 8 GiB, stands in an extended header before it; every tar of this century reads those.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::export::sink::{NextFile, Sink};
use crate::fs::durable::NewFile;
use crate::repo::entry::EntryPath;

const BLOCK: usize = 512;
/// The longest name in a plain header.
const NAME_BYTES: usize = 100;
/// The largest size in a plain header: eleven octal digits.
const MOST_PLAIN: u64 = 0o777_7777_7777;
/// Who the files belong to, for a tar that root unpacks.
const OWNER: &[u8] = b"postgres";

/// Where the stream goes.
pub enum Output {
    /// A file that gets its name at the end.
    File(NewFile),
    /// Somebody who reads it.
    Stream(Box<dyn Write + Send>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.file().write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.file().flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }
}

/// A stream of tar in the making.
pub struct Archive {
    out: BufWriter<Output>,
    /// What it is called in errors.
    name: PathBuf,
    /// What fills the last block of the file.
    padding: usize,
}

/// What an entry is.
#[derive(Clone, Copy)]
enum Kind {
    File = b'0' as isize,
    Folder = b'5' as isize,
    Extended = b'x' as isize,
}

impl Archive {
    /// Begins. `name` is what the output is called in errors.
    pub fn to(output: Output, name: PathBuf) -> Self {
        Self { out: BufWriter::with_capacity(1 << 20, output), name, padding: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::file("write", &self.name, error))
    }

    fn entry(&mut self, name: &[u8], mode: u32, size: u64, modified_at: i64, kind: Kind) -> Result<()> {
        let mut records = Vec::new();
        if name.len() > NAME_BYTES {
            record(&mut records, "path", name);
        }
        if size > MOST_PLAIN {
            record(&mut records, "size", size.to_string().as_bytes());
        }
        if !records.is_empty() {
            let before = header(b"pax_header", 0o600, records.len() as u64, modified_at, Kind::Extended);
            self.put(&before)?;
            self.put(&records)?;
            self.put(&vec![0; padding(records.len() as u64)])?;
        }
        // A reader without extended headers gets as much of the name as there is room for.
        let plain = &name[..name.len().min(NAME_BYTES)];
        self.put(&header(plain, mode, if size > MOST_PLAIN { 0 } else { size }, modified_at, kind))
    }
}

fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// A record of an extended header; its length counts the digits of the length.
fn record(out: &mut Vec<u8>, keyword: &str, value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {keyword}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn header(name: &[u8], mode: u32, size: u64, modified_at: i64, kind: Kind) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut field = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let modified_at = modified_at.clamp(0, MOST_PLAIN.cast_signed());
    field(0, name);
    field(100, format!("{:07o}\0", mode & 0o7777).as_bytes());
    field(108, b"0000000\0");
    field(116, b"0000000\0");
    field(124, format!("{size:011o}\0").as_bytes());
    field(136, format!("{modified_at:011o}\0").as_bytes());
    // The checksum counts as spaces while it is computed.
    field(148, b"        ");
    field(156, &[kind as u8]);
    field(257, b"ustar\x0000");
    field(265, OWNER);
    field(297, OWNER);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

impl Sink for Archive {
    fn folder(&mut self, path: &EntryPath, mode: u32) -> Result<()> {
        let name = [path.as_bytes(), b"/"].concat();
        self.entry(&name, mode, 0, 0, Kind::Folder)
    }

    fn begin(&mut self, file: &NextFile) -> Result<()> {
        self.padding = padding(file.size);
        self.entry(file.path.as_bytes(), file.mode, file.size, file.modified_at.unix_timestamp(), Kind::File)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.put(bytes)
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        let zeros = [0; 64 * 1024];
        let mut left = count;
        while left > 0 {
            let now = left.min(zeros.len() as u64);
            self.put(&zeros[..now as usize])?;
            left -= now;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let padding = std::mem::take(&mut self.padding);
        self.put(&vec![0; padding])
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.put(&[0; 2 * BLOCK])?;
        let Self { out, name, .. } = *self;
        let output = out.into_inner().map_err(|error| Error::file("write", &name, error.into_error()))?;
        match output {
            Output::File(file) => file.publish_new(),
            Output::Stream(mut stream) => stream.flush().map_err(|error| Error::file("write", &name, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use time::OffsetDateTime;

    use super::*;

    /// Bytes that can still be looked at when their writer is gone.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_counts_its_own_digits() {
        for (value, length) in [("x", 9), ("1234", 13), (&"y".repeat(90)[..], 99), (&"y".repeat(91)[..], 101)] {
            let mut out = Vec::new();
            record(&mut out, "path", value.as_bytes());
            assert_eq!(out, format!("{length} path={value}\n").as_bytes());
            assert_eq!(out.len(), length);
        }
    }

    #[test]
    fn the_machines_own_tar_reads_it() {
        let (shared, long) = (Shared::default(), format!("base/{}", "n".repeat(200)));
        let mut sink = Box::new(Archive::to(Output::Stream(Box::new(shared.clone())), PathBuf::from("a stream")));
        let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
        let modified_at = OffsetDateTime::from_unix_timestamp(1_770_543_196).unwrap();
        sink.folder(&path("base"), 0o700).unwrap();
        for (name, content) in [("PG_VERSION", "15\n".to_owned()), (&long[..], "x".repeat(513)), ("empty", String::new())] {
            sink.begin(&NextFile { path: path(name), mode: 0o600, size: content.len() as u64 + 5, modified_at }).unwrap();
            sink.write(content.as_bytes()).unwrap();
            sink.zeros(5).unwrap();
            sink.end().unwrap();
        }
        sink.finish().unwrap();
        let bytes = shared.0.lock().unwrap().clone();
        assert_eq!(bytes.len() % BLOCK, 0);
        let scratch = tempfile::tempdir().unwrap();
        let mut tar = std::process::Command::new("tar");
        tar.args(["--extract", "--no-same-owner", "--directory"]).arg(scratch.path());
        let mut child = tar.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(child.wait().unwrap().success());
        let read = |name: &str| std::fs::read(scratch.path().join(name)).unwrap();
        assert_eq!(read("PG_VERSION"), b"15\n\0\0\0\0\0");
        assert_eq!(read(&long), ["x".repeat(513).as_bytes(), &[0; 5]].concat());
        assert_eq!(read("empty"), [0; 5]);
    }

    #[test]
    fn a_file_of_8_gib_has_its_size_in_an_extended_header() {
        let shared = Shared::default();
        let mut sink = Archive::to(Output::Stream(Box::new(shared.clone())), PathBuf::from("a stream"));
        sink.entry(b"large", 0o600, 1 << 33, 0, Kind::File).unwrap();
        sink.out.flush().unwrap();
        let bytes = shared.0.lock().unwrap().clone();
        assert_eq!(bytes.len(), 3 * BLOCK);
        assert!(bytes[BLOCK..].starts_with(b"19 size=8589934592\n"));
    }
}
