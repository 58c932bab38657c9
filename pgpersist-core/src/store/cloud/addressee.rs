//! [`Addressee`]: whom a request goes to. How long an answer is waited for, and what a refusal means, hangs on it.

use hyper::Uri;

/// The machine's own sources of credentials answer at once, or are not there.
const MACHINE: &[&str] =
    &["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]", "metadata.google.internal"];

/// Whom a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressee {
    /// The store's server.
    Store,
    /// The machine itself, or what stands for it: it is asked for credentials.
    Machine,
    /// Another service, which is asked for credentials as well: nothing else is asked of anybody but the store.
    Issuer,
}

impl Addressee {
    /// Whose address this is, where the store's is known.
    pub(super) fn of(address: &Uri, store: Option<&Uri>) -> Self {
        match store {
            _ if address.host().is_some_and(|host| MACHINE.contains(&host)) => Self::Machine,
            Some(store) if server(address) != server(store) => Self::Issuer,
            _ => Self::Store,
        }
    }
}

/// Name and port.
fn server(address: &Uri) -> (Option<String>, u16) {
    let usual = if address.scheme_str() == Some("http") { 80 } else { 443 };
    (address.host().map(str::to_ascii_lowercase), address.port_u16().unwrap_or(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_the_store_gives_credentials() {
        let of = |address: &str, store: Option<&str>| {
            let store = store.map(|store| store.parse::<Uri>().unwrap());
            Addressee::of(&address.parse().unwrap(), store.as_ref())
        };
        let store = Some("https://acme.blob.core.windows.net:443/backups");
        assert_eq!(of("https://ACME.blob.core.windows.net/backups/dump?comp=block", store), Addressee::Store);
        assert_eq!(of("https://login.microsoftonline.com/tenant/oauth2/v2.0/token", store), Addressee::Issuer);
        assert_eq!(of("http://acme.blob.core.windows.net/backups", store), Addressee::Issuer);
        assert_eq!(of("http://127.0.0.1:9001/creds", Some("http://127.0.0.1:9000/bucket")), Addressee::Issuer);
        assert_eq!(of("http://127.0.0.1:9000/bucket/key", Some("http://127.0.0.1:9000/bucket")), Addressee::Store);
        for address in ["http://169.254.169.254/latest/api/token", "http://[fd00:ec2::23]/v1/credentials"] {
            assert_eq!((of(address, store), of(address, None)), (Addressee::Machine, Addressee::Machine));
        }
        assert_eq!(of("https://anybody.example.com/", None), Addressee::Store);
    }
}
