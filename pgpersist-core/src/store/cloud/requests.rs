//! [`Requests`]: what `object_store` has no word for: questions about a bucket as a whole, and the end of somebody else's upload.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::{Method, Uri};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::store::cloud::outcome::refusal;
use crate::store::cloud::transport::{Connector, Document, failure};
use crate::store::cloud::trouble::Trouble;

/// What needs no encoding anywhere in an address, and must not have it where a signature counts on that.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Requests that are made and signed here, and sent as all others are.
#[derive(Debug)]
pub(super) struct Requests {
    connector: Connector,
    options: ClientOptions,
    /// The bucket's address.
    address: String,
    /// Made when it is needed, which is seldom.
    client: OnceLock<HttpClient>,
}

impl Requests {
    /// Requests to the bucket at this address. They are signed once the connector's habits know how.
    pub(super) fn new(options: ClientOptions, connector: &Connector, address: String) -> Self {
        Self { connector: connector.clone(), options, address, client: OnceLock::new() }
    }

    /// What the server says about the bucket, or about one object.
    pub(super) async fn ask(&self, path: Option<&Path>, query: &[(&str, &str)]) -> object_store::Result<Bytes> {
        self.send(Method::GET, path, query).await
    }

    /// Removes an object, or what the query names of it.
    pub(super) async fn delete(&self, path: &Path, query: &[(&str, &str)]) -> object_store::Result<()> {
        self.send(Method::DELETE, Some(path), query).await.map(|_| ())
    }

    async fn send(&self, method: Method, path: Option<&Path>, query: &[(&str, &str)]) -> object_store::Result<Bytes> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = self.target(path, query).parse::<Uri>().map_err(|error| generic(Box::new(error)))?;
        request.extensions_mut().insert(Document);
        if let Some(signer) = self.connector.habits.signer.get() {
            signer.sign(&mut request).await?;
        }
        let response = self.client()?.execute(request).await.map_err(|error| generic(Box::new(error)))?;
        let (head, body) = response.into_parts();
        let body = body.bytes().await.map_err(|error| generic(Box::new(error)))?;
        if head.status.is_success() {
            return Ok(body);
        }
        let refusal = refusal(head.status, &head.headers, &String::from_utf8_lossy(&body));
        let source = Box::new(failure(Trouble::Refused(refusal)));
        Err(match head.status.as_u16() {
            404 => object_store::Error::NotFound { path: path.map(ToString::to_string).unwrap_or_default(), source },
            _ => generic(source),
        })
    }

    fn client(&self) -> object_store::Result<&HttpClient> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => {
                let client = self.connector.connect(&self.options)?;
                Ok(self.client.get_or_init(|| client))
            }
        }
    }

    fn target(&self, path: Option<&Path>, query: &[(&str, &str)]) -> String {
        let mut target = self.address.clone();
        for part in path.iter().flat_map(|path| path.as_ref().split('/')) {
            target.push('/');
            target.extend(utf8_percent_encode(part, ENCODED));
        }
        for (place, (name, value)) in query.iter().enumerate() {
            target.push(if place == 0 { '?' } else { '&' });
            target.extend(utf8_percent_encode(name, ENCODED));
            target.push('=');
            target.extend(utf8_percent_encode(value, ENCODED));
        }
        target
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic { store: "cloud", source }
}
