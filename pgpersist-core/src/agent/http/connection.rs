//! One connection: a request, an answer, an end, each within its limits.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::agent::http::connections::Activity;
use crate::agent::http::counts::{Counts, MALFORMED};
use crate::agent::http::first_line::FirstLine;
use crate::agent::http::limits::HttpLimits;
use crate::agent::http::routes;
use crate::agent::http::site::Site;

/// The site that is served now; a reload puts another one there.
pub(crate) type Current = Arc<RwLock<Arc<Site>>>;

/// hyper's least: its buffer cannot be smaller.
const LEAST_HEAD_BYTES: usize = 8 << 10;
/// What a client still sends after its answer is read for so long, and so much of it: a connection that is closed over unread
/// bytes is reset, and the answer is lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;

/// Serves it to its end.
pub(crate) async fn serve(stream: TcpStream, activity: Arc<Activity>, current: Current, limits: HttpLimits, counts: Arc<Counts>) {
    let served = async {
        let mut stream = FirstLine::new(stream, limits.line_bytes);
        if let Some(refusal) = answer(&mut stream, &activity, &current, &limits).await {
            counts.answered(MALFORMED, refusal.status.as_u16());
            if !refusal.is_told {
                tell(&mut stream.stream, refusal.status).await;
            }
        }
        activity.ends();
        let _ = tokio::time::timeout(LINGER, linger(&mut stream.stream)).await;
    };
    let _ = tokio::time::timeout(limits.whole_time, served).await;
}

/// Why there was no request to answer.
struct Refusal {
    status: StatusCode,
    /// Whether the client knows already.
    is_told: bool,
}

async fn answer(stream: &mut FirstLine<TcpStream>, activity: &Activity, current: &Current, limits: &HttpLimits) -> Option<Refusal> {
    let service = service_fn(|request: hyper::Request<Incoming>| async move {
        activity.begins();
        let site = current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (head, body) = request.into_parts();
        let answer = routes::answer(&site, &head, !body.is_end_stream()).await;
        Ok::<_, Infallible>(answer.into_response())
    });
    let mut builder = http1::Builder::new();
    // One request each: a probe comes every few seconds, and what is left open holds a place. A client that has closed its
    // side still gets its answer.
    builder.keep_alive(false).half_close(true).timer(TokioTimer::new()).header_read_timeout(limits.head_time);
    builder.max_buf_size(limits.head_bytes.max(LEAST_HEAD_BYTES));
    let outcome = builder.serve_connection(TokioIo::new(&mut *stream), service).await;
    let refusal = |status, is_told| Some(Refusal { status, is_told });
    if stream.is_too_long() {
        return refusal(StatusCode::URI_TOO_LONG, false);
    }
    let error = outcome.err()?;
    if error.is_timeout() {
        refusal(StatusCode::REQUEST_TIMEOUT, false)
    } else if error.is_parse_version_h2() {
        refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED, false)
    } else if error.is_parse_too_large() {
        refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, true)
    } else if error.is_parse() {
        refusal(StatusCode::BAD_REQUEST, true)
    } else {
        // It went away.
        None
    }
}

async fn tell(stream: &mut TcpStream, status: StatusCode) {
    let text = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ncache-control: no-store\r\n\r\n");
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn linger(stream: &mut TcpStream) {
    let (mut scratch, mut left) = ([0; 2048], LINGER_BYTES);
    while let Ok(count @ 1..) = stream.read(&mut scratch).await {
        left = left.saturating_sub(count);
        if left == 0 {
            return;
        }
    }
}
