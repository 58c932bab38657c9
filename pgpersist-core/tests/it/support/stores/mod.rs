//! Servers that speak as the clouds do, one a test, each with one bucket: gone when the test ends.
//!
//! They come from `script/fetch-store-servers`, but for Google's, which is a program of our own beside this file. No credential
//! reaches a store through the environment here: tests are threads of one process, so files hold them.

pub(crate) mod azurite;
pub(crate) mod gcs;
pub(crate) mod installed;
pub(crate) mod moto;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod rclone;
pub(crate) mod s3rver;
pub(crate) mod s3s;

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::skip;
use process::ServerProcess;

/// The bucket, or container, that each of them has.
pub(crate) const BUCKET: &str = "pgpersist-tests";
/// Credentials that nothing may repeat: a test can search for them in whatever was written.
pub(crate) const ACCESS_KEY: &str = "CANARYACCESSKEY00001";
pub(crate) const SECRET_KEY: &str = "canary/secret+key/0000000000000000000002";
/// Azure's account, and its key, which is Base64.
pub(crate) const ACCOUNT: &str = "canaryaccount";
pub(crate) const ACCOUNT_KEY: &str = "Y2FuYXJ5LWFjY291bnQta2V5LTAwMDAwMDAwMDAwMDM=";
/// What stands in the place of a service account's private key.
pub(crate) const PRIVATE_KEY: &str = "canary-private-key-00000000000004";

/// Whose protocol a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    S3,
    Gcs,
    Azure,
}

/// A server with an empty bucket.
#[derive(Debug)]
pub(crate) struct StoreServer {
    pub(crate) protocol: Protocol,
    process: ServerProcess,
    /// Where it keeps the parts of uploads, if it cannot list them.
    parts: Option<PathBuf>,
    /// Its data, and the files of the credentials.
    folder: tempfile::TempDir,
}

impl StoreServer {
    fn new(protocol: Protocol, process: ServerProcess, folder: tempfile::TempDir) -> Self {
        let server = Self { protocol, process, parts: None, folder };
        let (name, text) = match protocol {
            Protocol::S3 => ("credentials", format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")),
            Protocol::Gcs => ("credentials", service_account()),
            Protocol::Azure => {
                ("credentials", format!("DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};EndpointSuffix=x\n"))
            }
        };
        server.write(name, &text);
        server
    }

    /// Writes a file beside its data that everybody may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    pub(crate) fn port(&self) -> u16 {
        self.process.port
    }

    /// Where it is reached without anything between.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The file of its credentials.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    /// The address of a store in its bucket, with its credentials' file.
    pub(crate) fn url(&self, prefix: &str) -> String {
        self.url_at(&self.endpoint(), prefix)
    }

    /// The same through another address, such as a proxy's.
    pub(crate) fn url_at(&self, endpoint: &str, prefix: &str) -> String {
        format!("{}&credentials_file={}", self.bare_url_at(endpoint, prefix), self.credentials().display())
    }

    /// What the server answers to a request without any client, and with a signature that signs nothing: for servers that look at none.
    pub(crate) fn plain(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\n", self.port(), body.len());
        if self.protocol == Protocol::S3 {
            let scope = format!("{ACCESS_KEY}/20260101/us-east-1/s3/aws4_request");
            request.push_str(&format!("Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        plain_request(self.port(), &format!("{request}Connection: close\r\n\r\n{body}"))
    }

    /// The same without credentials.
    pub(crate) fn bare_url_at(&self, endpoint: &str, prefix: &str) -> String {
        match self.protocol {
            Protocol::S3 => format!("s3://{BUCKET}/{prefix}?endpoint={endpoint}&region=us-east-1"),
            Protocol::Gcs => format!("gs://{BUCKET}/{prefix}?endpoint={endpoint}"),
            Protocol::Azure => format!("az://{BUCKET}/{prefix}?account={ACCOUNT}&endpoint={endpoint}/{ACCOUNT}"),
        }
    }
}

/// A service account that asks nobody for a token.
fn service_account() -> String {
    format!(
        r#"{{"type": "service_account", "client_email": "tests@example.com", "private_key_id": "1", "private_key": "{PRIVATE_KEY}", "disable_oauth": true}}"#
    )
}

fn folder() -> tempfile::TempDir {
    // Programs that have become another user read credentials there.
    let mut folder = tempfile::Builder::new();
    folder.permissions(Permissions::from_mode(0o755)).prefix("pgpersist-store-").tempdir().unwrap()
}

/// One request and its answer, without any client: for what our own does not do.
fn plain_request(port: u16, request: &str) -> String {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A folder below another one, made.
fn below(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}
