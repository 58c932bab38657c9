//! Azure Blob Storage.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::header::AUTHORIZATION;
use object_store::azure::{AzureAuthorizer, AzureConfigKey, AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::client::HttpRequest;

use crate::error::{Error, Result};
use crate::store::cloud::connection_string::CredentialsFile;
use crate::store::cloud::errors;
use crate::store::cloud::habits::Signer;
use crate::store::cloud::opened::{Opened, Publishing, client_options, no_repetitions};
use crate::store::cloud::requests::Requests;
use crate::store::cloud::transport::Connector;
use crate::store::cloud_url::CloudUrl;

/// What names the account where the address does not; the second is the word of Azure's own tools.
const ACCOUNT: &[&str] = &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"];
/// The account's key, in the word of Azure's own tools.
const KEY: &str = "AZURE_STORAGE_KEY";

/// Opens the container. Credentials: those of a `credentials_file`, else an account key, a workload identity, a service principal, a SAS
/// token, or the machine's managed identity.
pub(super) fn open(url: &CloudUrl, connector: Connector) -> Result<Opened> {
    let file = url.option("credentials_file").map(CredentialsFile::open).transpose()?;
    let (file, named) = file.map_or((None, None), |(file, named)| (Some(file), named));
    let account = url.option("account").map(str::to_owned).or(named);
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let account = account.or_else(|| ACCOUNT.iter().find_map(|name| variable(name)));
    let Some(account) = account else {
        return Err(Error::invalid(
            format!("no account is named for {}", url.place()),
            "add `account=NAME` to the address, or set AZURE_STORAGE_ACCOUNT_NAME",
        ));
    };
    // What the environment says of others would be in the file's way.
    let builder = file.map_or_else(from_environment, |file| MicrosoftAzureBuilder::new().with_credentials(Arc::new(file)));
    let mut builder = builder
        .with_container_name(url.bucket())
        .with_account(&account)
        .with_client_options(client_options(url))
        .with_retry(no_repetitions())
        .with_http_connector(connector.clone());
    if let Some(endpoint) = url.endpoint() {
        builder = builder.with_endpoint(endpoint.to_owned());
    }
    if let Some(host) = builder.get_config_value(&AzureConfigKey::AuthorityHost) {
        builder = builder.with_config(AzureConfigKey::AuthorityHost, authority(&host));
    }
    let address = address(&builder, url, &account);
    let requests = address.map(|address| {
        connector.habits.store_is_at(&address);
        Requests::new(client_options(url), &connector, address)
    });
    let client = builder.build().map_err(|error| errors::unusable(url, &error))?;
    let signer = Authorization { credentials: Arc::clone(client.credentials()), account };
    // A store is opened once with its habits.
    let _ = connector.habits.signer.set(Box::new(signer));
    Ok(Opened { client: Arc::new(client), publishing: Publishing::Conditional, requests })
}

/// With what the environment says, also in the words of Azure's own tools.
fn from_environment() -> MicrosoftAzureBuilder {
    let builder = MicrosoftAzureBuilder::from_env();
    match std::env::var(KEY).ok().filter(|key| !key.is_empty()) {
        Some(key) if builder.get_config_value(&AzureConfigKey::AccessKey).is_none() => builder.with_access_key(key),
        _ => builder,
    }
}

/// Where tokens are asked for, as the client wants it. Kubernetes' webhook ends it with a slash, and others leave its scheme out.
fn authority(host: &str) -> String {
    let host = host.trim_end_matches('/');
    if host.contains("://") { host.to_owned() } else { format!("https://{host}") }
}

/// Where the container is, as the client has it; none for what other services of Azure and its old emulator do their own way.
fn address(builder: &MicrosoftAzureBuilder, url: &CloudUrl, account: &str) -> Option<String> {
    let value = |key: AzureConfigKey| builder.get_config_value(&key);
    let is_set = |key: AzureConfigKey| value(key).is_some_and(|value| value == "true");
    if is_set(AzureConfigKey::UseEmulator) || is_set(AzureConfigKey::UseFabricEndpoint) || is_set(AzureConfigKey::SkipSignature) {
        return None;
    }
    let server = value(AzureConfigKey::Endpoint).unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    Some(format!("{}/{}", server.trim_end_matches('/'), url.bucket()))
}

/// What lets a request in. Account keys sign its headers, conditions as well; tokens sign nothing.
struct Authorization {
    credentials: AzureCredentialProvider,
    account: String,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authorization").field("account", &self.account).finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for Authorization {
    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        let credential = self.credentials.get_credential().await?;
        let has_signature = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("sig=")));
        if matches!(*credential, AzureCredential::SASToken(_)) && has_signature {
            return Ok(());
        }
        request.headers_mut().remove(AUTHORIZATION);
        AzureAuthorizer::new(&credential, &self.account).try_authorize(request)
    }
}
