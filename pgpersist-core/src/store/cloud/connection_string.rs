//! Azure's connection string, as its portal shows it: `DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=…`.
//!
//! Format: <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::azure::{AzureAccessKey, AzureCredential};
use object_store::{CredentialProvider, Result as TheirResult};
use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};
use crate::workers;

/// An account, and what opens it.
pub(super) struct ConnectionString {
    pub(super) account: Option<String>,
    opener: Opener,
}

#[derive(PartialEq, Eq)]
enum Opener {
    /// An account key, in Base64.
    Key(String),
    /// A shared access signature, as it stands in an address.
    Signature(String),
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
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| Error::file("read the credentials in", file, error))?;
        Self::parse(&text).ok_or_else(|| unusable(file))
    }

    fn parse(text: &str) -> Option<Self> {
        let settings = || text.trim().split(';').filter_map(|setting| setting.split_once('='));
        let find = |name: &str| settings().find(|(found, _)| found.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let opener = match (find("AccountKey"), find("SharedAccessSignature")) {
            (Some(key), _) => Opener::Key(key.to_owned()),
            (None, Some(signature)) => Opener::Signature(signature.to_owned()),
            (None, None) => return None,
        };
        Some(Self { account: find("AccountName").map(str::to_owned), opener })
    }

    /// What opens the account; nothing where it can be nobody's.
    fn credential(&self) -> Option<AzureCredential> {
        match &self.opener {
            Opener::Key(key) => AzureAccessKey::try_new(key).ok().map(AzureCredential::AccessKey),
            Opener::Signature(signature) => {
                let pairs = signature.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty());
                let decoded = |text| percent_decode_str(text).decode_utf8().map(String::from).ok();
                let pairs = pairs.map(|pair| pair.split_once('=').and_then(|(name, value)| Some((decoded(name)?, decoded(value)?))));
                pairs.collect::<Option<_>>().map(AzureCredential::SASToken)
            }
        }
    }
}

/// A file with a connection string, which is read again for each request: whoever renews it writes it there.
#[derive(Debug)]
pub(super) struct CredentialsFile(PathBuf);

impl CredentialsFile {
    /// The file, and the account that it names, if it names one.
    ///
    /// # Errors
    /// As [`ConnectionString::read`]; `Invalid` when what it holds opens nothing.
    pub(super) fn open(file: &str) -> Result<(Self, Option<String>)> {
        let file = PathBuf::from(file);
        let found = ConnectionString::read(&file)?;
        found.credential().ok_or_else(|| unusable(&file))?;
        Ok((Self(file), found.account))
    }
}

#[async_trait]
impl CredentialProvider for CredentialsFile {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> TheirResult<Arc<AzureCredential>> {
        let file = self.0.clone();
        let found = workers::run(move || ConnectionString::read(&file)?.credential().ok_or_else(|| unusable(&file))).await;
        found.map(Arc::new).map_err(|error| object_store::Error::Generic { store: "Azure", source: Box::new(error) })
    }
}

fn unusable(file: &Path) -> Error {
    let remedy = "write the connection string there, with `AccountKey=…` or `SharedAccessSignature=…`, as Azure's portal shows it";
    Error::invalid(format!("{} holds no connection string of Azure", file.display()), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_with_a_key_or_a_signature() {
        let found =
            ConnectionString::parse("DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=aHVudGVyMg==;EndpointSuffix=x\n").unwrap();
        assert_eq!(found.account.as_deref(), Some("acme"));
        assert!(matches!(found.credential(), Some(AzureCredential::AccessKey(_))));
        let found = ConnectionString::parse("BlobEndpoint=https://acme.example;SharedAccessSignature=?sv=2024&sig=a%2B%3D").unwrap();
        assert_eq!(found.account, None);
        let pairs = [("sv", "2024"), ("sig", "a+=")].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(found.credential(), Some(AzureCredential::SASToken(pairs)));
        for useless in ["AccountKey=no Base64", "SharedAccessSignature=sv"] {
            assert_eq!(ConnectionString::parse(useless).unwrap().credential(), None, "{useless}");
        }
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
