//! A session that nobody waits for any more leaves the server nothing to do.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::server::TestServer;

/// Generous: the server has nothing else to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// How many sessions sleep at the server.
async fn sleepers(server: &TestServer) -> String {
    let asked = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_catalog.pg_sleep%'";
    server.text("postgres", asked).await
}

async fn until(server: &TestServer, wanted: &str) {
    let begun = Instant::now();
    while sleepers(server).await != wanted {
        assert!(begun.elapsed() < DEADLINE, "{} sleep, not {wanted}", sleepers(server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_given_up() {
    let server = TestServer::start("", "").await;
    let session = server.session("postgres").await;
    let asking = tokio::spawn(async move { session.execute("sleep", "SELECT pg_catalog.pg_sleep(600)").await });
    until(&server, "1").await;
    asking.abort();
    until(&server, "0").await;
}

#[tokio::test]
async fn a_statement_that_is_still_on_its_way_is_given_up_when_it_comes() {
    let server = TestServer::start("", "").await;
    let session = server.session("postgres").await;
    let id = session.text("ask", "SELECT pg_catalog.pg_backend_pid()").await.unwrap().unwrap();
    let backend = Pid::from_raw(id.parse().unwrap()).unwrap();
    kill_process(backend, Signal::STOP).unwrap();
    let asking = tokio::spawn(async move { session.execute("sleep", "SELECT pg_catalog.pg_sleep(600)").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    asking.abort();
    // Meanwhile the server is asked for the first time, and is at nothing.
    tokio::time::sleep(Duration::from_millis(500)).await;
    kill_process(backend, Signal::CONT).unwrap();
    let begun = Instant::now();
    let there = format!("SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE pid = {id}");
    while server.text("postgres", &there).await != "0" {
        assert!(begun.elapsed() < DEADLINE, "the session works at what nobody waits for");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_session_that_is_idle_or_goes_on_is_left_alone() {
    let server = TestServer::start("", "").await;
    let (idle, busy) = (server.session("postgres").await, server.session("postgres").await);
    let asking = tokio::spawn(async move { busy.text("sleep", "SELECT pg_catalog.pg_sleep(1)").await });
    until(&server, "1").await;
    assert_eq!(idle.text("ask", "SELECT 1").await.unwrap().as_deref(), Some("1"));
    drop(idle);
    asking.await.unwrap().unwrap();
    // A refused statement was answered as well.
    let refused = server.session("postgres").await;
    refused.execute("ask", "SELECT nonsense").await.unwrap_err();
    assert_eq!(refused.text("ask", "SELECT 2").await.unwrap().as_deref(), Some("2"));
}
