//! Servers that give something else than the part that was asked for: it is never taken for the part, and a check finds it out.

use pgpersist_core::error::ErrorKind;
use pgpersist_core::progress::Silent;
use pgpersist_core::store::check::report::Fitness;
use pgpersist_core::store::check::run::{CheckOptions, check};
use pgpersist_core::store::observation::Standing;

use crate::clouds::{everything, key, one_of_each, opened, pattern, through};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};

fn asks_for_a_part(request: &Request) -> bool {
    request.is_read() && request.header("range").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_whole_is_never_taken_for_the_part() {
    for server in one_of_each() {
        let direct = opened(&server.url("prefix"));
        direct.put(&key("small"), "0123456789".into()).await.unwrap();
        direct.put(&key("large"), pattern(17 << 20)).await.unwrap();
        let (store, proxy) = through(&server, "prefix", "");
        proxy.rule(vec![Rule::new(asks_for_a_part, Choice::All, Fault::WholeForPart)]);
        for error in [
            store.get_range(&key("small"), 2..4).await.unwrap_err(),
            store.get_range(&key("small"), 0..9).await.unwrap_err(),
            store.get(&key("large")).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{:?}: {}", server.protocol, everything(&error));
            assert!(error.causes().iter().any(|cause| cause.contains("all of an object where a part")), "{}", everything(&error));
            assert!(error.remedy().unwrap().contains("use another one"), "{}", everything(&error));
        }
        // Each was asked for once: a second time would bring the same.
        assert!(proxy.hits() <= 3 + 8, "{} requests", proxy.hits());
        // What is asked for as a whole is no part.
        assert_eq!(store.get(&key("small")).await.unwrap(), "0123456789");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_check_finds_out_what_parts_are_worth() {
    for server in one_of_each() {
        // A part that is an object's beginning would be found out by the first look already.
        let asks_for_a_later_part =
            |request: &Request| asks_for_a_part(request) && request.header("range").is_some_and(|range| !range.starts_with("bytes=0-"));
        for (fault, told) in [(Fault::WholeForPart, "all of an object where a part"), (Fault::Flipped, "found")] {
            let (store, proxy) = through(&server, "prefix", "&deadline=5s");
            proxy.rule(vec![Rule::new(asks_for_a_later_part, Choice::All, fault)]);
            let report = check(&store, &CheckOptions { throughput_bytes: Some(20_000_000) }, &Silent).await.unwrap();
            assert_eq!(report.fitness, Fitness::Unfit, "{:?} {fault:?}: {report:?}", server.protocol);
            let ranges = report.findings.iter().find(|finding| finding.name == "ranges").unwrap();
            assert!(ranges.status == Standing::Fail && ranges.summary.contains(told), "{:?} {fault:?}: {ranges:?}", server.protocol);
            assert!(report.throughput.is_none(), "{report:?}");
        }
    }
}
