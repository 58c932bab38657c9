//! Which path is which page, and what is refused before any page is made.

use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::agent::http::access::Access;
use crate::agent::http::answers::Answer;
use crate::agent::http::counts::ELSEWHERE;
use crate::agent::http::site::Site;
use crate::agent::http::{metrics, probes, report, status_page};
use crate::health::Status;
use crate::health::render::{json, prometheus};

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Live,
    Started,
    Ready,
    Health,
    Metrics,
    Status,
}

/// All there are. Paths are whole: none has others below it.
const ROUTES: &[(&str, Page)] = &[
    ("/livez", Page::Live),
    ("/startupz", Page::Started),
    ("/readyz", Page::Ready),
    ("/health", Page::Health),
    ("/metrics", Page::Metrics),
    ("/", Page::Status),
];

/// The answer to a request.
pub(crate) async fn answer(site: &Site, request: &Parts, has_body: bool) -> Answer {
    let route = ROUTES.iter().find(|(path, _)| *path == request.uri.path());
    let answer = match route {
        _ if !matches!(request.method, Method::GET | Method::HEAD) => Answer::wrong_method(),
        _ if has_body => Answer::text(StatusCode::PAYLOAD_TOO_LARGE, "a question has no body here"),
        Some((_, page)) => page.answer(site, site.rule.apply(&request.headers)).await,
        None => Answer::text(StatusCode::NOT_FOUND, "there is no such page"),
    };
    site.counts.answered(route.map_or(ELSEWHERE, |(path, _)| path), answer.status.as_u16());
    answer
}

impl Page {
    async fn answer(self, site: &Site, access: Access) -> Answer {
        match (self, access) {
            (Self::Live, _) => probes::live(site, access),
            (Self::Started, _) => probes::started(site, access),
            (Self::Ready, _) => probes::ready(site, access).await,
            (Self::Health | Self::Metrics, Access::Bare) => Answer::unauthorized(false),
            (Self::Health | Self::Metrics, Access::Mistaken) => Answer::unauthorized(true),
            (Self::Health, Access::Details) => health(site).await,
            (Self::Metrics, Access::Details) => match report::get(site).await {
                Ok(found) => {
                    let text = metrics::render(site, found.as_ref().map(|found| &found.value));
                    Answer::new(StatusCode::OK, prometheus::CONTENT_TYPE, text)
                }
                Err(report::Crowded) => Answer::crowded(),
            },
            (Self::Status, _) => status_page::answer(site, access).await,
        }
    }
}

async fn health(site: &Site) -> Answer {
    let (found, missing);
    let report = match report::get(site).await {
        Err(report::Crowded) => return Answer::crowded(),
        Ok(Some(report)) => {
            found = report;
            &found.value
        }
        Ok(None) => {
            missing = report::missing(site);
            &missing
        }
    };
    let status = match report.status {
        Status::Pass | Status::Warn => StatusCode::OK,
        Status::Unknown | Status::Fail => StatusCode::SERVICE_UNAVAILABLE,
    };
    match json::render(report) {
        Ok(document) => Answer::json(status, &document),
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
