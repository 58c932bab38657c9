//! What a client may take: time, bytes, connections.

use std::time::Duration;

/// What a client may take. Whoever takes more is answered with an error or with nothing, and holds up nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// So many connections are open at once. When one more comes, the oldest that has not asked for anything is closed.
    pub connections: usize,
    /// How long a connection may take to ask: 408.
    pub head_time: Duration,
    /// How long a connection lasts altogether; each serves one request.
    pub whole_time: Duration,
    /// How long the first line of a request may be: 414.
    pub line_bytes: usize,
    /// How large a request may be altogether, at least 8 KiB: 431. A body is refused whatever its size: 413.
    pub head_bytes: usize,
}

impl Default for HttpLimits {
    /// 256 connections, 5 s to ask, 20 s altogether, a line of 2 KiB, 8 KiB altogether: at most a few megabytes in use.
    fn default() -> Self {
        Self {
            connections: 256,
            head_time: Duration::from_secs(5),
            whole_time: Duration::from_secs(20),
            line_bytes: 2 << 10,
            head_bytes: 8 << 10,
        }
    }
}
