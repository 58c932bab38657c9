//! S3, and what speaks its protocol.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::header::{AUTHORIZATION, HeaderMap};
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::HttpRequest;

use crate::error::{Error, Result};
use crate::store::cloud::aws_container::Container;
use crate::store::cloud::aws_profile::Profile;
use crate::store::cloud::errors;
use crate::store::cloud::habits::Signer;
use crate::store::cloud::opened::{Opened, Publishing, client_options, no_repetitions};
use crate::store::cloud::requests::Requests;
use crate::store::cloud::transport::{Connector, failure};
use crate::store::cloud::trouble::Trouble;
use crate::store::cloud_url::CloudUrl;

/// What names the server where the address does not: that of S3 alone, and that of all of Amazon's services. The last is an older word.
const ENDPOINTS: &[&str] = &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
/// What gives credentials before a container does.
const BEFORE_CONTAINERS: &[&str] = &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"];
/// Where AWS's tools are told that the machine's metadata are elsewhere, or not to be asked for.
const METADATA: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const NO_METADATA: &str = "AWS_EC2_METADATA_DISABLED";

/// What gives credentials before a profile does.
const OTHER_CREDENTIALS: &[&str] =
    &["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];

/// Where a bucket is of which nobody says where.
const DEFAULT_REGION: &str = "us-east-1";
/// What a signature says of the body.
const BODY: &str = "x-amz-content-sha256";
/// Where the token of a session travels.
const TOKEN: &str = "x-amz-security-token";

/// The same address with the server that the environment names, where it names none itself.
///
/// # Errors
/// `Invalid` when that is no address of a server, or one that would be spoken to without TLS.
pub(super) fn located(url: &CloudUrl) -> Result<CloudUrl> {
    let named = ENDPOINTS.iter().find_map(|name| Some((*name, variable(name)?)));
    let Some((name, endpoint)) = named.filter(|_| url.endpoint().is_none()) else { return Ok(url.clone()) };
    url.at(&endpoint).ok_or_else(|| {
        let remedy = "write `https://host[:port]` there, or `http://` with `allow_http=true` in the store's address where the network between \
                      is your own";
        Error::invalid(format!("{name} is no address that {} can be reached at", url.place()), remedy)
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Opens the bucket. Credentials: those of the environment, a web identity or a container, else a profile of the shared files,
/// else the machine's own role. A `profile` or a `credentials_file` in the address comes before all of them.
pub(super) fn open(url: &CloudUrl, connector: Connector) -> Result<Opened> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(url.bucket())
        .with_client_options(client_options(url))
        .with_retry(no_repetitions())
        .with_disable_bulk_delete(true)
        .with_http_connector(connector.clone());
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
    } else if BEFORE_CONTAINERS.iter().all(|name| std::env::var_os(name).is_none()) {
        if let Some(container) = Container::find(url, &connector)? {
            builder = builder.with_credentials(Arc::new(container));
        } else if variable(NO_METADATA).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            builder = builder.with_credentials(Arc::new(Nobody));
        } else if let Some(address) = variable(METADATA) {
            builder = builder.with_config(AmazonS3ConfigKey::MetadataEndpoint, address.trim_end_matches('/'));
        }
    }
    if let Some(region) = url.option("region") {
        builder = builder.with_region(region);
    }
    // Names with dots do not fit the cloud's certificate; servers of one's own have seldom a name for each bucket.
    let path_style = url.option("path_style").map_or(url.endpoint().is_some() || url.bucket().contains('.'), |value| value == "true");
    builder = builder.with_virtual_hosted_style_request(!path_style);
    if let Some(endpoint) = url.endpoint() {
        let of_bucket = endpoint.replacen("://", &format!("://{}.", url.bucket()), 1);
        // This one counts where both are there, and the environment's is there already.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, if path_style { endpoint } else { &of_bucket });
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
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let is_signed = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_none_or(|skips| skips != "true");
    let address = address(&builder, url, &region, path_style);
    let requests = address.map(|address| {
        connector.habits.store_is_at(&address);
        Requests::new(client_options(url), &connector, address)
    });
    let client = builder.build().map_err(|error| errors::unusable(url, &error))?;
    if is_signed {
        let signature = Signature { credentials: Arc::clone(client.credentials()), region };
        // A store is opened once with its habits.
        let _ = connector.habits.signer.set(Box::new(signature));
    }
    Ok(Opened { client: Arc::new(client), publishing: Publishing::Conditional, requests })
}

/// Where the bucket is, as the client has it; none for a kind of bucket whose sessions it alone knows.
fn address(builder: &AmazonS3Builder, url: &CloudUrl, region: &str, path_style: bool) -> Option<String> {
    let value = |key: AmazonS3ConfigKey| builder.get_config_value(&key);
    if value(AmazonS3ConfigKey::S3Express).is_some_and(|is_express| is_express == "true") {
        return None;
    }
    let bucket = url.bucket();
    Some(match value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint)) {
        Some(endpoint) if path_style => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None if path_style => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    })
}

fn config(builder: AmazonS3Builder, key: &str, value: &str) -> AmazonS3Builder {
    match key.parse::<AmazonS3ConfigKey>() {
        Ok(key) => builder.with_config(key, value),
        Err(_) => builder,
    }
}

/// Where it was said that the machine is not to be asked.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl CredentialProvider for Nobody {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let why = Trouble::NoCredentials(format!("{NO_METADATA} is set"));
        Err(object_store::Error::Generic { store: "S3", source: Box::new(failure(why)) })
    }
}

/// The fourth version of Amazon's signatures.
struct Signature {
    credentials: AwsCredentialProvider,
    region: String,
}

impl fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signature").field("region", &self.region).finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for Signature {
    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        let credential = self.credentials.get_credential().await?;
        // The body stays what it was, and so does what was said of it.
        let said = request.headers().get(BODY).is_some();
        let sum = sha256(request.headers());
        for header in [AUTHORIZATION.as_str(), TOKEN] {
            request.headers_mut().remove(header);
        }
        let signs_body = sum.is_some() || !said;
        AwsAuthorizer::new(&credential, "s3", &self.region).with_sign_payload(signs_body).try_authorize(request, sum.as_deref())
    }
}

/// The sum of the body that a request names, if it names one.
fn sha256(headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = headers.get(BODY)?.to_str().ok().filter(|text| text.len() == 64 && text.is_ascii())?;
    (0..64).step_by(2).map(|place| u8::from_str_radix(text.get(place..place + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use object_store::StaticCredentialProvider;
    use object_store::aws::AwsCredential;
    use object_store::client::HttpRequestBody;

    use super::*;

    #[tokio::test]
    async fn a_request_is_signed_in_place_of_an_older_signature() {
        let keys = AwsCredential { key_id: "NEW".to_owned(), secret_key: "secret".to_owned(), token: None };
        let signature = Signature { credentials: Arc::new(StaticCredentialProvider::new(keys)), region: "eu-central-1".to_owned() };
        let mut request = HttpRequest::new(HttpRequestBody::from(b"body".to_vec()));
        *request.uri_mut() = "http://127.0.0.1:1/bucket/key?partNumber=1".parse().unwrap();
        let sum = "ab".repeat(32);
        for (name, value) in [(BODY, sum.as_str()), (TOKEN, "old"), ("authorization", "AWS4-HMAC-SHA256 Credential=OLD")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        signature.sign(&mut request).await.unwrap();
        let told = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let signed = told("authorization").unwrap();
        assert!(signed.contains("Credential=NEW/") && signed.contains("/eu-central-1/s3/aws4_request"), "{signed}");
        assert_eq!((told(BODY), told(TOKEN)), (Some(sum), None));
        request.headers_mut().insert(BODY, "UNSIGNED-PAYLOAD".parse().unwrap());
        signature.sign(&mut request).await.unwrap();
        assert_eq!(request.headers()[BODY], "UNSIGNED-PAYLOAD");
    }
}
