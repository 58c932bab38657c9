//! What the three clouds have in common once they are opened.

use std::sync::Arc;

use object_store::{ClientOptions, ObjectStore, RetryConfig};

use crate::error::{Error, Result};
use crate::store::cloud::requests::Requests;
use crate::store::cloud_url::CloudUrl;

/// How an upload in parts gets its name unless somebody else has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publishing {
    /// The request that ends the upload has the condition.
    Conditional,
    /// The upload ends under a name that nobody sees, and is copied with the condition.
    Copied,
}

/// A client, and how it publishes.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) client: Arc<dyn ObjectStore>,
    pub(super) publishing: Publishing,
    /// For what the client has no word for; none where the bucket's address is not known.
    pub(super) requests: Option<Requests>,
}

/// What the client is told of connections. The rest is the transport's affair.
pub(super) fn client_options(url: &CloudUrl) -> ClientOptions {
    ClientOptions::new().with_allow_http(url.allows_http())
}

/// The certificates of `ca_file`.
pub(super) fn certificates(url: &CloudUrl) -> Result<Vec<reqwest::Certificate>> {
    let Some(path) = url.option("ca_file") else { return Ok(Vec::new()) };
    let pem = std::fs::read(path).map_err(|error| Error::file("read the certificates in", path, error))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        let remedy = "give a file of certificates in PEM, as an authority hands them out";
        return Err(Error::invalid(format!("{path} holds no certificate"), remedy));
    }
    Ok(certificates)
}

/// The transport repeats.
pub(super) fn no_repetitions() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}
