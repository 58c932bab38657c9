//! What the three clouds have in common once they are opened.

use std::sync::Arc;

use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};

use crate::error::{Error, Result};
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
}

/// How the client connects. Times are the transport's affair.
pub(super) fn client_options(url: &CloudUrl) -> Result<ClientOptions> {
    let mut options = ClientOptions::new()
        .with_allow_http(url.allows_http())
        .with_timeout_disabled()
        .with_read_timeout(std::time::Duration::from_secs(30))
        .with_connect_timeout(std::time::Duration::from_secs(5));
    if let Some(path) = url.option("ca_file") {
        let pem = std::fs::read(path).map_err(|error| Error::file("read the certificates in", path, error))?;
        let remedy = "give a file of certificates in PEM, as an authority hands them out";
        let no_pem = || Error::invalid(format!("{path} holds no certificate"), remedy);
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| no_pem())?;
        if certificates.is_empty() {
            return Err(no_pem());
        }
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// The transport repeats.
pub(super) fn no_repetitions() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}
