//! The table of paths, and what holds for all of them: a deadline and a largest body.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use crate::failure::Failure;
use crate::pool::Pool;
use crate::probes::Probes;
use crate::{customers, invoices, orders, probes};

/// How long a request may take, with its body and the wait for a session. A client need not be told more than once that it is
/// to ask again.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest body: an order of a hundred lines.
const BODY_BYTES: usize = 64 << 10;

/// What requests are answered from.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) pool: Arc<Pool>,
    pub(crate) probes: Probes,
}

/// All paths.
pub(crate) fn router(service: Service) -> Router {
    let mut router = Router::new()
        .route("/customers", post(customers::create))
        .route("/orders", post(orders::create))
        .route("/orders/{id}", get(orders::show))
        .route("/orders/{id}/invoice", post(invoices::issue))
        .route("/invoices/{id}", get(invoices::show));
    for path in probes::PATHS {
        router = router.route(path, any(probes::answer));
    }
    router
        .fallback(async || Failure::not_found("there is no such page"))
        .method_not_allowed_fallback(async || Failure::wrong_method())
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(within_deadline))
        .with_state(Arc::new(service))
}

async fn within_deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::Unavailable("this took too long".to_owned()).into_response(),
    }
}
