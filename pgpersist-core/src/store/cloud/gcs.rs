//! Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::GoogleCloudStorageBuilder;

use crate::error::{Error, Result};
use crate::store::cloud::errors;
use crate::store::cloud::opened::{Opened, Publishing, client_options, no_repetitions};
use crate::store::cloud::transport::Connector;
use crate::store::cloud_url::CloudUrl;

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
    let mut builder = builder
        .with_bucket_name(url.bucket())
        .with_client_options(client_options(url))
        .with_retry(no_repetitions())
        .with_http_connector(connector);
    if let Some(endpoint) = url.endpoint() {
        builder = builder.with_base_url(endpoint);
    } else if let Ok(emulator) = std::env::var(EMULATOR) {
        let endpoint = if emulator.contains("://") { emulator } else { format!("http://{emulator}") };
        let options = client_options(url).with_allow_http(true);
        builder = builder.with_client_options(options).with_base_url(&endpoint).with_skip_signature(true);
    }
    let client = builder.build().map_err(|error| errors::unusable(url, &error))?;
    // The end of an upload in parts takes no condition there.
    Ok(Opened { client: Arc::new(client), publishing: Publishing::Copied })
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
