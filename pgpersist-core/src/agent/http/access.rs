//! Who is shown details, and who the bare state: the owner of the token, or, without one, whoever is on this machine.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST};

use crate::agent::http::token::Token;

/// How much somebody is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everything.
    Details,
    /// One word of state: no token came.
    Bare,
    /// The same, since the token that came is not the right one.
    Mistaken,
}

/// The rule of one listener.
#[derive(Debug)]
pub(crate) struct Rule {
    is_loopback: bool,
    token: Option<Token>,
}

impl Rule {
    pub(crate) fn new(listen: SocketAddr, token: Option<Token>) -> Self {
        Self { is_loopback: listen.ip().to_canonical().is_loopback(), token }
    }

    /// Whether there is anybody to whom it would show details.
    pub(crate) fn shows_details(&self) -> bool {
        self.is_loopback || self.token.is_some()
    }

    /// What whoever sent these headers may see.
    pub(crate) fn apply(&self, headers: &HeaderMap) -> Access {
        let offered = bearer(headers);
        match (&self.token, offered) {
            (Some(token), Some(offered)) if token.fits(offered) => Access::Details,
            (_, Some(_)) if self.token.is_some() || !self.is_loopback => Access::Mistaken,
            (None, _) if self.is_loopback && is_named_as_local(headers) => Access::Details,
            _ => Access::Bare,
        }
    }
}

/// The token of `Authorization: Bearer …`; see RFC 6750.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether the request calls this host by a name that only this machine gives it. A browser on this machine can be led here by
/// a foreign page, under that page's name (*DNS rebinding*), and would hand over what it reads.
fn is_named_as_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn rule(listen: &str, token: Option<&str>) -> Rule {
        Rule::new(listen.parse().unwrap(), token.map(|text| Token::new(text).unwrap()))
    }

    #[test]
    fn the_token_is_wanted_wherever_there_is_one() {
        for listen in ["127.0.0.1:1", "0.0.0.0:1"] {
            let rule = rule(listen, Some("hunter2"));
            let see = |value: &'static str| rule.apply(&headers(&[("authorization", value)]));
            assert_eq!(see("Bearer hunter2"), Access::Details);
            assert_eq!(see("bearer  hunter2"), Access::Details);
            for wrong in ["Bearer hunter", "Bearer ", "Bearer hunter2 x", "Bearer Hunter2"] {
                assert_eq!(see(wrong), Access::Mistaken, "{wrong}");
            }
            for none in ["hunter2", "Basic hunter2", "Bearer"] {
                assert_eq!(see(none), Access::Bare, "{none}");
            }
            assert_eq!(rule.apply(&HeaderMap::new()), Access::Bare);
            assert!(rule.shows_details());
        }
    }

    #[test]
    fn without_one_only_the_loopback_shows_details_and_only_under_its_own_names() {
        for listen in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let rule = rule(listen, None);
            for host in ["127.0.0.1:9432", "localhost:9432", "LOCALHOST", "[::1]:9432", "127.0.0.1"] {
                assert_eq!(rule.apply(&headers(&[("host", host)])), Access::Details, "{host}");
            }
            for host in ["evil.example:9432", "localhost.evil.example", "", "[evil]"] {
                assert_eq!(rule.apply(&headers(&[("host", host)])), Access::Bare, "{host}");
            }
            assert_eq!(rule.apply(&HeaderMap::new()), Access::Details);
        }
        for listen in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let rule = rule(listen, None);
            assert_eq!(rule.apply(&headers(&[("host", "localhost")])), Access::Bare);
            assert_eq!(rule.apply(&headers(&[("authorization", "Bearer x")])), Access::Mistaken);
            assert!(!rule.shows_details());
        }
    }
}
