//! Azure's connection string, as its portal shows it: `DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=…`.
//!
//! Format: <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.

use std::fmt;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use crate::error::{Error, Result};

/// An account, and what opens it.
pub(super) struct ConnectionString {
    pub(super) account: Option<String>,
    key: AzureConfigKey,
    secret: String,
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConnectionString").field("account", &self.account).finish_non_exhaustive()
    }
}

impl ConnectionString {
    /// Reads a file that holds one and nothing else.
    ///
    /// # Errors
    /// `File` when it cannot be read, `Invalid` when it holds nothing that opens an account.
    pub(super) fn read(file: &str) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| Error::file("read the credentials in", file, error))?;
        Self::parse(&text).ok_or_else(|| {
            let remedy = "write the connection string there, with `AccountKey=…` or `SharedAccessSignature=…`, as Azure's portal shows it";
            Error::invalid(format!("{file} holds no connection string of Azure"), remedy)
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let settings = || text.trim().split(';').filter_map(|setting| setting.split_once('='));
        let find = |name: &str| settings().find(|(found, _)| found.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let (key, secret) = match (find("AccountKey"), find("SharedAccessSignature")) {
            (Some(secret), _) => (AzureConfigKey::AccessKey, secret),
            (None, Some(secret)) => (AzureConfigKey::SasKey, secret),
            (None, None) => return None,
        };
        Some(Self { account: find("AccountName").map(str::to_owned), key, secret: secret.to_owned() })
    }

    /// A builder with what opens the account.
    pub(super) fn builder(self) -> MicrosoftAzureBuilder {
        MicrosoftAzureBuilder::new().with_config(self.key, self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_with_a_key_or_a_signature() {
        let found =
            ConnectionString::parse("DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=a+b/c==;EndpointSuffix=x\n").unwrap();
        assert_eq!((found.account.as_deref(), found.secret.as_str()), (Some("acme"), "a+b/c=="));
        let found = ConnectionString::parse("BlobEndpoint=https://acme.example;SharedAccessSignature=sv=2024&sig=a%3D").unwrap();
        assert_eq!((found.account, found.secret.as_str()), (None, "sv=2024&sig=a%3D"));
        for none in ["", "AccountName=acme", "a key"] {
            assert!(ConnectionString::parse(none).is_none(), "{none}");
        }
    }

    #[test]
    fn it_is_not_shown() {
        let found = ConnectionString::parse("AccountName=acme;AccountKey=hunter2").unwrap();
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
