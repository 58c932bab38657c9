//! How much longer than the server's own pages take does our list of a large bucket take?
//!
//!     cargo bench --package pgpersist-benches -- list --scale gib --rounds 3
//!
//! `moto` with 100,000 objects (`--scale gib`), by turns: the requests of ListObjectsV2 alone, one after the other, by a client that
//! looks for nothing but the next page's token; and `BackupStore::list` to its end, which must find every object. Filling the bucket
//! takes minutes.
//!
//! `script/with-store-server` starts the server, which `script/fetch-store-servers` installs where it is missing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use pgpersist_core::store::cloud_url::CloudUrl;
use pgpersist_core::store::url::StoreUrl;
use pgpersist_core::store::{BackupStore, ObjectKey, open};
use tokio::runtime::Runtime;

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::Cost;
use crate::support::store_server::StoreServer;
use crate::support::table::{Row, markdown, times_as_fast, verdict};

const PAGES: &str = "the server's pages";
const OURS: &str = "BackupStore::list";
/// How many objects are put at once.
const CONCURRENCY: usize = 8;

pub(crate) fn compare(arguments: &Arguments) {
    let server = StoreServer::beside("moto");
    let count = arguments.scale as usize * 100_000 / 60;
    let runtime = Runtime::new().expect("threads can be made");
    let store = open::open(&StoreUrl::Cloud(server.url.clone())).expect("the address is good");
    println!("## list\n\n{}\n", machine::describe());
    eprintln!("putting {count} objects");
    runtime.block_on(fill(&store, count));
    println!("{count} objects in a bucket of moto.\n");

    let mut rows = [PAGES, OURS].map(Row::new);
    for round in 0..arguments.rounds(3) {
        for row in &mut rows {
            let began = Instant::now();
            let found = if row.name == OURS {
                runtime.block_on(store.list("").try_fold(0, |found, _| async move { Ok(found + 1) })).expect("the bucket is listed")
            } else {
                pages(&server.url)
            };
            let cost = Cost { wall: began.elapsed(), ..Cost::default() };
            assert_eq!(found, count, "{}", row.name);
            eprintln!("round {}: {}: {:.2} s", round + 1, row.name, cost.wall.as_secs_f64());
            row.costs.push(cost);
        }
    }
    print!("{}", markdown(&rows));
    let [pages, ours] = &rows;
    println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
    print!("{}", verdict(pages.name, 0.5, times_as_fast(ours, pages)));
}

async fn fill(store: &Arc<dyn BackupStore>, count: usize) {
    let puts = (0..count).map(|number| async move {
        let key: ObjectKey = format!("shop-{:02}/backup_{number:08}.sql.gz", number % 100).parse().expect("it is a name");
        store.put(&key, Bytes::from_static(b"x")).await
    });
    let put: Result<Vec<()>, _> = stream::iter(puts).buffer_unordered(CONCURRENCY).try_collect().await;
    put.expect("the objects are put");
}

/// Asks for page after page, and counts the objects. The server looks at no signature.
fn pages(url: &CloudUrl) -> usize {
    let address = url.endpoint().and_then(|endpoint| endpoint.strip_prefix("http://")).expect("the server speaks without TLS");
    let (mut found, mut token) = (0, None::<String>);
    loop {
        let next = token.map(|token| format!("&continuation-token={}", escaped(&token))).unwrap_or_default();
        let path = format!("/{}?list-type=2&prefix={}{next}", url.bucket(), escaped(&format!("{}/", url.prefix())));
        let mut connection = TcpStream::connect(address).expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).expect("the server answers");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        found += answer.matches("<Contents>").count();
        let Some((_, rest)) = answer.split_once("<NextContinuationToken>") else { return found };
        token = rest.split_once('<').map(|(token, _)| token.to_owned());
    }
}

/// What is no letter, digit or `-._~`, as a query wants it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
