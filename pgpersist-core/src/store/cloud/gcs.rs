//! Google Cloud Storage.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::header::{AUTHORIZATION, HeaderValue};
use object_store::client::HttpRequest;
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder, GoogleConfigKey};

use crate::error::{Error, Result};
use crate::store::cloud::errors;
use crate::store::cloud::habits::Signer;
use crate::store::cloud::opened::{Opened, Publishing, client_options, no_repetitions};
use crate::store::cloud::requests::Requests;
use crate::store::cloud::transport::Connector;
use crate::store::cloud_url::CloudUrl;

/// Google's own servers.
const SERVER: &str = "https://storage.googleapis.com";
/// What Google's own libraries read to speak to an emulator, without credentials.
const EMULATOR: &str = "STORAGE_EMULATOR_HOST";

/// Opens the bucket. Credentials: a service account's file, the default ones of `gcloud`, a workload identity, or the machine's
/// own service account.
pub(super) fn open(url: &CloudUrl, connector: Connector) -> Result<Opened> {
    let builder = match url.option("credentials_file") {
        // What the environment says of others would be in its way.
        Some(file) => credentials(file)?,
        None => GoogleCloudStorageBuilder::from_env(),
    };
    let mut options = client_options(url);
    let mut builder = builder
        .with_bucket_name(url.bucket())
        .with_client_options(options.clone())
        .with_retry(no_repetitions())
        .with_http_connector(connector.clone());
    if let Some(endpoint) = url.endpoint() {
        builder = builder.with_base_url(endpoint);
    } else if let Ok(emulator) = std::env::var(EMULATOR) {
        let endpoint = if emulator.contains("://") { emulator } else { format!("http://{emulator}") };
        options = options.with_allow_http(true);
        builder = builder.with_client_options(options.clone()).with_base_url(&endpoint).with_skip_signature(true);
    }
    let server = builder.get_config_value(&GoogleConfigKey::BaseUrl).unwrap_or_else(|| SERVER.to_owned());
    let is_signed = builder.get_config_value(&GoogleConfigKey::SkipSignature).is_none_or(|skips| skips != "true");
    let address = format!("{}/{}", server.trim_end_matches('/'), url.bucket());
    // A service account asks nobody for a token, and its file may name another server.
    if [GoogleConfigKey::ServiceAccount, GoogleConfigKey::ServiceAccountKey].iter().all(|key| builder.get_config_value(key).is_none()) {
        connector.habits.store_is_at(&address);
    }
    let requests = Requests::new(options, &connector, address);
    let client = builder.build().map_err(|error| errors::unusable(url, &error))?;
    if is_signed {
        // A store is opened once with its habits.
        let _ = connector.habits.signer.set(Box::new(Bearer(Arc::clone(client.credentials()))));
    }
    // The end of an upload in parts takes no condition there.
    Ok(Opened { client: Arc::new(client), publishing: Publishing::Copied, requests: Some(requests) })
}

/// Google's tokens sign nothing: whoever has one may send what he likes.
struct Bearer(GcpCredentialProvider);

impl fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bearer").finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for Bearer {
    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        let credential = self.0.get_credential().await?;
        let token = HeaderValue::try_from(format!("Bearer {}", credential.bearer))
            .map_err(|error| object_store::Error::Generic { store: "GCS", source: Box::new(error) })?;
        request.headers_mut().insert(AUTHORIZATION, token);
        Ok(())
    }
}

/// A builder with the credentials of a file: a service account's, or those of `gcloud`.
fn credentials(file: &str) -> Result<GoogleCloudStorageBuilder> {
    let text = std::fs::read(file).map_err(|error| Error::file("read the credentials in", file, error))?;
    let document: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let builder = GoogleCloudStorageBuilder::new();
    match document.get("type").and_then(serde_json::Value::as_str) {
        Some("service_account") => Ok(builder.with_service_account_path(file)),
        Some("authorized_user") => Ok(builder.with_application_credentials(file)),
        _ => {
            let remedy = "give the file of a service account, in JSON, as Google Cloud's console hands it out";
            Err(Error::invalid(format!("{file} holds no credentials of Google Cloud that pgpersist knows"), remedy))
        }
    }
}
