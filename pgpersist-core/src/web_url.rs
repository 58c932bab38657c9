//! An address of the web that is called. What follows its host is often a secret, as with webhooks of chat services, so it is
//! never shown.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

use crate::secret::Secret;

/// `http://HOST[:PORT]/…` or `https://HOST[:PORT]/…`. It prints without what follows the host.
#[derive(Clone, PartialEq, Eq)]
pub struct WebUrl {
    is_encrypted: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// Host and port as they were written.
    authority: String,
    /// Path and query.
    target: Secret<String>,
}

/// Why a text is no address. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address such as `https://hooks.example.com/…`, found {found}")]
pub struct WebUrlError {
    found: &'static str,
}

impl WebUrl {
    /// Whether it is called over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The host to connect to: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the header `Host` says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path and query: for the request, never for a message.
    pub fn target(&self) -> &Secret<String> {
        &self.target
    }

    /// Whether what is sent there stays on this machine, as far as the address tells.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

impl FromStr for WebUrl {
    type Err = WebUrlError;

    fn from_str(text: &str) -> Result<Self, WebUrlError> {
        let wrong = |found| WebUrlError { found };
        let uri: Uri = text.parse().map_err(|_| wrong("what is no address"))?;
        let is_encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(wrong("another scheme than `http` and `https`")),
            None => return Err(wrong("one without `https://`")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("one without a host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user name or a password in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("one without a host"));
        }
        let has_port = !authority.as_str().ends_with(authority.host());
        let port = match authority.port_u16() {
            Some(0) => return Err(wrong("port 0")),
            Some(port) => port,
            None if has_port => return Err(wrong("a port that is none")),
            None if is_encrypted => 443,
            None => 80,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { is_encrypted, host, port, authority: authority.as_str().to_owned(), target: Secret::new(target) })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority)
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}/***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_tells_where_to_connect_and_keeps_what_follows_the_host() {
        for (text, shown, host, port, target) in [
            (
                "https://hooks.example.com/services/canary?x=1",
                "https://hooks.example.com",
                "hooks.example.com",
                443,
                "/services/canary?x=1",
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", 8080, "/"),
            ("https://[::1]:8443/canary", "https://[::1]:8443", "::1", 8443, "/canary"),
            ("http://[::1]/?canary", "http://[::1]", "::1", 80, "/?canary"),
        ] {
            let url: WebUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (shown, host, port));
            assert_eq!(url.target().expose(), target);
            assert!(!format!("{url} {url:?}").contains("canary"));
        }
    }

    #[test]
    fn what_cannot_be_called_is_refused_without_being_repeated() {
        for (text, expected) in [
            ("", "no address"),
            ("canary", "without `https://`"),
            ("/canary", "without `https://`"),
            ("ftp://canary/x", "another scheme"),
            ("https://user:canary@example.com/", "a user name or a password"),
            ("https://canary:0/", "port 0"),
            ("https://canary:99999/", "no"),
            ("https:///canary", "no"),
            ("https://can ary/", "no address"),
        ] {
            let error = text.parse::<WebUrl>().unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("canary"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(https?://)?\\PC{0,20}") {
            let _ = text.parse::<WebUrl>();
        }
    }
}
