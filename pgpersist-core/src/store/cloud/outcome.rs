//! [`Outcome`]: what an attempt of a request has come to, by what the server or the network said.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use object_store::client::{HttpError, HttpErrorKind, HttpResponse};

use crate::store::cloud::trouble::{Refusal, Trouble};

/// What an attempt has come to.
pub(super) enum Outcome {
    Answered(HttpResponse),
    /// It may work later.
    Later(Trouble, Option<Duration>),
    Failed(Trouble),
}

/// What it means that no answer came.
pub(super) fn broken(error: &HttpError) -> Outcome {
    match Trouble::of_network(error) {
        trouble @ Trouble::Certificate(_) => Outcome::Failed(trouble),
        // What cannot be sent at all, such as plain HTTP where TLS is asked for.
        trouble if error.kind() == HttpErrorKind::Unknown => Outcome::Failed(trouble),
        trouble => Outcome::Later(trouble, None),
    }
}

/// What an answer means that is no plain success; `text` is its body.
pub(super) fn judge(response: HttpResponse, text: &str) -> Outcome {
    const BUSY: &[&str] = &["InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "ServerBusy", "OperationTimedOut"];
    const NO_PLACE: &[&str] = &["NoSuchUpload", "NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "AccountNotFound"];
    let status = response.status();
    let refusal = refusal(status, response.headers(), text);
    if status.is_success() {
        // Only the end of an upload comes here.
        return match refusal.code {
            None => Outcome::Answered(response),
            Some(_) if refusal.is(BUSY) => Outcome::Later(Trouble::Refused(refusal), None),
            Some(_) => Outcome::Failed(Trouble::Refused(refusal)),
        };
    }
    let again = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED && status != StatusCode::INSUFFICIENT_STORAGE
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        || refusal.is(BUSY)
        || refusal.is(&["ConditionalRequestConflict", "OperationAborted"])
        || refusal.is_about_a_checksum();
    if again {
        let asked = header(response.headers(), RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        return Outcome::Later(Trouble::Refused(refusal), asked);
    }
    match status {
        StatusCode::NOT_FOUND if refusal.is(NO_PLACE) => Outcome::Failed(Trouble::Refused(refusal)),
        _ if refusal.is_about_a_lock() => Outcome::Failed(Trouble::Refused(refusal)),
        // These have a meaning of their own for whoever asked.
        StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT | StatusCode::NOT_MODIFIED => {
            Outcome::Answered(response)
        }
        _ => Outcome::Failed(Trouble::Refused(refusal)),
    }
}

/// What an answer says that is no success.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, text: &str) -> Refusal {
    let mut refusal = Refusal::read(status, text, header(headers, "x-amz-bucket-region"));
    // Azure tells it also where an answer has no body.
    refusal.code = refusal.code.or_else(|| header(headers, "x-ms-error-code").filter(|code| !code.is_empty()).map(str::to_owned));
    refusal
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
