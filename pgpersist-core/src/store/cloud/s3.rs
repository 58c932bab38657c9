//! S3, and what speaks its protocol.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use crate::error::Result;
use crate::store::cloud::aws_profile::Profile;
use crate::store::cloud::errors;
use crate::store::cloud::opened::{Opened, Publishing, client_options, no_repetitions};
use crate::store::cloud::transport::Connector;
use crate::store::cloud_url::CloudUrl;

/// What gives credentials before a profile does.
const OTHER_CREDENTIALS: &[&str] =
    &["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];

/// Opens the bucket. Credentials: those of the environment, a web identity or a container, else a profile of the shared files,
/// else the machine's own role. A `profile` or a `credentials_file` in the address comes before all of them.
pub(super) fn open(url: &CloudUrl, connector: Connector) -> Result<Opened> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(url.bucket())
        .with_client_options(client_options(url))
        .with_retry(no_repetitions())
        .with_disable_bulk_delete(true)
        .with_http_connector(connector);
    let named = url.option("profile");
    let file = url.option("credentials_file");
    let profile = if named.or(file).is_some() || OTHER_CREDENTIALS.iter().all(|name| std::env::var_os(name).is_none()) {
        Profile::find(named, file)?
    } else {
        None
    };
    let has_region = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().any(|name| std::env::var_os(name).is_some());
    if let Some(profile) = profile {
        if let Some(region) = profile.region().filter(|_| !has_region || named.is_some()) {
            builder = builder.with_region(region);
        }
        builder = builder.with_credentials(Arc::new(profile));
    }
    if let Some(region) = url.option("region") {
        builder = builder.with_region(region);
    }
    // Names with dots do not fit the cloud's certificate; servers of one's own have seldom a name for each bucket.
    let path_style = url.option("path_style").map_or(url.endpoint().is_some() || url.bucket().contains('.'), |value| value == "true");
    builder = builder.with_virtual_hosted_style_request(!path_style);
    if let Some(endpoint) = url.endpoint() {
        let of_bucket = endpoint.replacen("://", &format!("://{}.", url.bucket()), 1);
        builder = builder.with_endpoint(if path_style { endpoint.to_owned() } else { of_bucket });
    }
    builder = match url.option("checksum").unwrap_or("sha256") {
        "none" => builder,
        algorithm => config(builder, "aws_checksum_algorithm", algorithm),
    };
    for (option, key) in [("server_side_encryption", "aws_server_side_encryption"), ("kms_key", "aws_sse_kms_key_id")] {
        if let Some(value) = url.option(option) {
            builder = config(builder, key, value);
        }
    }
    let client = builder.build().map_err(|error| errors::unusable(url, &error))?;
    Ok(Opened { client: Arc::new(client), publishing: Publishing::Conditional })
}

fn config(builder: AmazonS3Builder, key: &str, value: &str) -> AmazonS3Builder {
    match key.parse::<AmazonS3ConfigKey>() {
        Ok(key) => builder.with_config(key, value),
        Err(_) => builder,
    }
}
