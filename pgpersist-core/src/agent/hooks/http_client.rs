//! One request to one address: over TCP or TLS, without redirects, proxies or kept connections. What comes back beyond the status
//! is not read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::error::{Error, ErrorKind, Result};
use crate::web_url::WebUrl;
use crate::workers;

/// All authorities of a machine take less.
const LARGEST_CA_FILE: u64 = 1 << 20;

const AGENT: &str = concat!("pgpersist/", env!("CARGO_PKG_VERSION"));

/// Calls addresses. TLS is always verified: against the authorities of one file, or those of the machine.
#[derive(Clone)]
pub struct HttpClient {
    authorities: Option<Arc<RootCertStore>>,
    connector: Arc<OnceCell<TlsConnector>>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HttpClient").field("has_own_authorities", &self.authorities.is_some()).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// One that trusts whom the certificates in this file, in PEM, have signed, and else nobody; without a file, whom the machine
    /// trusts. Blocking.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be read, `Invalid` when it holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self> {
        let authorities = ca_file.map(read_authorities).transpose()?.map(Arc::new);
        Ok(Self { authorities, connector: Arc::default() })
    }

    /// Sends a request and returns the status that comes back. There is no deadline; dropping it closes the connection.
    ///
    /// # Errors
    /// `Unavailable` when nobody is there, or the connection breaks; `Denied` when whoever is there is not trusted.
    pub(crate) async fn send(&self, url: &WebUrl, mut request: Request<Full<Bytes>>) -> Result<StatusCode> {
        let wrong = |what: &str| Error::Bug(format!("{url}: {what}"));
        *request.uri_mut() = url.target().expose().parse().map_err(|_| wrong("its path is none"))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(url.authority()).map_err(|_| wrong("its host is none"))?);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let stream = TcpStream::connect((url.host(), url.port())).await.map_err(|error| {
            let remedy = "look whether this machine reaches it, by name and through firewalls; a proxy is not used";
            Error::unavailable(format!("{url}: could not connect: {error}"), remedy)
        })?;
        if !url.is_encrypted() {
            return exchange(url, stream, request).await;
        }
        let name = ServerName::try_from(url.host().to_owned()).map_err(|_| wrong("its host has no name that a certificate could have"))?;
        let connector = self.connector.get_or_try_init(|| self.connector()).await?;
        let stream = connector.connect(name, stream).await.map_err(|error| refusal(url, &error))?;
        exchange(url, stream, request).await
    }

    async fn connector(&self) -> Result<TlsConnector> {
        let authorities = match &self.authorities {
            Some(authorities) => Arc::clone(authorities),
            None => Arc::new(workers::run(authorities_of_the_machine).await?),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| Error::Bug(format!("TLS cannot be set up: {error}")))?;
        Ok(TlsConnector::from(Arc::new(config.with_root_certificates(authorities).with_no_client_auth())))
    }
}

async fn exchange<S>(url: &WebUrl, stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| {
        Error::unavailable(format!("{url}: the connection broke: {error}"), "look whether what listens there speaks HTTP")
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let response = sender.send_request(request);
    tokio::pin!(response, connection);
    let response = tokio::select! {
        response = &mut response => response,
        // It has read all there is, or broke.
        _ = &mut connection => response.await,
    };
    response.map(|response| response.status()).map_err(broken)
}

fn refusal(url: &WebUrl, error: &io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => Error::denied(
            format!("{url}: it is not trusted: {error}"),
            "name the file with its authority's certificate in `[hooks] ca_file`, or have it present a certificate that this machine trusts",
        ),
        _ => Error::unavailable(format!("{url}: TLS failed: {error}"), "look whether what listens there speaks TLS"),
    }
}

fn read_authorities(path: &Path) -> Result<RootCertStore> {
    let failed = |error| Error::file("read the certificates in", path, error);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST_CA_FILE).read_to_end(&mut bytes)).map_err(failed)?;
    let wrong =
        |why: String| Error::invalid(format!("{}: {why}", path.display()), "name a file of certificates in PEM in `[hooks] ca_file`");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| wrong(format!("it holds what is no certificate: {error}")))?;
        store.add(certificate).map_err(|error| wrong(format!("it holds what is no certificate of an authority: {error}")))?;
    }
    if store.is_empty() {
        return Err(wrong("it holds no certificate".to_owned()));
    }
    Ok(store)
}

/// Blocking. A certificate among them that cannot be read is left out, as every program of the machine does.
fn authorities_of_the_machine() -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        let remedy = "install the package `ca-certificates`, or name a file of certificates in `[hooks] ca_file`";
        return Err(Error::not_found("this machine trusts no authority, so nobody can be called over https", remedy));
    }
    Ok(store)
}

/// What a status means to whoever wanted something to be taken: `Ok` for 2xx.
///
/// # Errors
/// `Unavailable` where trying again may help, else `Invalid`.
pub(crate) fn check(url: &WebUrl, status: StatusCode) -> Result<()> {
    let what = format!("{url} answered {status}");
    match status {
        status if status.is_success() => Ok(()),
        status if status.is_redirection() => Err(Error::invalid(what, "redirects are not followed: name the address that it leads to")),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Error::unavailable(what, "wait")),
        status if status.is_server_error() => Err(Error::unavailable(what, "look at what listens there")),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::denied(what, "look at the address and its token")),
        _ => Err(Error::invalid(what, "look at the address, and at what it wants to be sent")),
    }
}

/// Whether trying again may help.
pub(crate) fn is_transient(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_of_authorities_must_hold_some() {
        let file = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        for text in [
            "",
            "nothing",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        ] {
            let file = file(text);
            let error = HttpClient::new(Some(file.path())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {error}");
            assert!(error.to_string().contains(file.path().to_str().unwrap()));
        }
        let absent = HttpClient::new(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let url: WebUrl = "https://example.com/canary".parse().unwrap();
        for (code, is_fine, transient) in [
            (200, true, false),
            (204, true, false),
            (302, false, false),
            (400, false, false),
            (403, false, false),
            (408, false, true),
            (429, false, true),
            (503, false, true),
        ] {
            let result = check(&url, StatusCode::from_u16(code).unwrap());
            assert_eq!((result.is_ok(), result.as_ref().is_err_and(is_transient)), (is_fine, transient), "{code}");
            assert!(!format!("{result:?}").contains("canary"));
        }
    }
}
