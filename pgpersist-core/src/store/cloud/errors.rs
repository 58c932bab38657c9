//! What a failed request means for the caller, and what to do about it.

use std::error::Error as StdError;

use crate::error::{Error, ErrorKind};
use crate::store::cloud::trouble::{Refusal, Trouble, causes};
use crate::store::cloud_url::{Cloud, CloudUrl};

/// What is said of a clock that is wrong.
const SKEWED: &[&str] = &["RequestTimeTooSkewed", "RequestExpired", "AccessDeniedTimeSkew"];
/// What is said of credentials that were good once.
const EXPIRED: &[&str] = &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "invalid_grant"];

/// What a failed request means; `doing` completes "could not …".
pub(super) fn translate(url: &CloudUrl, doing: &str, error: object_store::Error) -> Error {
    use object_store::Error as Theirs;
    let place = url.place();
    match &error {
        Theirs::NotFound { .. } => return Error::not_found(format!("could not {doing}: it is not in {place}"), ""),
        Theirs::AlreadyExists { .. } | Theirs::Precondition { .. } => {
            return Error::conflict(format!("could not {doing}: it exists already in {place}"), "");
        }
        _ => {}
    }
    let what = format!("could not {doing} in {place}");
    match Trouble::within(&error).cloned() {
        Some(Trouble::Refused(refusal)) if refusal.is_about_a_lock() => {
            Error::Locked { what, until: refusal.locked_until(), source: Box::new(Trouble::Refused(refusal)) }
        }
        Some(trouble) => {
            let (kind, remedy) = meaning(url, &trouble);
            Error::external(what, kind, remedy, trouble)
        }
        None => match causes(&error).find_map(|cause| cause.downcast_ref::<Error>()) {
            // One of our own is about a file of credentials. Whoever renews it may be at it just now, and where it is gone, no object is.
            Some(own) => {
                let told = own.causes().into_iter().fold(own.to_string(), |told, cause| format!("{told}: {cause}"));
                let remedy = own.remedy().unwrap_or_else(|| credentials(url.cloud()).to_owned());
                Error::external(what, ErrorKind::Unavailable, remedy, Trouble::Network(told))
            }
            None => {
                let (kind, remedy) = without_answer(url, &error);
                // What the other library says may repeat an address; its deepest cause does not.
                let told = deepest(&error);
                Error::external(what, kind, remedy, Trouble::Network(told))
            }
        },
    }
}

/// Whether the server refused and said nothing about why, as it does in an answer without a body. That an object is not there
/// needs no reason.
pub(super) fn is_without_reason(error: &object_store::Error) -> bool {
    matches!(Trouble::within(error), Some(Trouble::Refused(refusal)) if refusal.message.is_none() && refusal.status < 500 && refusal.status != 404)
}

/// Whether a part was asked for and this object has none such, or the server gives none.
pub(super) fn is_about_the_range(error: &object_store::Error) -> bool {
    match Trouble::within(error) {
        Some(Trouble::Refused(refusal)) => refusal.status == 416 || refusal.is(&["InvalidRange", "InvalidArgument"]),
        Some(trouble) => matches!(trouble, Trouble::WholeForPart),
        // What the other library has against an answer.
        None => matches!(error, object_store::Error::Generic { .. }),
    }
}

/// Whether somebody is known, and has not the right.
pub(super) fn is_forbidden(error: &object_store::Error) -> bool {
    matches!(Trouble::within(error), Some(Trouble::Refused(refusal)) if refusal.status == 403)
}

/// An address that could be read, and for which no store can be made.
pub(super) fn unusable(url: &CloudUrl, error: &object_store::Error) -> Error {
    Error::invalid(format!("{} cannot be used: {}", url.place(), deepest(error)), credentials(url.cloud()))
}

fn deepest(error: &(dyn StdError + 'static)) -> String {
    causes(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect()
}

fn meaning(url: &CloudUrl, trouble: &Trouble) -> (ErrorKind, String) {
    let endpoint = url.endpoint().map_or_else(|| format!("{}'s own servers", url.cloud().name()), str::to_owned);
    match trouble {
        Trouble::Refused(refusal) => refused(url, refusal),
        Trouble::Deadline(_) => (ErrorKind::Unavailable, format!("look whether {endpoint} can be reached from here, or raise `deadline`")),
        Trouble::NoSuchHost(_) => (
            ErrorKind::Unavailable,
            format!("look for a typing error in the address, and whether this machine resolves names ({endpoint})"),
        ),
        Trouble::NoCredentials(_) => (ErrorKind::Denied, credentials(url.cloud()).to_owned()),
        Trouble::NotIssued(trouble) => not_issued(url, trouble),
        Trouble::WholeForPart => (
            ErrorKind::Invalid,
            "this server does not do all that a store needs: use another one; `pgpersist store check` tells what is missing".to_owned(),
        ),
        Trouble::Network(_) => (ErrorKind::Unavailable, format!("look whether {endpoint} can be reached from here")),
        Trouble::Certificate(_) => {
            (ErrorKind::Denied, "give the certificate of its authority with `ca_file=/path/of/it.pem`, if the server is yours".to_owned())
        }
    }
}

/// Why a service that gives credentials has given none.
fn not_issued(url: &CloudUrl, trouble: &Trouble) -> (ErrorKind, String) {
    match trouble {
        Trouble::Refused(refusal) if refusal.is(SKEWED) || refusal.is(EXPIRED) => refused(url, refusal),
        Trouble::Refused(refusal) if refusal.status < 500 && !matches!(refusal.status, 408 | 429) => (
            ErrorKind::Denied,
            format!("look at the identity that this machine was given and at what it may, or {}", credentials(url.cloud())),
        ),
        Trouble::Certificate(_) => meaning(url, trouble),
        _ => (ErrorKind::Unavailable, "look whether the service that gives credentials can be reached from here".to_owned()),
    }
}

fn refused(url: &CloudUrl, refusal: &Refusal) -> (ErrorKind, String) {
    let container = url.cloud().container();
    let place = format!("the {container} `{}`", url.bucket());
    let own = |kind, remedy: &str| (kind, remedy.to_owned());
    if refusal.is(&["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "AccountNotFound", "InvalidBucketName"]) {
        return (ErrorKind::Invalid, format!("make {place} first, or look for a typing error: pgpersist makes none"));
    }
    if refusal.is(SKEWED) {
        return own(ErrorKind::Denied, "set this machine's clock: the server's differs too much for a signature to hold");
    }
    if refusal.is(EXPIRED) {
        return own(ErrorKind::Denied, "the credentials have expired: bring new ones");
    }
    // Azure's emulator says so of a wrong key.
    let is_unknown =
        refusal.is(&["AuthorizationFailure"]) && refusal.message.as_deref().is_some_and(|message| message.contains("authenticate"));
    if is_unknown
        || refusal.is(&[
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "AuthenticationFailed",
            "UnrecognizedClientException",
            "NotSignedUp",
        ])
    {
        return (ErrorKind::Denied, format!("the server does not know these credentials: {}", credentials(url.cloud())));
    }
    let moved = (300..400).contains(&refusal.status)
        || refusal.is(&["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"]);
    if moved {
        let remedy = match &refusal.region {
            Some(region) => format!("{place} is in another region: add `region={region}`"),
            None => format!("{place} is elsewhere: look at `region` and `endpoint`"),
        };
        return (ErrorKind::Invalid, remedy);
    }
    if refusal.is(&["NoSuchUpload"]) {
        return own(ErrorKind::Unavailable, "the server has forgotten the upload, or somebody has ended it: do it again");
    }
    if refusal.is(&["InvalidObjectState", "BlobArchived"]) {
        return own(ErrorKind::Unavailable, "the object lies in an archive: have it restored there first, which takes hours");
    }
    if refusal.is_about_a_checksum() || refusal.is(&["InvalidPart"]) {
        return own(ErrorKind::Unavailable, "the bytes changed on their way to the server: repeat it, and look at the network between");
    }
    match refusal.status {
        401 => (ErrorKind::Denied, credentials(url.cloud()).to_owned()),
        403 => (ErrorKind::Denied, format!("the credentials are not allowed to: look at the permissions on {place}")),
        404 => own(ErrorKind::NotFound, ""),
        405 | 501 => {
            own(ErrorKind::Invalid, "this server does not do all that a store needs: `pgpersist store check` tells what is missing")
        }
        409 | 412 => own(ErrorKind::Conflict, ""),
        413 | 507 => own(ErrorKind::Unavailable, "there is no room for it: make room, or have the limit raised"),
        400..=499 => own(ErrorKind::Invalid, "look at the options in the store's address: `pgpersist store check` tells more"),
        _ => own(ErrorKind::Unavailable, "the server is in trouble: try again later"),
    }
}

/// What went wrong before anything was sent, or while an answer was read.
fn without_answer(url: &CloudUrl, error: &object_store::Error) -> (ErrorKind, &'static str) {
    use object_store::Error as Theirs;
    match error {
        Theirs::InvalidPath { .. } => (ErrorKind::Invalid, "an object there has a name that is no key: give the store a prefix of its own"),
        Theirs::NotSupported { .. } | Theirs::NotImplemented { .. } => {
            (ErrorKind::Invalid, "this server does not do all that a store needs: `pgpersist store check` tells what is missing")
        }
        Theirs::PermissionDenied { .. } => (ErrorKind::Denied, "the credentials are not allowed to: look at the permissions"),
        Theirs::Unauthenticated { .. } => (ErrorKind::Denied, credentials(url.cloud())),
        _ => (ErrorKind::Unavailable, "try again; if it goes on, `pgpersist store check` tells more"),
    }
}

/// Where credentials come from.
fn credentials(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile of ~/.aws/credentials by AWS_PROFILE or `profile`, or give the \
             machine a role"
        }
        Cloud::Gcs => "set GOOGLE_APPLICATION_CREDENTIALS to a service account's file, or give the machine a service account",
        Cloud::Azure => {
            "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or the variables of a workload identity, or give the machine a \
             managed identity"
        }
    }
}
