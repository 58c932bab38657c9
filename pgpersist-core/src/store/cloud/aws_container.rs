//! The credentials of a container, as ECS, EKS Pod Identity, and programs beside ours give them out over HTTP.
//!
//! Format: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Uri};
use object_store::aws::AwsCredential;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::{ClientOptions, CredentialProvider, Result as TheirResult};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::store::cloud::errors;
use crate::store::cloud::transport::{Connector, failure};
use crate::store::cloud::trouble::Trouble;
use crate::store::cloud_url::{CloudUrl, is_loopback};
use crate::workers;

const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// Where ECS answers what is given relative to it.
const ECS: &str = "http://169.254.170.2";
/// Who may be asked without TLS besides this machine: ECS and EKS, on the link.
const ON_THE_LINK: &[&str] = &["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
/// So long before their end credentials are renewed.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);
/// Those that end sooner are asked for again after this long.
const LEAST_USE: Duration = Duration::from_millis(200);

/// What the container's environment names.
pub(super) struct Container {
    address: Uri,
    authorization: Authorization,
    client: HttpClient,
    kept: Mutex<Option<Kept>>,
}

/// What opens it. A file is read each time: whoever renews the token writes it there.
enum Authorization {
    None,
    Token(String),
    File(PathBuf),
}

/// What was given, and until when.
struct Kept {
    credential: Arc<AwsCredential>,
    renewed_at: Option<Instant>,
    ends_at: Option<Instant>,
}

/// What is answered.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

impl fmt::Debug for Container {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its address may be as good as a password.
        formatter.debug_struct("Container").finish_non_exhaustive()
    }
}

impl Container {
    /// What the environment names, if it names something.
    ///
    /// # Errors
    /// `Invalid` when that is no address, or one to which a token must not go without TLS.
    pub(super) fn find(url: &CloudUrl, connector: &Connector) -> Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (name, address) = match (variable(RELATIVE), variable(FULL)) {
            (Some(path), _) => (RELATIVE, format!("{ECS}{path}")),
            (None, Some(address)) => (FULL, address),
            (None, None) => return Ok(None),
        };
        let authorization = match (variable(TOKEN_FILE), variable(TOKEN)) {
            (Some(file), _) => Authorization::File(PathBuf::from(file)),
            (None, Some(token)) => Authorization::Token(token),
            (None, None) => Authorization::None,
        };
        let address = checked(&address).ok_or_else(|| {
            let remedy = "give an address of `https://`, or of this machine, or of ECS or EKS; or name other credentials";
            Error::invalid(format!("{name} is no address that credentials may come from"), remedy)
        })?;
        let options = ClientOptions::new().with_allow_http(true);
        let client = connector.connect(&options).map_err(|error| errors::unusable(url, &error))?;
        Ok(Some(Self { address, authorization, client, kept: Mutex::default() }))
    }

    async fn ask(&self) -> TheirResult<Kept> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::GET;
        self.address.clone_into(request.uri_mut());
        if let Some(token) = self.token().await? {
            let mut token = HeaderValue::try_from(token.trim_end()).map_err(|_| unusable("the token for it holds what no header may"))?;
            token.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        let answer = self.client.execute(request).await.map_err(|error| generic(Box::new(error)))?;
        let body = answer.into_body().bytes().await.map_err(|error| generic(Box::new(error)))?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| unusable("its answer holds none"))?;
        let end = answer.expiration.map(|text| OffsetDateTime::parse(&text, &Rfc3339)).transpose();
        let end = end.map_err(|_| unusable("its answer does not tell when they end"))?;
        let left = end.map(|end| Duration::try_from(end - SystemClock.now()).unwrap_or_default());
        let now = Instant::now();
        let credential = AwsCredential { key_id: answer.access_key_id, secret_key: answer.secret_access_key, token: answer.token };
        Ok(Kept {
            credential: Arc::new(credential),
            renewed_at: left.map(|left| now + left.saturating_sub(RENEWED_BEFORE).max(LEAST_USE.min(left))),
            ends_at: left.map(|left| now + left),
        })
    }

    async fn token(&self) -> TheirResult<Option<String>> {
        match &self.authorization {
            Authorization::None => Ok(None),
            Authorization::Token(token) => Ok(Some(token.clone())),
            Authorization::File(file) => {
                let file = file.clone();
                let read = workers::run(move || {
                    std::fs::read_to_string(&file).map_err(|error| Error::file("read the container's token in", &file, error))
                });
                read.await.map(Some).map_err(|error| generic(Box::new(error)))
            }
        }
    }
}

#[async_trait]
impl CredentialProvider for Container {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> TheirResult<Arc<AwsCredential>> {
        // One asks, and the others wait for what comes.
        let mut kept = self.kept.lock().await;
        let until = |end: Option<Instant>| end.is_none_or(|end| Instant::now() < end);
        if let Some(kept) = kept.as_ref().filter(|kept| until(kept.renewed_at)) {
            return Ok(Arc::clone(&kept.credential));
        }
        match (self.ask().await, kept.as_ref()) {
            (Ok(new), _) => Ok(Arc::clone(&kept.insert(new).credential)),
            // Those that still hold are better than none.
            (Err(_), Some(kept)) if until(kept.ends_at) => Ok(Arc::clone(&kept.credential)),
            (Err(error), _) => Err(error),
        }
    }
}

/// An address that a token may be sent to.
fn checked(address: &str) -> Option<Uri> {
    let uri: Uri = address.parse().ok()?;
    let host = uri.host().filter(|host| !host.is_empty())?;
    let is_safe = match uri.scheme_str()? {
        "https" => true,
        "http" => is_loopback(host.trim_matches(['[', ']'])) || ON_THE_LINK.contains(&host),
        _ => false,
    };
    is_safe.then_some(uri)
}

fn unusable(why: &str) -> object_store::Error {
    generic(Box::new(failure(Trouble::NotIssued(Box::new(Trouble::Network(why.to_owned()))))))
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_nowhere_without_tls_but_within_the_machine_or_the_link() {
        for address in [
            "https://credentials.example.com/role",
            "http://127.0.0.1:9911/role?a=b",
            "http://localhost/role",
            "http://[::1]:1/",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ] {
            assert!(checked(address).is_some(), "{address}");
        }
        for address in [
            "http://credentials.example.com/role",
            "http://127.0.0.1.example.com/",
            "http://127.0.0.1:80@example.com/",
            "ftp://127.0.0.1/",
            "/role",
            "role",
            "",
        ] {
            assert!(checked(address).is_none(), "{address}");
        }
    }
}
