//! Azure Blob Storage.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::header::AUTHORIZATION;
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::client::HttpRequest;

use crate::error::{Error, Result};
use crate::store::cloud::connection_string::ConnectionString;
use crate::store::cloud::errors;
use crate::store::cloud::opened::{Opened, Publishing, client_options, no_repetitions};
use crate::store::cloud::transport::{Connector, Signer};
use crate::store::cloud_url::CloudUrl;

/// Opens the container. Credentials: those of a `credentials_file`, else an account key, a SAS token, a service principal, a workload identity, or the machine's
/// managed identity.
pub(super) fn open(url: &CloudUrl, connector: Connector) -> Result<Opened> {
    let file = url.option("credentials_file").map(ConnectionString::read).transpose()?;
    let account = url.option("account").map(str::to_owned).or_else(|| file.as_ref()?.account.clone());
    let account = account.or_else(|| std::env::var("AZURE_STORAGE_ACCOUNT_NAME").ok());
    let Some(account) = account else {
        return Err(Error::invalid(
            format!("no account is named for {}", url.place()),
            "add `account=NAME` to the address, or set AZURE_STORAGE_ACCOUNT_NAME",
        ));
    };
    let habits = Arc::clone(&connector.habits);
    // What the environment says of others would be in the file's way.
    let builder = file.map_or_else(MicrosoftAzureBuilder::from_env, ConnectionString::builder);
    let mut builder = builder
        .with_container_name(url.bucket())
        .with_account(&account)
        .with_client_options(client_options(url))
        .with_retry(no_repetitions())
        .with_http_connector(connector);
    if let Some(endpoint) = url.endpoint() {
        builder = builder.with_endpoint(endpoint.to_owned());
    }
    let client = builder.build().map_err(|error| errors::unusable(url, &error))?;
    let signer = SharedKey { credentials: Arc::clone(client.credentials()), account };
    // A store is opened once with its habits.
    let _ = habits.signer.set(Box::new(signer));
    Ok(Opened { client: Arc::new(client), publishing: Publishing::Conditional })
}

/// Azure's account keys sign conditions as well; its other credentials sign no headers.
struct SharedKey {
    credentials: AzureCredentialProvider,
    account: String,
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedKey").field("account", &self.account).finish_non_exhaustive()
    }
}

#[async_trait]
impl Signer for SharedKey {
    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        let credential = self.credentials.get_credential().await?;
        if !matches!(*credential, AzureCredential::AccessKey(_)) {
            return Ok(());
        }
        request.headers_mut().remove(AUTHORIZATION);
        AzureAuthorizer::new(&credential, &self.account).try_authorize(request)
    }
}
