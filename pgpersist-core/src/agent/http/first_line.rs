//! A stream whose first line is not longer than allowed. hyper bounds the head of a request as a whole, and would call a line
//! that is too long a header that is too large.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How far the first line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes have come.
    Begun(usize),
    /// All of it has come.
    Whole,
    TooLong,
}

/// The stream.
#[derive(Debug)]
pub(crate) struct FirstLine<S> {
    pub(crate) stream: S,
    limit: usize,
    line: Line,
}

impl<S> FirstLine<S> {
    pub(crate) fn new(stream: S, limit: usize) -> Self {
        Self { stream, limit, line: Line::Begun(0) }
    }

    /// Whether reading failed for this reason.
    pub(crate) fn is_too_long(&self) -> bool {
        self.line == Line::TooLong
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        let Line::Begun(length) = self.line else { return };
        if length == 0 {
            // Empty lines before a request are skipped; see RFC 9112, 2.2.
            bytes = &bytes[bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()..];
        }
        let end = memchr::memchr(b'\n', bytes);
        let length = length + end.unwrap_or(bytes.len());
        self.line = match end {
            _ if length > self.limit => Line::TooLong,
            Some(_) => Line::Whole,
            None => Line::Begun(length),
        };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstLine<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.follow(&buffer.filled()[before..]);
        Poll::Ready(if self.is_too_long() { Err(io::Error::from(io::ErrorKind::InvalidData)) } else { Ok(()) })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstLine<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Its client has yet to be told why.
        if self.is_too_long() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn read(chunks: &[&[u8]], limit: usize) -> (bool, usize) {
        let mut reader = pieces(chunks);
        let mut stream = FirstLine::new(&mut reader, limit);
        let (mut buffer, mut count) = ([0; 64], 0);
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return (stream.is_too_long(), count),
                Ok(more) => count += more,
                Err(_) => return (stream.is_too_long(), count),
            }
        }
    }

    /// Bytes that come in these pieces.
    fn pieces<'a>(chunks: &[&'a [u8]]) -> impl AsyncRead + Unpin + use<'a> {
        chunks.iter().fold(Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin + 'a>, |before, chunk| Box::new(before.chain(*chunk)))
    }

    #[tokio::test]
    async fn only_the_first_line_counts_however_it_comes() {
        assert_eq!(read(&[b"GET / HTTP/1.1\r\n", &[b'x'; 40]], 20).await, (false, 56));
        assert_eq!(read(&[b"\r\n\n\r", b"\nGET /", b"12345678901234567890"], 20).await, (true, 10));
        assert!(read(&[&[b'x'; 10], &[b'x'; 11]], 20).await.0);
        assert!(!read(&[&[b'x'; 10], &[b'x'; 10], b"\nmore and more and more"], 20).await.0);
        assert!(read(&[b"123456789012345678901\n"], 20).await.0);
    }
}
