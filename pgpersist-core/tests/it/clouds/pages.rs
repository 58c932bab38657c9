//! Lists that are longer than one answer: each object is told once and in order, in whatever pieces a server tells them.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::clouds::renewal::shared_access_signature;
use crate::clouds::{Store, everything, key, one_of_each_with_moto, opened, through};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::{ACCOUNT, Protocol, StoreServer, moto};

/// So many folders, whose objects are dealt out one by one.
const FOLDERS: usize = 20;

/// Their names, in the order of their bytes: folders, and beside each an object whose name begins like it and comes before.
fn names(objects: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..objects).map(|number| format!("folder {:02}/object {number:04}", number % FOLDERS)).collect();
    names.extend((0..FOLDERS).map(|folder| format!("folder {folder:02}-beside")));
    names.sort_unstable();
    names
}

async fn fill(server: &StoreServer, names: &[String]) {
    let store = opened(&server.url("prefix"));
    let puts = stream::iter(names.to_vec()).map(|name| {
        let store = store.clone();
        async move { store.put(&key(&name), name.into()).await }
    });
    puts.buffer_unordered(8).try_collect::<Vec<()>>().await.unwrap_or_else(|error| panic!("{}", everything(&error)));
}

async fn listed(store: &Store, prefix: &str) -> Vec<String> {
    let listed = store.list(prefix).map_ok(|meta| meta.key.to_string()).try_collect().await;
    listed.unwrap_or_else(|error| panic!("{store}: {}", everything(&error)))
}

/// All that can be listed, held against what is there.
async fn is_told(store: &Store, names: &[String]) {
    assert_eq!(listed(store, "").await, names, "{store}");
    for prefix in ["folder 0", "folder 07/", "folder 07", "folder 19/object 0", "folder 2"] {
        let expected: Vec<String> = names.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
        assert_eq!(listed(store, prefix).await, expected, "{store}: {prefix}");
    }
    let folders: Vec<String> = (0..FOLDERS).map(|folder| format!("folder {folder:02}")).collect();
    assert_eq!(store.folders("").await.unwrap(), folders, "{store}");
    assert_eq!(store.folders("folder 07/").await.unwrap(), Vec::<String>::new(), "{store}");
}

/// As many as Amazon tells at once, and some more, nobody having asked for less.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_of_more_than_a_thousand_objects_is_complete() {
    let Some(server) = moto::start() else { return };
    let names = names(1_100);
    fill(&server, &names).await;
    let (store, proxy) = through(&server, "prefix", "");
    assert_eq!(listed(&store, "").await, names);
    let lists = proxy.seen().iter().filter(|seen| seen.request.is_list()).count();
    assert!(lists >= 2, "it was told at once");
    is_told(&store, &names).await;
}

/// The same in many small pieces, whose limits fall within folders and between them; and a piece that is lost on its way is asked
/// for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_in_many_pieces_is_complete() {
    let names = names(130);
    for server in one_of_each_with_moto() {
        if server.protocol == Protocol::Azure {
            // The account's key signs what is asked for, which the proxy changes.
            let signature = shared_access_signature("2099-01-01T00:00:00Z");
            server.write("credentials", &format!("AccountName={ACCOUNT};SharedAccessSignature={signature}"));
        }
        fill(&server, &names).await;
        let (store, proxy) = through(&server, "prefix", "");
        for entries in [1, 7, 50] {
            proxy.rule(vec![Rule::new(Request::is_list, Choice::All, Fault::FewerAtOnce { entries })]);
            let before = proxy.seen().len();
            // All of it one by one would be a thousand requests.
            let told = if entries == 1 { listed(&store, "folder 07/").await } else { listed(&store, "").await };
            let lists = proxy.seen()[before..].iter().filter(|seen| seen.request.is_list()).count();
            assert!(lists >= told.len() / entries, "{:?}: {lists} pieces of {entries}", server.protocol);
            if entries == 1 {
                let expected: Vec<String> = names.iter().filter(|name| name.starts_with("folder 07/")).cloned().collect();
                assert_eq!(told, expected, "{:?}", server.protocol);
            } else {
                is_told(&store, &names).await;
            }
        }
        let continues = |request: &Request| request.is_list() && is_continued(request);
        let fewer = Fault::FewerAtOnce { entries: 50 };
        proxy.rule(vec![Rule::new(continues, Choice::First(2), Fault::Reset), Rule::new(Request::is_list, Choice::All, fewer)]);
        assert_eq!(listed(&store, "").await, names, "{:?}", server.protocol);
        let lost = proxy.seen().iter().filter(|seen| seen.fault == Some(Fault::Reset)).count();
        assert_eq!(lost, 2, "{:?}", server.protocol);
    }
}

/// Whether it asks for more of a list, in the words of any of the protocols.
fn is_continued(request: &Request) -> bool {
    request.target.contains("continuation-token=") || request.target.contains("&marker=")
}
