//! What a request can come to but success. 503 says: ask again, with the same key.

use std::error::Error;
use std::io;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use pgpersist_core::pg::log_line::Severity;
use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::log;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request is wrong; another time it is wrong as well.
    Refused(StatusCode, String),
    /// The database cannot answer now. Whether it has done what was asked for is not known.
    Unavailable(String),
    /// Our own mistake: it is told to us, and not to the client.
    Bug(String),
}

impl Failure {
    /// 404.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::Refused(StatusCode::NOT_FOUND, what.to_owned())
    }

    /// 405.
    pub(crate) fn wrong_method() -> Self {
        Self::Refused(StatusCode::METHOD_NOT_ALLOWED, "there is another method for this".to_owned())
    }

    /// 400.
    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self::Refused(StatusCode::BAD_REQUEST, why.into())
    }

    /// 422.
    pub(crate) fn senseless(why: impl Into<String>) -> Self {
        Self::Refused(StatusCode::UNPROCESSABLE_ENTITY, why.into())
    }

    /// 500.
    pub(crate) fn bug(what: &str, error: impl Error) -> Self {
        Self::Bug(format!("{what}: {error}"))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let broken = error.is_closed() || error.source().is_some_and(|source| source.is::<io::Error>());
            return if broken { Self::Unavailable("the session broke".to_owned()) } else { Self::bug("a session", error) };
        };
        if may_pass(said.code()) { Self::Unavailable(said.message().to_owned()) } else { Self::bug("a statement", said) }
    }
}

/// Whether the server may answer otherwise in a moment. See *PostgreSQL Error Codes*: 08 connections, 40 rollbacks that others
/// forced, 53 resources, 55P03 a lock, 57 the operator, a crash of another backend, and statements that took too long.
fn may_pass(code: &SqlState) -> bool {
    *code == SqlState::LOCK_NOT_AVAILABLE || ["08", "40", "53", "57"].contains(&&code.code()[..2])
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(status, why) => (status, Json(json!({ "error": why }))).into_response(),
            Self::Unavailable(why) => {
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], Json(json!({ "error": why }))).into_response()
            }
            Self::Bug(what) => {
                log::say(Severity::Error, &what);
                (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": "this went wrong, and the log tells what" }))).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_worth_another_try_and_a_wrong_statement_is_not() {
        for code in ["57P02", "57P03", "57014", "40001", "40P01", "53300", "55P03", "08006"] {
            assert!(may_pass(&SqlState::from_code(code)), "{code}");
        }
        for code in ["42601", "23503", "22021", "55000", "XX000"] {
            assert!(!may_pass(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn who_is_to_ask_again_is_told_when() {
        let response = Failure::Unavailable("it recovers".to_owned()).into_response();
        assert_eq!((response.status(), &response.headers()[RETRY_AFTER]), (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap()));
    }
}
