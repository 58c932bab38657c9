//! Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::GoogleCloudStorageBuilder;

use crate::error::Result;
use crate::store::cloud::errors;
use crate::store::cloud::opened::{Opened, Publishing, client_options, no_repetitions};
use crate::store::cloud::transport::Connector;
use crate::store::cloud_url::CloudUrl;

/// What Google's own libraries read to speak to an emulator, without credentials.
const EMULATOR: &str = "STORAGE_EMULATOR_HOST";

/// Opens the bucket. Credentials: a service account's file, the default ones of `gcloud`, a workload identity, or the machine's
/// own service account.
pub(super) fn open(url: &CloudUrl, connector: Connector) -> Result<Opened> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(url.bucket())
        .with_client_options(client_options(url)?)
        .with_retry(no_repetitions())
        .with_http_connector(connector);
    if let Some(file) = url.option("credentials_file") {
        builder = builder.with_application_credentials(file);
    }
    if let Some(endpoint) = url.endpoint() {
        builder = builder.with_base_url(endpoint);
    } else if let Ok(emulator) = std::env::var(EMULATOR) {
        let endpoint = if emulator.contains("://") { emulator } else { format!("http://{emulator}") };
        let options = client_options(url)?.with_allow_http(true);
        builder = builder.with_client_options(options).with_base_url(&endpoint).with_skip_signature(true);
    }
    let client = builder.build().map_err(|error| errors::unusable(url, &error))?;
    // The end of an upload in parts takes no condition there.
    Ok(Opened { client: Arc::new(client), publishing: Publishing::Copied })
}
