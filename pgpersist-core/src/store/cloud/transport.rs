//! Sends the requests of a store: repeats what may work the second time, ends what takes too long, reads what the server says,
//! and adds the conditions that `object_store` cannot ask for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, IF_NONE_MATCH, RANGE};
use hyper::{Method, StatusCode};
use md5::{Digest, Md5};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use tokio::time::Instant;

use crate::store::cloud::addressee::Addressee;
use crate::store::cloud::habits::Habits;
use crate::store::cloud::locked::LockedUntil;
use crate::store::cloud::outcome::{Outcome, broken, judge, refusal};
use crate::store::cloud::pace::Pace;
use crate::store::cloud::trouble::Trouble;
use crate::store::cloud::tuning::{self, Tuning};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may say nothing in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// The most that is read of the document of an error.
const LONGEST_ERROR: usize = 64 << 10;
/// The same of any other answer but an object: a page of a list has 5000 names at most.
const LONGEST_ANSWER: usize = 64 << 20;
/// A request with more than this moves a part of an object.
const SMALL_BYTES: usize = 64 << 10;
/// How often a request is signed again that was refused because its signature had expired.
const MOST_RENEWALS: u32 = 3;
/// The wait before the first of them; each other is twice as long as the one before. Together they take more than the second by which
/// signatures differ.
const FIRST_RENEWAL: Duration = Duration::from_millis(250);
/// Who cannot be reached at all is not tried for longer: most often the address is wrong.
const UNREACHABLE_FOR: Duration = Duration::from_secs(10);
/// How long the machine itself is asked for credentials.
const MACHINE_FOR: Duration = Duration::from_secs(3);

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Marks a request that is to arrive otherwise than it was sent, to see whether that is noticed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tampered;

/// Marks a request whose answer is a document and no object, so that it is read whole before anybody sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document;

/// Makes the connections of one store.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) tuning: Tuning,
    pub(super) habits: Arc<Habits>,
    pub(super) pace: Option<Arc<Pace>>,
    /// Authorities that are trusted besides the system's.
    pub(super) certificates: Vec<reqwest::Certificate>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Credentials are asked for without TLS within the machine.
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        let client = reqwest::Client::builder()
            .user_agent(concat!("pgpersist/", env!("CARGO_PKG_VERSION")))
            .tls_certs_merge(self.certificates.iter().cloned())
            .https_only(!allows_http)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            // Bytes are counted as they come.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            // What is signed for one server is no other's affair, and a redirection tells that the address is wrong.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| object_store::Error::Generic { store: "cloud", source: Box::new(error) })?;
        Ok(HttpClient::new(Transport { client: HttpClient::new(client), connector: self.clone() }))
    }
}

#[derive(Debug)]
struct Transport {
    client: HttpClient,
    connector: Connector,
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let addressee = Addressee::of(request.uri(), self.connector.habits.store.get());
        let is_complete = addressee == Addressee::Store && ends_parts(&request);
        if addressee == Addressee::Store {
            self.add_headers(&mut request, is_complete).await?;
        }
        let is_tampered = request.extensions().get::<Tampered>().is_some();
        if is_tampered {
            // As long as it was, so that nothing but a checksum notices.
            let length = request.body().content_length();
            *request.body_mut() = HttpRequestBody::from(vec![b'x'; length]);
        }
        let (repeated_for, attempt) = self.patience(&request, addressee);
        let start = Instant::now();
        let (mut waits, mut renewals) = (0, 0);
        loop {
            if let Some(pace) = &self.connector.pace {
                pace.pass(request.body().content_length() as u64).await;
            }
            // What is said to be all that it may take is that.
            let left = self.connector.tuning.deadline.map(|deadline| deadline.saturating_sub(start.elapsed()));
            let limit = left.map_or(attempt, |left| left.min(attempt));
            let outcome = self.attempt(request.clone(), limit, addressee, is_complete).await;
            let (trouble, asked) = match outcome {
                Outcome::Answered(response) => return Ok(response),
                Outcome::Failed(trouble) if addressee != Addressee::Store => return Err(failure(trouble.when_asking(addressee))),
                Outcome::Failed(Trouble::Refused(refusal))
                    if refusal.is_about_a_missing_md5() && takes_md5(&request) && !request.headers().contains_key(CONTENT_MD5) =>
                {
                    // From now on all that is written has it.
                    self.connector.habits.content_md5.store(true, Ordering::Relaxed);
                    self.add_headers(&mut request, is_complete).await?;
                    continue;
                }
                Outcome::Failed(Trouble::Refused(refusal)) if refusal.is_about_age() => {
                    if self.renew(&mut request, &mut renewals, repeated_for.saturating_sub(start.elapsed())).await {
                        continue;
                    }
                    return Err(failure(Trouble::Refused(refusal)));
                }
                Outcome::Failed(trouble) => return Err(failure(trouble)),
                // What was changed on purpose is no better the second time.
                Outcome::Later(Trouble::Refused(refusal), _) if is_tampered && refusal.is_about_a_checksum() => {
                    return Err(failure(Trouble::Refused(refusal)));
                }
                Outcome::Later(trouble, asked) => (trouble, asked),
            };
            let budget = match trouble {
                Trouble::NoSuchHost(_) | Trouble::Network(_) => repeated_for.min(UNREACHABLE_FOR),
                _ => repeated_for,
            };
            let wait = asked.unwrap_or_default().max(tuning::wait(waits));
            waits += 1;
            if start.elapsed() + wait >= budget {
                return Err(failure(trouble.when_asking(addressee)));
            }
            tokio::time::sleep(wait).await;
        }
    }
}

impl Transport {
    /// What `object_store` does not say.
    async fn add_headers(&self, request: &mut HttpRequest, is_complete: bool) -> Result<(), HttpError> {
        let habits = &self.connector.habits;
        let mut is_changed = false;
        if is_complete && habits.conditional_complete {
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
            is_changed = true;
        }
        if habits.content_md5.load(Ordering::Relaxed) && takes_md5(request) {
            let sum = content_md5(request.body().clone()).await?;
            request.headers_mut().insert(CONTENT_MD5, sum);
            is_changed = true;
        }
        if is_changed
            && habits.signs_all_headers
            && let Some(signer) = habits.signer.get()
        {
            signer.sign(request).await.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        }
        Ok(())
    }

    /// Signs a request again that was refused since its signature, or what had signed it, has expired. Whoever renews credentials may
    /// be at it just now, so that is waited for a little. Tells whether there is another signature now, after all renewals so far.
    async fn renew(&self, request: &mut HttpRequest, renewals: &mut u32, left: Duration) -> bool {
        let Some(signer) = self.connector.habits.signer.get() else { return false };
        let Some(before) = request.headers().get(AUTHORIZATION).cloned() else { return false };
        let end = Instant::now() + left;
        while *renewals < MOST_RENEWALS {
            let wait = FIRST_RENEWAL * (1 << *renewals);
            *renewals += 1;
            if Instant::now() + wait >= end {
                return false;
            }
            tokio::time::sleep(wait).await;
            if signer.sign(request).await.is_ok() && request.headers().get(AUTHORIZATION) != Some(&before) {
                return true;
            }
        }
        false
    }

    /// For how long a request is repeated, and how long each attempt may take.
    fn patience(&self, request: &HttpRequest, addressee: Addressee) -> (Duration, Duration) {
        let tuning = &self.connector.tuning;
        if addressee == Addressee::Machine {
            return (MACHINE_FOR, MACHINE_FOR);
        }
        let is_part = request.body().content_length() > SMALL_BYTES;
        (tuning.repeated_for, if is_part { tuning.part_attempt } else { tuning.small_attempt })
    }

    async fn attempt(&self, request: HttpRequest, limit: Duration, addressee: Addressee, is_complete: bool) -> Outcome {
        let asks_store = addressee == Addressee::Store;
        let is_document = lists(&request) || request.extensions().get::<Document>().is_some();
        let reads_object = asks_store && request.method() == Method::GET && !is_document;
        let wants_part = reads_object && request.headers().contains_key(RANGE);
        let answer = async {
            let mut response = self.client.execute(request).await?;
            if asks_store {
                self.connector.habits.hear(&response);
            }
            LockedUntil::note(&mut response);
            let is_success = response.status().is_success();
            if is_success && reads_object {
                return Ok((response, None));
            }
            // Whole before anybody sees it: a connection that breaks within is a reason to ask again.
            let (parts, body) = response.into_parts();
            let (body, is_whole) = beginning(body, if is_success { LONGEST_ANSWER } else { LONGEST_ERROR }).await?;
            if is_success && !is_whole {
                return Err(HttpError::new(HttpErrorKind::Unknown, Trouble::Network("an answer without end".to_owned())));
            }
            // An answer to the end of an upload may begin with 200 and tell of a failure then.
            let text = (!is_success || is_complete).then(|| String::from_utf8_lossy(&body).into_owned());
            Ok((HttpResponse::from_parts(parts, HttpResponseBody::from(body)), text))
        };
        match tokio::time::timeout(limit, answer).await {
            Err(_) => Outcome::Later(Trouble::Deadline(limit), None),
            Ok(Err(error)) => broken(&error),
            // Whole instead of a part: what follows would be taken for the part.
            Ok(Ok((response, None))) if wants_part && response.status() == StatusCode::OK => Outcome::Failed(Trouble::WholeForPart),
            Ok(Ok((response, None))) => Outcome::Answered(response),
            Ok(Ok((response, Some(text)))) => match judge(response, &text) {
                // That something is not there means of a store alone that all is well.
                Outcome::Answered(response) if !asks_store => {
                    Outcome::Failed(Trouble::Refused(refusal(response.status(), response.headers(), &text)))
                }
                outcome => outcome,
            },
        }
    }
}

/// Whether a request ends an upload in parts: S3 and Google post to the upload, Azure puts the list of blocks.
fn ends_parts(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let has = |pair: &str| query.split('&').any(|part| part == pair || part.starts_with(pair) && pair.ends_with('='));
    (request.method() == Method::POST && has("uploadId=")) || (request.method() == Method::PUT && has("comp=blocklist"))
}

/// Whether a request lists objects.
fn lists(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| pair == "comp=list" || pair.starts_with("list-type="))
}

/// Whether a request brings the bytes of an object, or that it has none; a copy brings nothing.
fn takes_md5(request: &HttpRequest) -> bool {
    request.method() == Method::PUT && !request.headers().keys().any(|name| name.as_str().ends_with("-copy-source"))
}

async fn content_md5(mut body: HttpRequestBody) -> Result<HeaderValue, HttpError> {
    let mut md5 = Md5::new();
    while let Some(frame) = body.frame().await {
        md5.update(frame?.data_ref().map(AsRef::as_ref).unwrap_or_default());
    }
    let text = BASE64_STANDARD.encode(md5.finalize());
    HeaderValue::try_from(text).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))
}

/// What comes of a body up to a size, and whether it is all.
pub(super) async fn beginning(body: HttpResponseBody, most: usize) -> Result<(Vec<u8>, bool), HttpError> {
    let mut stream = body.bytes_stream();
    let mut read = Vec::new();
    while let Some(bytes) = stream.try_next().await? {
        if read.len() + bytes.len() > most {
            return Ok((read, false));
        }
        read.extend_from_slice(&bytes);
    }
    Ok((read, true))
}

pub(super) fn failure(trouble: Trouble) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, trouble)
}
