//! What an answer looks like: a status, a body that is whole, and the headers that every answer has.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::agent::http::pages::PageAnswer;
use crate::report::html;

/// The content type of a word.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
/// The content type of a document.
pub(crate) const JSON: &str = "application/json";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    body: String,
    more: Vec<(HeaderName, &'static str)>,
}

impl Answer {
    /// A body of this type.
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, body, more: Vec::new() }
    }

    /// A word, or a sentence.
    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        Self::new(status, TEXT, format!("{text}\n"))
    }

    /// A document.
    pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(document) {
            Ok(text) => Self::new(status, JSON, text + "\n"),
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, &format!("this is no document: {error}")),
        }
    }

    /// A page for people, which a browser shows and does nothing else with.
    pub(crate) fn page(status: StatusCode, page: String) -> Self {
        let more = vec![(CONTENT_SECURITY_POLICY, html::POLICY.as_str()), (X_FRAME_OPTIONS, "DENY"), (REFERRER_POLICY, "no-referrer")];
        Self { more, ..Self::new(status, html::CONTENT_TYPE, page) }
    }

    /// The same answer as 401: who asks is to say who he is, or has said it wrongly.
    pub(crate) fn challenging(mut self, was_mistaken: bool) -> Self {
        let challenge = if was_mistaken { "Bearer realm=\"pgpersist\", error=\"invalid_token\"" } else { "Bearer realm=\"pgpersist\"" };
        self.status = StatusCode::UNAUTHORIZED;
        self.more.push((WWW_AUTHENTICATE, challenge));
        self
    }

    /// 401: who asks is to say who he is, or has said it wrongly.
    pub(crate) fn unauthorized(was_mistaken: bool) -> Self {
        let answer = Self::text(StatusCode::UNAUTHORIZED, "this wants the token of `[health] token_file`: `Authorization: Bearer TOKEN`");
        answer.challenging(was_mistaken)
    }

    /// 503: many others wait for the same.
    pub(crate) fn crowded() -> Self {
        let answer = Self::text(StatusCode::SERVICE_UNAVAILABLE, "too many wait for this already: ask again in a moment");
        Self { more: vec![(RETRY_AFTER, "5")], ..answer }
    }

    /// 405.
    pub(crate) fn wrong_method() -> Self {
        Self { more: vec![(ALLOW, "GET, HEAD")], ..Self::text(StatusCode::METHOD_NOT_ALLOWED, "there is only GET and HEAD here") }
    }

    /// All headers, those that every answer has first.
    fn headers(&self) -> impl Iterator<Item = (HeaderName, &'static str)> {
        let always = [(CONTENT_TYPE, self.content_type), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
        always.into_iter().chain(self.more.iter().cloned())
    }

    /// What goes over the wire.
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = self.status;
        for (name, value) in self.headers() {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        *response.body_mut() = Full::new(Bytes::from(self.body));
        response
    }

    /// The same for whoever has a wire of his own.
    pub(crate) fn into_page(self) -> PageAnswer {
        let headers = self.headers().map(|(name, value)| (name.as_str().to_owned(), value)).collect();
        PageAnswer { status: self.status.as_u16(), headers, body: self.body }
    }
}
