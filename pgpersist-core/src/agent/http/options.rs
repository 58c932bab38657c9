//! Where an agent answers HTTP, and to whom.

use std::net::SocketAddr;

use crate::agent::http::limits::HttpLimits;
use crate::agent::http::token::Token;
use crate::health::checks::standard::HealthOptions;
use crate::retention::Retention;

/// Where an agent answers HTTP, and to whom.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Where it listens. Port 0 takes any free one; [`AgentStatus::http`](crate::agent::status::AgentStatus::http) tells which.
    pub listen: SocketAddr,
    /// What opens the details. Without one they are shown to whoever asks on the loopback, and to nobody elsewhere.
    pub token: Option<Token>,
    /// What `/health`, `/metrics` and the status page look at.
    pub health: HealthOptions,
    /// What is kept for how long, as the status page tells.
    pub retention: Retention,
    /// How much a client may ask for.
    pub limits: HttpLimits,
}

impl HttpOptions {
    /// Without a token, with the usual limits.
    pub fn new(listen: SocketAddr, health: HealthOptions) -> Self {
        Self { listen, token: None, health, retention: Retention::default(), limits: HttpLimits::default() }
    }
}
