//! [`Habits`]: what is special about a cloud's requests, and what its answers tell.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

use async_trait::async_trait;
use hyper::Uri;
use hyper::header::DATE;
use object_store::client::{HttpRequest, HttpResponse};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::Instant;

use crate::store::cloud_url::Cloud;

/// Signs a request with the credentials of this moment: one of ours, one that has to say something that it did not say when it
/// was signed, or one whose signature has expired.
#[async_trait]
pub(super) trait Signer: fmt::Debug + Send + Sync + 'static {
    /// In place of the signature that it has, if it has one.
    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()>;
}

/// What is special about a cloud's requests, and what its answers tell.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// The end of an upload in parts takes the condition that nothing has the name yet.
    pub(super) conditional_complete: bool,
    /// The bytes of an object travel with their MD5, since nothing else tells the server that they changed on their way.
    pub(super) content_md5: AtomicBool,
    /// A header that is added has to be signed.
    pub(super) signs_all_headers: bool,
    /// Known as soon as the store is open.
    pub(super) signer: OnceLock<Box<dyn Signer>>,
    /// Where the bucket is, as far as that is known.
    pub(super) store: OnceLock<Uri>,
    /// The server's time in its last answer, and when that came.
    told_time: Mutex<Option<(OffsetDateTime, Instant)>>,
}

impl Habits {
    pub(super) fn new(cloud: Cloud) -> Self {
        // The end of Google's uploads takes no condition, and S3 has checksums of its own, which some of its servers do not do with.
        Self {
            conditional_complete: cloud != Cloud::Gcs,
            content_md5: AtomicBool::new(cloud != Cloud::S3),
            signs_all_headers: cloud == Cloud::Azure,
            ..Self::default()
        }
    }

    /// Tells where the bucket is: whoever else is asked is asked for credentials.
    pub(super) fn store_is_at(&self, address: &str) {
        if let Ok(address) = address.parse() {
            // A store is opened once with its habits.
            let _ = self.store.set(address);
        }
    }

    /// What the server's clock shows now, as far as it tells, in whole seconds.
    pub(super) fn server_time(&self) -> Option<OffsetDateTime> {
        let told = *self.told_time.lock().expect("no code panics while it holds the time");
        told.map(|(time, heard)| time + heard.elapsed())
    }

    pub(super) fn hear(&self, response: &HttpResponse) {
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        if let Some(time) = date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok()) {
            *self.told_time.lock().expect("no code panics while it holds the time") = Some((time, Instant::now()));
        }
    }
}
