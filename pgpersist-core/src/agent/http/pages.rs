//! The agent's pages for a program that answers HTTP itself, so that a service has one port for its own and for these.

use std::sync::Arc;

use hyper::Request;

use crate::agent::http::answers::Answer;
use crate::agent::http::routes;
use crate::agent::http::site::Site;

/// What an agent answers on `/livez`, `/startupz`, `/readyz`, `/health`, `/metrics` and `/`; see
/// [`Agent::pages`](crate::agent::run::Agent::pages). They are there from before the directory is ready to after the agent's
/// end, and the same for all clones: however many ask, one query and one report are made at a time.
#[derive(Debug, Clone)]
pub struct Pages {
    site: Arc<Site>,
}

/// What somebody asks for. Who sees details hangs on the two headers, so both are passed on as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct PageRequest<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Such as `/readyz`, without a query.
    pub path: &'a str,
    /// The header `Host`.
    pub host: Option<&'a [u8]>,
    /// The header `Authorization`.
    pub authorization: Option<&'a [u8]>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAnswer {
    /// The status code.
    pub status: u16,
    /// The headers by their names in lowercase, among them `content-type` and `cache-control`.
    pub headers: Vec<(String, &'static str)>,
    /// The body, which an answer to `HEAD` leaves out.
    pub body: String,
}

impl Pages {
    pub(crate) fn new(site: Site) -> Self {
        Self { site: Arc::new(site) }
    }

    /// The page that is asked for; 404, 405 and 400 are pages, too. Takes ten seconds at most, whatever hangs.
    pub async fn answer(&self, asked: PageRequest<'_>) -> PageAnswer {
        let mut request = Request::builder().method(asked.method).uri(asked.path);
        for (name, value) in [("host", asked.host), ("authorization", asked.authorization)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        // A header that cannot be one must not count as one that did not come.
        let answer = match request.body(()) {
            Ok(request) => routes::answer(&self.site, &request.into_parts().0, false).await,
            Err(_) => Answer::text(hyper::StatusCode::BAD_REQUEST, "this is no request of HTTP"),
        };
        answer.into_page()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::agent::http::options::HttpOptions;
    use crate::agent::http::token::Token;
    use crate::agent::reporter::Reporter;
    use crate::agent::status::{AgentStatus, Phase};
    use crate::data_directory::local::LocalDataDirectory;
    use crate::health::checks::standard::HealthOptions;
    use crate::server::cluster::{Cluster, ClusterOptions};
    use crate::server::installation::InstallationSearch;

    fn pages(listen: &str, token: Option<&str>) -> Pages {
        let directory = Arc::new(LocalDataDirectory::open("/nonexistent").unwrap());
        let cluster = Cluster::new(directory, InstallationSearch::default(), ClusterOptions::default());
        let mut options = HttpOptions::new(listen.parse().unwrap(), HealthOptions::new(cluster.clone()));
        options.token = token.map(|text| Token::new(text).unwrap());
        let status = watch::channel(AgentStatus { phase: Phase::Recovering, ..AgentStatus::new() }).1;
        Pages::new(Site::new(cluster, &options, status, Arc::default(), Arc::new(Reporter::new())))
    }

    fn get<'a>(path: &'a str, host: &'a str) -> PageRequest<'a> {
        PageRequest { method: "GET", path, host: Some(host.as_bytes()), authorization: None }
    }

    fn has(page: &PageAnswer, name: &str, value: &str) -> bool {
        page.headers.iter().any(|(found, text)| (found.as_str(), *text) == (name, value))
    }

    #[tokio::test]
    async fn they_are_those_of_the_listener() {
        let pages = pages("127.0.0.1:0", None);
        let live = pages.answer(get("/livez", "localhost")).await;
        assert_eq!((live.status, live.body.contains("\"alive\"")), (200, true), "{live:?}");
        assert!(has(&live, "content-type", "application/json") && has(&live, "cache-control", "no-store"), "{live:?}");
        let ready = pages.answer(get("/readyz", "shop.example")).await;
        assert_eq!((ready.status, ready.body.as_str()), (503, "recovering\n"));
        let post = PageRequest { method: "POST", ..get("/livez", "localhost") };
        let wrong = pages.answer(post).await;
        assert_eq!((wrong.status, has(&wrong, "allow", "GET, HEAD")), (405, true), "{wrong:?}");
        assert_eq!(pages.answer(get("/nowhere", "localhost")).await.status, 404);
    }

    #[tokio::test]
    async fn details_are_for_who_has_the_token() {
        let pages = pages("0.0.0.0:80", Some("hunter2"));
        for (token, status) in [(None, 401), (Some(&b"Bearer hunter"[..]), 401), (Some(b"Bearer hunter2"), 200)] {
            let asked = PageRequest { authorization: token, ..get("/metrics", "localhost") };
            assert_eq!(pages.answer(asked).await.status, status, "{token:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_not_answered_as_if_it_were() {
        let pages = pages("127.0.0.1:0", None);
        let broken = PageRequest { host: Some(b"evil\n"), ..get("/health", "") };
        assert_eq!(pages.answer(broken).await.status, 400);
        assert_eq!(pages.answer(get("no path", "localhost")).await.status, 400);
        assert_eq!(pages.answer(PageRequest { method: "GE T", ..get("/livez", "localhost") }).await.status, 400);
        assert_eq!(pages.answer(get("", "localhost")).await.status, 400);
    }
}
