//! The agent's pages beside the service's own paths, on the same port: `[health] listen` and `token_file` say who sees details.
//! One of them says more than the agent knows: a service is ready when its schema is there, and as long as it does not drain.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use pgpersist_core::agent::http::pages::{PageAnswer, PageRequest, Pages};
use tokio::sync::watch;

use crate::routes::Service;

/// The paths that are the agent's.
pub(crate) const PATHS: [&str; 6] = ["/livez", "/startupz", "/readyz", "/health", "/metrics", "/"];

/// What probes are answered from.
#[derive(Debug)]
pub(crate) struct Probes {
    pages: Pages,
    migrated: watch::Receiver<bool>,
    draining: watch::Receiver<bool>,
}

impl Probes {
    /// The second value is told when the schema is there.
    pub(crate) fn new(pages: Pages, draining: watch::Receiver<bool>) -> (Self, watch::Sender<bool>) {
        let (told, migrated) = watch::channel(false);
        (Self { pages, migrated, draining }, told)
    }

    /// What keeps the service from what its server is able to.
    fn obstacle(&self, path: &str) -> Option<&'static str> {
        match path {
            "/readyz" if *self.draining.borrow() => Some("draining"),
            "/readyz" if !*self.migrated.borrow() => Some("migrating"),
            _ => None,
        }
    }
}

/// One of the pages.
pub(crate) async fn answer(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (request, _) = request.into_parts();
    let header = |name: HeaderName| request.headers.get(name).map(|value| value.as_bytes());
    let (path, method) = (request.uri.path(), request.method.as_str());
    let page = service.probes.pages.answer(PageRequest { method, path, host: header(HOST), authorization: header(AUTHORIZATION) }).await;
    match service.probes.obstacle(path) {
        // What the agent has to say against it says more.
        Some(obstacle) if page.status == 200 => (StatusCode::SERVICE_UNAVAILABLE, format!("{obstacle}\n")).into_response(),
        _ => response(page),
    }
}

fn response(page: PageAnswer) -> Response {
    let mut headers = HeaderMap::new();
    for (name, value) in page.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, headers, page.body).into_response()
}
