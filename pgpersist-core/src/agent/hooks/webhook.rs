//! Posts events to an address.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};

use crate::agent::hooks::Hook;
use crate::agent::hooks::event::Event;
use crate::agent::hooks::http_client::{self, HttpClient};
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::web_url::WebUrl;

/// How often it is tried before it counts as failed.
const ATTEMPTS: u32 = 4;
/// How long it waits after the first attempt that failed; twice that after the next one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Posts each event as a JSON document; any answer of 2xx says that it has arrived. What may pass (nobody is there, the
/// connection breaks, no answer within ten seconds, 408, 429, 5xx) is tried four times, with 1, 2 and 4 s between.
#[derive(Debug)]
pub struct WebhookHook {
    url: WebUrl,
    client: HttpClient,
    authorization: Option<Secret<HeaderValue>>,
}

impl WebhookHook {
    /// Posts there; a token is sent as `Authorization: Bearer TOKEN`.
    ///
    /// # Errors
    /// `Invalid` when no header can carry the token.
    pub fn new(url: WebUrl, client: HttpClient, token: Option<&Secret<String>>) -> Result<Self> {
        let header = |token: &Secret<String>| {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            value
                .map(Secret::new)
                .map_err(|_| Error::invalid("the token holds signs that no header can carry", "look at `[hooks] webhook_token_file`"))
        };
        Ok(Self { url, client, authorization: token.map(header).transpose()? })
    }

    async fn post(&self, body: Bytes) -> Result<()> {
        let mut request = Request::post("/").header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.expose());
        }
        let request = request.body(Full::new(body)).map_err(|error| Error::Bug(format!("no request: {error}")))?;
        match tokio::time::timeout(ATTEMPT, self.client.send(&self.url, request)).await {
            Ok(status) => http_client::check(&self.url, status?),
            Err(_) => {
                Err(Error::unavailable(format!("{}: no answer within {} s", self.url, ATTEMPT.as_secs()), "look at what listens there"))
            }
        }
    }
}

#[async_trait]
impl Hook for WebhookHook {
    fn name(&self) -> &str {
        "webhook"
    }

    async fn tell(&self, event: &Event) -> Result<()> {
        let body = Bytes::from(serde_json::to_vec(event).map_err(|error| Error::Bug(format!("no document: {error}")))?);
        let (mut attempt, mut wait) = (1, FIRST_WAIT);
        loop {
            match self.post(body.clone()).await {
                Err(error) if http_client::is_transient(&error) && attempt < ATTEMPTS => {}
                outcome => return outcome,
            }
            tokio::time::sleep(wait).await;
            (attempt, wait) = (attempt + 1, 2 * wait);
        }
    }
}
