//! Nothing hangs: whatever the server does for ever, each request ends within its deadline, with an error that says so.

use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use pgpersist_core::error::{ErrorKind, Result};

use crate::clouds::{Store, everything, key, keys, one_of_each, opened, pattern, through, upload};
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};

/// What goes on for ever.
const ENDLESS: &[Fault] = &[
    Fault::Silence,
    Fault::Dripped,
    Fault::Reset,
    Fault::SlowDown { retry_after_s: 3600 },
    Fault::SlowDown { retry_after_s: 0 },
    Fault::Refuse { status: 500, code: "InternalError" },
    Fault::CutShort,
    Fault::ResetWithin,
];

type Operation = (&'static str, fn(Store) -> BoxFuture<'static, Result<()>>);

/// What asks for something that has a body worth dripping.
fn operations() -> Vec<Operation> {
    vec![
        ("get", |store| Box::pin(async move { store.get(&key("there")).await.map(|_| ()) })),
        ("list", |store| Box::pin(async move { keys(&store).await.map(|_| ()) })),
        ("put", |store| Box::pin(async move { store.put(&key("new"), pattern(100)).await })),
        ("put_if_absent", |store| Box::pin(async move { store.put_if_absent(&key("new"), pattern(100)).await })),
        ("upload", |store| Box::pin(async move { upload(&store, "new", &pattern(9 << 20)).await })),
        ("delete", |store| Box::pin(async move { store.delete(&key("there")).await })),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_operation_ends_within_its_deadline() {
    for server in one_of_each() {
        let direct = opened(&server.url("prefix"));
        let runs = ENDLESS.iter().flat_map(|fault| operations().into_iter().map(move |operation| (*fault, operation)));
        let runs = runs.enumerate().map(|(number, (fault, (name, operate)))| {
            let (server, direct) = (&server, &direct);
            async move {
                let prefix = format!("prefix/{number}");
                direct.put(&key(&format!("{number}/there")), pattern(1000)).await.unwrap();
                let (store, proxy) = through(server, &prefix, "&deadline=3s");
                proxy.rule(vec![Rule::new(|_| true, Choice::All, fault)]);
                // A few requests, each with a deadline, and a machine that may be busy.
                let run = tokio::time::timeout(Duration::from_secs(45), operate(store)).await;
                let Ok(result) = run else { panic!("{:?}: {name} hangs with {fault:?}", server.protocol) };
                // An answer without a body cannot be cut.
                let may_succeed = matches!(fault, Fault::Dripped | Fault::CutShort | Fault::ResetWithin);
                match result {
                    Ok(()) => assert!(may_succeed, "{:?}: {name} succeeds with {fault:?}", server.protocol),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{name} with {fault:?}: {}", everything(&error)),
                }
            }
        });
        join_all(runs).await;
    }
}
