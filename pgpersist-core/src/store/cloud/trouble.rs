//! [`Trouble`]: why a request failed, as the server or the network told it. It holds no address and no header, so it can be
//! shown.

use std::error::Error as StdError;
use std::time::Duration;

use hyper::StatusCode;
use time::OffsetDateTime;

use crate::store::cloud::addressee::Addressee;
use crate::store::cloud::locked::named_in;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The server said no.
    #[error("{}", .0.text())]
    Refused(Refusal),
    /// The server could not be reached, or the connection broke.
    #[error("{0}")]
    Network(String),
    /// The server's name is not known.
    #[error("{0}")]
    NoSuchHost(String),
    /// A part of an object was asked for, and all of it came.
    #[error("the server gives all of an object where a part of it is asked for")]
    WholeForPart,
    /// The server's certificate is not trusted.
    #[error("{0}")]
    Certificate(String),
    /// The machine itself was asked for credentials, and has none for us.
    #[error("there are no credentials in the environment, and this machine has none of its own: {0}")]
    NoCredentials(String),
    /// Another service was asked for credentials, and gave none.
    #[error("no credentials came from the service that gives them: {0}")]
    NotIssued(Box<Trouble>),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Deadline(Duration),
}

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The word for it, such as `NoSuchBucket`.
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    /// The region where the bucket is, when that is what is wrong.
    pub(super) region: Option<String>,
    /// Azure's word for a signature of long ago.
    is_of_long_ago: bool,
}

impl Refusal {
    /// Reads the document of an error, in XML as all three clouds write it.
    pub(super) fn read(status: StatusCode, body: &str, region: Option<&str>) -> Self {
        let part = |name| element(body, name);
        Self {
            status: status.as_u16(),
            code: part("Code").or_else(|| json_text(body, "error")),
            message: part("Message").or_else(|| json_text(body, "error_description")),
            region: region.map(str::to_owned).or_else(|| part("Region")),
            is_of_long_ago: part("AuthenticationErrorDetail")
                .is_some_and(|detail| detail.contains("too old") || detail.contains("expired")),
        }
    }

    /// Whether it has one of these words.
    pub(super) fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the bytes that came were not those that were sent.
    pub(super) fn is_about_a_checksum(&self) -> bool {
        const WORDS: &[&str] =
            &["BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "Md5Mismatch", "Crc64Mismatch"];
        // The second is what Azure's emulator says.
        self.is(WORDS) || self.is(&["InvalidOperation"]) && self.message.as_deref().is_some_and(|message| message.contains("MD5"))
    }

    /// Whether what signed the request, or the signature itself, was good once and has expired.
    pub(super) fn is_about_age(&self) -> bool {
        const WORDS: &[&str] = &[
            "ExpiredToken",
            "ExpiredTokenException",
            "TokenRefreshRequired",
            "RequestTimeTooSkewed",
            "RequestExpired",
            "AccessDeniedTimeSkew",
        ];
        // A bearer's token that has expired is refused like one that never was.
        self.is(WORDS) || self.is_of_long_ago || self.status == 401
    }

    /// Whether the object is kept as it is by a lock, a retention period or a hold.
    pub(super) fn is_about_a_lock(&self) -> bool {
        const WORDS: &[&str] = &[
            "BlobImmutableDueToPolicy",
            "BlobImmutableDueToLegalHold",
            "RetentionPolicyNotMet",
            "ObjectUnderActiveHold",
            "ObjectLocked",
            "ObjectLockedByBucketPolicy",
        ];
        // What S3 and its likes say has a code for everything that is forbidden.
        const SAID: &[&str] =
            &["object lock", "worm protected", "retention policy", "object retention", "legal hold", "under active", "event-based hold"];
        let said = || self.message.as_deref().unwrap_or_default().to_lowercase();
        let is_said = || !self.is_about_a_missing_md5() && SAID.iter().any(|words| said().contains(words));
        self.is(WORDS) || matches!(self.status, 400 | 403 | 409) && is_said()
    }

    /// Whether the server insists on the MD5 of what is written, as some do where objects are locked.
    pub(super) fn is_about_a_missing_md5(&self) -> bool {
        let says = |words: &str| self.message.as_deref().is_some_and(|message| message.contains(words));
        self.status == 400 && says("Content-MD5") && says("required")
    }

    /// Until when it is locked, where that is told.
    pub(super) fn locked_until(&self) -> Option<OffsetDateTime> {
        named_in(self.message.as_deref()?)
    }

    fn text(&self) -> String {
        let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason()).unwrap_or("no success");
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => format!("the server answered {} {code}: {message}", self.status),
            (Some(code), None) => format!("the server answered {} {code}", self.status),
            (None, _) => format!("the server answered {} {reason}", self.status),
        }
    }
}

impl Trouble {
    /// What is found in the chain of causes of another library's error.
    pub(super) fn within<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| cause.downcast_ref::<Self>())
    }

    /// What it means where this one was asked.
    pub(super) fn when_asking(self, addressee: Addressee) -> Self {
        match addressee {
            Addressee::Store => self,
            Addressee::Machine => Self::NoCredentials(self.to_string()),
            Addressee::Issuer => Self::NotIssued(Box::new(self)),
        }
    }

    /// What a failed exchange means.
    pub(super) fn of_network(error: &(dyn StdError + 'static)) -> Self {
        // The outer ones repeat the address, which may hold a signature.
        let told = causes(error).last().map(ToString::to_string).unwrap_or_default();
        if told.contains("certificate") {
            Self::Certificate(told)
        } else if causes(error).any(|cause| cause.to_string().contains("dns error")) || told.contains("lookup address") {
            Self::NoSuchHost(told)
        } else {
            Self::Network(told)
        }
    }
}

/// The error and its causes, outermost first.
pub(super) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// The text of the first element of this name.
fn element(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once('<')?;
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(300).collect();
    let text = text.replace("&quot;", "\"").replace("&apos;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    (!text.is_empty()).then_some(text)
}

/// The same of a JSON document, as token services write it.
fn json_text(document: &str, name: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(document).ok()?;
    let text = document.get(name)?.as_str()?;
    Some(text.chars().filter(|c| !c.is_control()).take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_document_is_read() {
        let body = "<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>the region &apos;us-east-1&apos; is \
                    wrong</Message><Region>eu-central-1</Region></Error>";
        let refusal = Refusal::read(StatusCode::BAD_REQUEST, body, None);
        assert_eq!(refusal.code.as_deref(), Some("AuthorizationHeaderMalformed"));
        assert_eq!(refusal.message.as_deref(), Some("the region 'us-east-1' is wrong"));
        assert_eq!(refusal.region.as_deref(), Some("eu-central-1"));
        assert_eq!(
            Trouble::Refused(refusal).to_string(),
            "the server answered 400 AuthorizationHeaderMalformed: the region 'us-east-1' is wrong"
        );
    }

    #[test]
    fn locks_and_age_are_known_by_code_or_by_words() {
        let read = |status, code: &str, message: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
            Refusal::read(StatusCode::from_u16(status).unwrap(), &body, None)
        };
        for (status, code, message) in [
            (409, "BlobImmutableDueToPolicy", "not permitted"),
            (403, "AccessDenied", "Access Denied because object protected by object lock."),
            (400, "InvalidRequest", "Object is WORM protected and cannot be overwritten"),
            (403, "Forbidden", "Object 'o' is under active Temporary hold and cannot be deleted"),
        ] {
            assert!(read(status, code, message).is_about_a_lock(), "{code} {message}");
        }
        assert!(!read(403, "AccessDenied", "Access Denied").is_about_a_lock());
        let asks = read(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put requests with Object Lock");
        assert!(asks.is_about_a_missing_md5() && !asks.is_about_a_lock());
        assert!(!read(404, "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist").is_about_a_lock());
        assert!(read(400, "ExpiredToken", "").is_about_age() && read(401, "", "").is_about_age());
        assert!(!read(403, "AccessDenied", "").is_about_age());
        let azure = "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Request date header too old: \
                     'x'</AuthenticationErrorDetail></Error>";
        assert!(Refusal::read(StatusCode::FORBIDDEN, azure, None).is_about_age());
    }

    #[test]
    fn any_other_answer_is_told_by_its_status() {
        for body in ["", "<html>Bad Gateway</html>", "<Code>", "{", "\u{0}"] {
            let refusal = Refusal::read(StatusCode::BAD_GATEWAY, body, None);
            assert_eq!(Trouble::Refused(refusal).to_string(), "the server answered 502 Bad Gateway", "{body:?}");
        }
    }
}
