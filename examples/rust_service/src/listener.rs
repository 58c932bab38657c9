//! Connections: how many there are at a time, how long each may take to ask, and how all of them end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// So many are served at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// How long a client may take for the head of a request, and a connection may be idle.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection lives at most, also one whose client does not read what it is told.
const LIFE: Duration = Duration::from_secs(120);
/// The largest head.
const HEAD_BYTES: usize = 16 << 10;
/// How long requests that have come have at the end: longer than any may take.
const DRAIN: Duration = Duration::from_secs(15);
/// How long it waits when no connection can be accepted, as when there is no descriptor left.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until it is to drain, and then until all requests that have come are answered.
pub(crate) async fn serve(listener: TcpListener, router: Router, draining: watch::Receiver<bool>) {
    let (free, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS)), JoinSet::new());
    let accepting = async {
        loop {
            let Ok(place) = free.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let (router, draining) = (router.clone(), draining.clone());
            connections.spawn(async move {
                serve_one(stream, router, draining).await;
                drop(place);
            });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accepting => {}
        () = told(draining.clone()) => {}
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is left then is cut off with the set.
    let _ = tokio::time::timeout(DRAIN, ended).await;
}

async fn serve_one(stream: TcpStream, router: Router, draining: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // A client that breaks off is its own affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = told(draining) => {}
        () = tokio::time::sleep(LIFE) => {}
    }
    // After the request that it has.
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(DRAIN, connection).await;
}

/// Comes back when it is to drain; a sender that is gone says so, too.
async fn told(mut draining: watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}
